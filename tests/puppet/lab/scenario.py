"""A scenario's file and the lab as it sees it.

A scenario is a module under scenarios/: its story is the docstring, `run(lab)` plays it. Two constants may say more:
STOPPED, the servers that are down in it, and FORWARD_TO, the one server that `run --forwarder` takes everything to.
"""

import importlib
from pathlib import Path

from lab.agent import Agent
from lab.evidence import Traffic
from lab.shim import ForwarderShim, Shim
from lab.ways import proxy

DIRECTORY = Path(__file__).parent.parent / "scenarios"


class Scenario:
    def __init__(self, name):
        module = importlib.import_module(f"scenarios.{name}")
        self.name = name
        self.title = module.__doc__.strip().splitlines()[0]
        self.play = module.run
        self.stopped = getattr(module, "STOPPED", ())
        self.forward_to = getattr(module, "FORWARD_TO", "compile1")


def scenarios():
    """All of them; those that need servers stopped come last, so that none has to be started again."""
    found = [Scenario(path.stem) for path in sorted(DIRECTORY.glob("*.py"))]
    return sorted(found, key=lambda scenario: len(scenario.stopped))


class Lab:
    """The site as one scenario sees it, and the evidence that the scenario leaves behind."""

    def __init__(self, site, scenario, forwarder):
        self.site = site
        self.ca = site.ca
        self.web = site.web
        self.directory = site.directory / "scenarios" / scenario.name
        self.directory.mkdir(parents=True)
        self.forward_to = scenario.forward_to if forwarder else None
        self.everything = self.traffic()
        self.agents = []
        self.shims = []

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

    def shim(self, way=None, **settings):
        """The shim, as a context, for one way in and with these settings; the default is all of its defaults."""
        host = self.site.network.hosts["agent"]
        directory = self.directory / f"shim-{len(self.shims) + 1}"
        way = way or proxy()
        if self.forward_to:
            shim = ForwarderShim(host, directory, way, settings, self.forward_to)
        else:
            shim = Shim(host, directory, way, settings)
        self.shims.append(shim)
        return shim

    def traffic(self):
        """What reaches the Puppet servers from now on."""
        return Traffic(self.site.servers.values())

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
