"""The package is removed from a host whose agent uses it: the next run goes to the servers by itself.

The name that the agent asks for has an address in DNS, as it had on the day before the shim came.
"""

from bench.scenario import demand
from lab.evidence import Unmet
from lab.process import LISTENING, sockets

ERRANDS = {"compile": "compile1", "plugins": "compile1", "report": "compile1"}


def run(bench):
    machine = bench.at_lab("machine.test")
    agent = bench.agent("removed.machine.test")
    traffic = bench.traffic_at_lab()
    agent.run("production").succeeded()
    traffic.went(agent, **ERRANDS)
    machine.said("carried", "role=compile", "name=puppet.machine.test")

    machine.run("apt-get", "remove", "--yes", "puppet-shim", error=Unmet)
    demand(not machine.path("/usr/bin/puppet-shim").exists(), "the package is not gone")
    demand((8139, LISTENING) not in sockets(machine.pid), "somebody listens where puppet-shim did")
    traffic = bench.traffic_at_lab()
    agent.run("production").succeeded().printed("compiled by compile1.example.test")
    traffic.went(agent, **ERRANDS)
    traffic.delivered()
