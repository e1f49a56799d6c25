"""Puppet agents: certnames with directories of their own, all of them on the agent host."""

import shutil
import time
from dataclasses import dataclass

from lab import plan
from lab.evidence import Unmet
from lab.process import Process, pass_until, run, wait_until
from lab.template import CONF

# Spares a first run the 30 s pause that scenarios/first_run_proxy.py lives through: a connection that is not kept
# cannot block its second request.
WITHOUT_PAUSE = {"http_keepalive_timeout": 0}


@dataclass(frozen=True)
class Outcome:
    """A run that is over."""

    code: int | None
    seconds: float
    output: str

    def succeeded(self):
        """`--test` exits 0 when nothing changed and 2 when something did."""
        if self.code not in (0, 2):
            raise Unmet(f"the agent's run failed: exit {self.code}")
        return self

    def changed_nothing(self):
        if self.code != 0:
            raise Unmet(f"the agent's run should have found all as it should be: exit {self.code}")
        return self

    def failed(self):
        if self.code in (0, 2):
            raise Unmet(f"the agent's run should have failed: exit {self.code}")
        return self

    def printed(self, *words):
        """All of these words in one line of the agent's output."""
        if not any(all(word in line for word in words) for line in self.output.splitlines()):
            raise Unmet(f"no line of the agent's output has all of: {', '.join(words)}")
        return self


class Run:
    """A run under way."""

    def __init__(self, argv, log, env):
        self.began = time.monotonic()
        self.process = Process(argv, log, env)

    def outcome(self, timeout):
        code = self.process.wait(timeout)
        return Outcome(code, time.monotonic() - self.began, self.process.log.read_text(errors="replace"))


class Pause:
    """A run that stands still while facts are collected: after pluginsync and before the catalog.

    modules/lab/lib/facter/lab_pause.rb is the agent's side of it.
    """

    def __init__(self, directory):
        self.directory = directory
        self.began = None
        # How long it took, in seconds, once it is over.
        self.length = None
        directory.mkdir()

    def reached(self):
        wait_until((self.directory / "reached").exists, 180, "the agent collects facts", Unmet)
        self.began = time.monotonic()

    def lasts(self, seconds):
        """End it when it has taken so long."""
        pass_until(self.began + seconds)
        (self.directory / "over").touch()
        self.length = time.monotonic() - self.began


class Agent:
    def __init__(self, name, host, directory, work):
        """What an agent keeps (its certificate above all) is in `directory`, what one scenario leaves in `work`."""
        self.certname = plan.fqdn(name)
        self.host = host
        self.directory = directory
        self.target = work / name
        self.runs = []
        # Settings that are in no file, and are told to each command.
        self.told = {}

    @property
    def confdir(self):
        return self.directory / "puppet"

    @property
    def ca_file(self):
        return self.directory / "ssl" / "certs" / "ca.pem"

    @property
    def has_certificate(self):
        return (self.directory / "ssl" / "certs" / f"{self.certname}.pem").exists()

    def enrol(self):
        """Get a certificate before the story begins: straight from the CA, without the shim."""
        if not self.has_certificate:
            self.configure({"server": plan.fqdn("ca")} | WITHOUT_PAUSE)
            run(self.host.argv("puppet", "ssl", "bootstrap", "--waitforcert", "0", *self.where()))

    def own(self):
        """What tells this agent from the others on its host."""
        return {
            "certname": self.certname,
            "vardir": self.directory / "var",
            "publicdir": self.directory / "public",
            "ssldir": self.directory / "ssl",
            "logdir": self.directory / "log",
            "rundir": self.directory / "run",
            "keylength": 2048,
        }

    def configure(self, settings):
        """All of its settings are in its puppet.conf."""
        self.make_directories()
        lines = [f"{key} = {value}" for key, value in (self.own() | settings).items()]
        (self.confdir / "puppet.conf").write_text("\n".join(["[main]", *lines, ""]))
        self.told = {}

    def be_stock(self, settings):
        """Its puppet.conf is the one that Debian's package brings, in which nothing is set: not even `server`."""
        self.make_directories()
        shutil.copy(CONF / "agent" / "puppet.conf", self.confdir)
        self.told = self.own() | settings

    def make_directories(self):
        self.target.mkdir(exist_ok=True)
        self.confdir.mkdir(parents=True, exist_ok=True)

    def where(self):
        told = [f"--{key}={value}" for key, value in self.told.items()]
        return ["--confdir", str(self.confdir), "--color", "false", *told]

    def pause(self):
        """A place for the next run to stand still in, see `start`."""
        return Pause(self.target.with_name(f"{self.target.name}-{len(self.runs) + 1}.pause"))

    def start(self, way, *arguments, sources=(), pause=None, facts=None, **settings):
        """Begin `puppet agent --test`; the manifest brings `sources`, URLs, into the target directory.

        Without a way in, puppet.conf stays as it is.
        """
        if way:
            self.configure(way.settings | settings)
        log = self.target.with_name(f"{self.target.name}-{len(self.runs) + 1}.log")
        facts = {"lab_sources": ",".join(sources), "lab_target": self.target} | (facts or {})
        env = {f"FACTER_{name}": str(value) for name, value in facts.items()}
        if pause:
            env["LAB_PAUSE"] = str(pause.directory)
        argv = self.host.argv("puppet", "agent", "--test", *self.where(), *arguments)
        self.runs.append(Run(argv, log, env))
        return self.runs[-1]

    def run(self, way, *arguments, timeout=120, **rest):
        return self.start(way, *arguments, **rest).outcome(timeout)

    def got(self, name, content):
        """The file of that name has arrived, with that content."""
        path = self.target / name
        found = path.read_text().strip() if path.exists() else None
        if found != content:
            raise Unmet(f"the agent's {name} holds {found!r}, not {content!r}")
