"""A site without a single SRV record.

The official names have addresses, as they had before the shim came. The shim finds no records, takes each name for
itself, and a first run goes where DNS says that the name is.
"""

from lab.agent import WITHOUT_PAUSE
from lab.ways import proxy

FORWARD_TO = "ca"


def run(lab):
    agent = lab.new_agent("without-srv")
    way = proxy(domain="plain.test")
    traffic = lab.traffic()
    with lab.shim(domain="plain.test"):
        agent.run(way, sources=[f"{way.files}/lab/whoami"], **WITHOUT_PAUSE).succeeded()
    agent.got("whoami", "compile1")
    traffic.went(agent, ca="ca", compile="compile2", plugins="compile1", file="compile1", report="compile1")
