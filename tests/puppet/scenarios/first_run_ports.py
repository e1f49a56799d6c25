"""The first run of a new agent, in port mode.

One official name, `puppet`, stands for all roles, and only the port differs: `ca_port`, `report_port`, and a port in
`pluginsource` and in the file source. A site can have this without a single new certificate.
"""

from lab.agent import WITHOUT_PAUSE
from lab.ways import ports

FORWARD_TO = "ca"


def run(lab):
    agent = lab.new_agent("first-by-port")
    way = ports()
    traffic = lab.traffic()
    with lab.shim(way):
        agent.run(way, sources=[f"{way.files}/lab/whoami"], **WITHOUT_PAUSE).succeeded()
    agent.got("whoami", "files")
    traffic.went(agent, ca="ca", compile="compile1", plugins="files", file="files", report="compile2")
