"""The doctor is asked about a site in good health, and about one that is not.

It has nothing to complain of where a run succeeds. With the CA's records leading to a server whose CA is off, which
TLS and the status service do not tell from one that has a CA, it says so, and that the server that was to sign
certificates runs none. With the file server stopped, it says that. It takes nothing for a use of the shim, which logs
no connection of its.
"""

from lab.doctor import check
from lab.evidence import Unmet
from lab.ways import proxy

STOPS = ("files",)


def run(lab):
    agent = lab.agent()
    ca_file = {"certificates.ca_file": str(agent.ca_file)}
    with lab.shim(**ca_file) as shim:
        agent.run(proxy()).succeeded()
        runs = shim.served()
        opinion = check(agent, shim).healthy()
        if not 15 <= opinion.ok <= 25:
            raise Unmet(f"{opinion.ok} ticks are not a short list")
        if len(shim.connections()) != len(runs):
            raise Unmet("the doctor has used the shim")
    with lab.shim(**ca_file, **{"role.ca.srv": "_x-puppet-report._tcp"}) as shim:
        mend = "take it out of _x-puppet-report._tcp.example.test"
        check(agent, shim).only("role ca", "ca", "runs no CA", mend)
    with lab.shim(**ca_file) as shim:
        lab.server("files").stop()
        check(agent, shim).only("role files", "server", "refused", "systemctl start puppetserver")
