"""The Puppet module, from a real compiler through the shim to a real agent.

The first run writes the shim's configuration, which the program under test checks before it is in place, and puts a
setting into puppet.conf that was not there. The second finds all as it should be. Then a shim runs by that file, which
names the other compiler, and the third run goes there. There is no systemd in the lab, so package and units stay out.
"""

import dataclasses

from lab.evidence import Unmet
from lab.shim import binary
from lab.ways import proxy

WAY = {"compile": "compile1", "plugins": "files", "report": "compile2"}


def run(lab):
    agent = lab.agent("module")
    facts = {"lab_shim": binary(), "lab_confdir": agent.confdir}
    way = proxy()
    lacking = {name: value for name, value in way.settings.items() if name != "ca_server"}
    with lab.shim():
        traffic = lab.traffic()
        outcome = agent.run(dataclasses.replace(way, settings=lacking), facts=facts)
        traffic.went(agent, **WAY)
        outcome.succeeded().printed("puppet-shim.toml", "ensure", "defined content")
        outcome.printed("puppet config set ca_server puppetca.example.test", "executed successfully")
        if "ca_server = puppetca.example.test" not in (agent.confdir / "puppet.conf").read_text().splitlines():
            raise Unmet("puppet.conf does not name the CA")

        traffic = lab.traffic()
        agent.run(way, facts=facts).changed_nothing()
        traffic.went(agent, **WAY)
    with lab.shim(config=agent.target / "puppet-shim.toml"):
        traffic = lab.traffic()
        agent.run(way, facts=facts).changed_nothing()
        traffic.went(agent, **WAY | {"compile": "compile2"})
