"""The first run of a new agent, in alias mode.

The hosts file points the official names, bare as Puppet's defaults have them, at loopback. There is no CONNECT: the
server name in the TLS hello tells the role. The shim reads the same hosts file and must not believe it.
"""

from lab.agent import WITHOUT_PAUSE
from lab.ways import alias

FORWARD_TO = "ca"


def run(lab):
    agent = lab.new_agent("first-by-alias")
    way = alias()
    traffic = lab.traffic()
    with lab.shim(way):
        agent.run(way, sources=[f"{way.files}/lab/whoami"], **WITHOUT_PAUSE).succeeded()
    agent.got("whoami", "files")
    traffic.went(agent, ca="ca", compile="compile1", plugins="files", file="files", report="compile2")
