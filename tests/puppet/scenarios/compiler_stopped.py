"""The first compiler is stopped.

Its SRV record still has the better priority, and its host refuses the connection. The agent's run goes to the second
compiler, and nothing in it fails.
"""

from lab.evidence import Unmet
from lab.ways import proxy

STOPPED = ("compile1",)
FORWARD_TO = "compile2"


def run(lab):
    agent = lab.agent()
    traffic = lab.traffic()
    with lab.shim():
        outcome = agent.run(proxy()).succeeded().printed("compiled by compile2.example.test")
    if "trying next route" in outcome.output:
        raise Unmet("the agent noticed")
    traffic.went(agent, compile="compile2", plugins="files", report="compile2")
