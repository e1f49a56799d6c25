"""The first run of a new agent, in proxy mode, with the pause that such a run really has.

It has nothing but a puppet.conf that names a proxy on loopback. CA bundle, revocation list, request and certificate
go through the shim to the CA, and the run that follows to the servers of the other roles.

Between sending its request and fetching its certificate the agent sits in a read that nothing answers, until the
server closes the idle connection after 30 s (TLS 1.3, ruby/net-http#233). The tunnel has to bear that silence and then
hand on the close: a shim that gives up on idle tunnels any sooner fails the run. It takes a TLS session ticket that
comes late, so now and then a run is spared; then another new agent has its first run.
"""

from lab.evidence import Unmet
from lab.ways import proxy

FORWARD_TO = "ca"
PAUSE = 30
AGENTS = 4


def run(lab):
    with lab.shim():
        for number in range(1, AGENTS + 1):
            if first_run(lab, f"first-by-proxy-{number}").seconds > PAUSE:
                return
    raise Unmet(f"{AGENTS} agents had their first run, and none of them the pause")


def first_run(lab, name):
    agent = lab.new_agent(name)
    way = proxy()
    traffic = lab.traffic()
    outcome = agent.run(way, sources=[f"{way.files}/lab/whoami"]).succeeded()
    agent.got("whoami", "files")
    traffic.went(agent, ca="ca", compile="compile1", plugins="files", file="files", report="compile2")
    return outcome
