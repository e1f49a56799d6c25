"""A new host waits for its certificate.

The CA does not sign by itself. The agent asks, is told that there is no certificate yet, and asks again every two
seconds, with new connections each time; meanwhile somebody signs.
"""

from lab.agent import WITHOUT_PAUSE
from lab.evidence import Unmet
from lab.process import wait_until
from lab.ways import proxy

FORWARD_TO = "ca"


def run(lab):
    agent = lab.new_agent("waiting")
    traffic = lab.traffic()
    with lab.ca.manual_signing(), lab.shim():
        waiting = agent.start(proxy(), "--waitforcert", "2", **WITHOUT_PAUSE)
        wait_until(lambda: traffic.has("certificate", 404), 180, "the agent is told to wait", Unmet)
        lab.ca.sign(agent.certname)
        waiting.outcome(300).succeeded()
    if not traffic.has("certificate", 200):
        raise Unmet("the agent never fetched the certificate")
    traffic.went(agent, ca="ca", compile="compile1", plugins="files", report="compile2")
