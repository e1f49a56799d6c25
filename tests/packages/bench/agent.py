"""Debian's agent in the machine, which asks the lab's servers."""

from pathlib import PurePosixPath

from bench.machine import INSIDE
from lab.agent import WITHOUT_PAUSE, Run
from lab.ways import proxy

# Where Debian's own puppet.conf has it, and the service's unit looks for the CA's certificates.
SSL = "/var/lib/puppet/ssl"


class Agent:
    def __init__(self, machine, certname, work, home=None):
        """Its directories are Debian's, or in `home`, where two are on one host. What its runs print goes into `work`."""
        self.machine = machine
        self.certname = certname
        self.work = work
        self.home = home and PurePosixPath(home)
        self.conf = "/etc/puppet/puppet.conf" if home is None else str(self.home / "puppet" / "puppet.conf")
        self.runs = []

    def enrol(self, **settings):
        """Lead it to the shim, as a proxy, and get its certificate through that."""
        self.configure(settings)
        bootstrap = ["ssl", "bootstrap", "--waitforcert", "0"]
        for setting, value in WITHOUT_PAUSE.items():
            bootstrap += [f"--{setting}", str(value)]
        self.machine.run("puppet", *bootstrap, *self.where())

    def configure(self, settings):
        own = {"certname": self.certname, "keylength": 2048, "ssldir": SSL}
        if self.home:
            own |= {f"{name}dir": self.home / name for name in ("var", "public", "ssl", "log", "run")}
        way = proxy(domain=self.certname.partition(".")[2]).settings
        lines = [f"{key} = {value}" for key, value in (own | way | settings).items()]
        self.machine.write(self.conf, "\n".join(["[main]", *lines, ""]))

    def where(self):
        return ["--color", "false", *(["--confdir", str(self.home / "puppet")] if self.home else [])]

    def start(self, environment):
        """Begin `puppet agent --test` in that environment of Puppet's."""
        log = self.work / f"{self.certname}-{len(self.runs) + 1}.log"
        argv = self.machine.argv("puppet", "agent", "--test", "--environment", environment, *self.where())
        self.runs.append(Run(argv, log, INSIDE))
        return self.runs[-1]

    def run(self, environment, timeout=120):
        return self.start(environment).outcome(timeout)

    def close(self):
        for run in self.runs:
            run.process.kill()

    def evidence(self):
        return [f"-- agent {self.certname}\n{run.process.log.read_text(errors='replace')}" for run in self.runs]
