"""A scenario's file and the lab as it sees it.

A scenario is a module under scenarios/: its story is the docstring, `run(lab)` plays it. Constants may say more:
STOPPED, the servers that are down in it; STOPS, those that it leaves stopped; and FORWARD_TO, the one server that
`run --forwarder` takes everything to.
"""

import importlib
from pathlib import Path

from lab import plan
from lab.agent import Agent
from lab.evidence import Traffic, Unmet
from lab.failover import compiled, waited
from lab.shim import ForwarderShim, Shim
from lab.ways import proxy

DIRECTORY = Path(__file__).parent.parent / "scenarios"

# Seconds that a fault may add to a run's time. It does add a fraction of one, which the shim's log tells better; the
# rest is for a machine that is busy with other things. An agent that has to wait by itself waits for two minutes.
COST = 10


class Scenario:
    def __init__(self, name):
        module = importlib.import_module(f"scenarios.{name}")
        self.name = name
        self.title = module.__doc__.strip().splitlines()[0]
        self.play = module.run
        self.stopped = getattr(module, "STOPPED", ())
        self.stops = getattr(module, "STOPS", ())
        self.forward_to = getattr(module, "FORWARD_TO", "compile1")


def scenarios():
    """All of them; those that stop servers, or need them stopped, come last, so that none has to be started again."""
    found = [Scenario(path.stem) for path in sorted(DIRECTORY.glob("*.py"))]
    return sorted(found, key=lambda scenario: (len(scenario.stopped), len(scenario.stops)))


class Lab:
    """The site as one scenario sees it, and the evidence that the scenario leaves behind."""

    def __init__(self, site, name, forward_to=None):
        self.site = site
        self.ca = site.ca
        self.web = site.web
        self.dns = site.dns
        self.directory = site.directory / "scenarios" / name
        self.directory.mkdir(parents=True)
        self.forward_to = forward_to
        self.everything = self.traffic()
        self.agents = []
        self.shims = []
        # What it found out, to be printed below its verdict.
        self.notes = []

    def server(self, name):
        return self.site.servers[name]

    def new_agent(self, name):
        """An agent that has no certificate."""
        agent = Agent(name, self.site.network.hosts["agent"], self.site.directory / "agents" / name, self.directory)
        self.agents.append(agent)
        return agent

    def agent(self, name="steady"):
        """An agent that has its certificate; scenarios share those of the same name."""
        agent = self.new_agent(name)
        agent.enrol()
        return agent

    def shim(self, way=None, config=None, **settings):
        """The shim, as a context, for one way in and with these settings, or with this file; the default is all of its
        defaults."""
        host = self.site.network.hosts["agent"]
        directory = self.directory / f"shim-{len(self.shims) + 1}"
        way = way or proxy()
        if self.forward_to:
            shim = ForwarderShim(host, directory, way, settings, self.forward_to)
        else:
            shim = Shim(host, directory, way, settings, config)
        self.shims.append(shim)
        return shim

    def traffic(self):
        """What reaches the Puppet servers from now on."""
        return Traffic(self.site.servers.values())

    def time_healthy_run(self, agent):
        """Find out, unless it is known, how long a steady run takes where nothing is at fault.

        Its catalog comes from compile2, as that of a run for which compile1 is lost. The quicker of two runs counts,
        for the first may be the one that brings the plugins, or wakes the server up.
        """
        if self.site.healthy is None:
            alone = {"role.compile.srv": False, "role.compile.servers": [plan.fqdn("compile2")]}
            with self.shim(**alone) as shim:
                self.site.healthy = min(agent.run(proxy()).succeeded().seconds for _ in range(2))
                # A forwarder has nothing to say of that; what it does wrong is for the scenario to notice.
                if not self.forward_to:
                    self.site.waits = [waited(line) for line in compiled(shim)]

    def cost(self, run, seconds):
        """Note what a run, which took so many seconds, took longer than a healthy one. It must not be much."""
        added = seconds - self.site.healthy
        self.notes.append(f"{run}: {added:+.1f} s, where a healthy one takes {self.site.healthy:.1f} s")
        if added > max(COST, self.site.healthy):
            raise Unmet(f"{run} took {added:.1f} s longer than a healthy one, which takes {self.site.healthy:.1f} s")

    def close(self):
        """End what a scenario that did not get to its end left running."""
        runs = [run for agent in self.agents for run in agent.runs]
        for party in [*runs, *self.shims]:
            if party.process:
                party.process.kill()

    def evidence(self):
        """What to show of a scenario that failed."""
        logs = [(f"agent {agent.certname}", run.process.log) for agent in self.agents for run in agent.runs]
        logs += [("shim", shim.process.log) for shim in self.shims if shim.process]
        parts = [f"-- {title}\n{path.read_text(errors='replace')}" for title, path in logs]
        return "".join([*parts, self.everything.text()])
