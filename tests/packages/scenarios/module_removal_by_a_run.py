"""A run through the shim takes it away, by the Puppet module, and the next run is whole.

It is not stopped before nothing of the run needs it any more. For the report there is no way left, and the run says so.
"""

from bench.scenario import demand
from lab.process import LISTENING, sockets

ERRANDS = {"compile": "compile1", "plugins": "compile1", "report": "compile1"}


def run(bench):
    machine = bench.at_lab("machine.test")
    agent = bench.agent("rid.machine.test")
    outcome = agent.run("removal")
    demand(outcome.code == 2, f"the run that takes it away: exit {outcome.code}, and not 2")
    outcome.printed("Could not send report")
    demand(not machine.path("/usr/bin/puppet-shim").exists(), "the package is not gone")
    demand((8139, LISTENING) not in sockets(machine.pid), "somebody listens where puppet-shim did")
    conf = machine.path(agent.conf).read_text()
    demand("http_proxy" not in conf, f"puppet.conf is\n{conf}")
    machine.said("carried", "role=compile", "name=puppet.machine.test")

    traffic = bench.traffic_at_lab()
    agent.run("removal").changed_nothing()
    traffic.went(agent, **ERRANDS)
    traffic.delivered()
