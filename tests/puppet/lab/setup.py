"""`puppet-shim setup` on the agent's host, and the files that it may change there."""

import hashlib
import shlex
import signal

from lab import doctor
from lab.agent import WITHOUT_PAUSE
from lab.evidence import Unmet
from lab.process import Process, wait_until
from lab.shim import REPOSITORY, binary

# What somebody else writes into each file after `setup` has.
BY_HAND = "# by hand\n"


class SetUp:
    """An agent with a stock puppet.conf, and the configuration as the package brings it.

    The agent asks for `puppet`, and nothing but the host's domain says which one that is.
    """

    def __init__(self, lab, agent, **settings):
        self.lab = lab
        self.agent = agent
        self.directory = lab.directory / "setup"
        self.directory.mkdir()
        self.calls = 0
        self.configuration = self.directory / "puppet-shim.toml"
        # As the package brings it, but that the agent here keeps its CA elsewhere.
        packaged = (REPOSITORY / "packaging" / "puppet-shim.toml").read_text()
        self.configuration.write_text(f'{packaged}\n[certificates]\nca_file = "{agent.ca_file}"\n')
        self.puppet = self.directory / "puppet"
        agent.be_stock(WITHOUT_PAUSE | settings)
        self.write_puppet()
        self.files = [agent.confdir / "puppet.conf", self.configuration, agent.host.etc / "hosts"]

    def name(self, server, **settings):
        """The agent's puppet.conf names a server."""
        self.agent.configure({"server": server} | WITHOUT_PAUSE | settings)
        self.write_puppet()

    def write_puppet(self):
        """The agent's directories are not where the `puppet` command looks by itself."""
        self.puppet.write_text(f'#!/bin/sh\nexec puppet "$@" {shlex.join(self.agent.where())}\n')
        self.puppet.chmod(0o755)

    def call(self, *arguments):
        """Run the command; its exit code and all that it says."""
        self.calls += 1
        log = self.directory / f"setup-{self.calls}.log"
        # A record of this lab's own, which goes with it.
        env = {"PUPPET_SHIM_PUPPET": str(self.puppet), "STATE_DIRECTORY": str(self.directory / "record")}
        argv = self.agent.host.argv(binary(), "setup", *arguments, "--config", str(self.configuration))
        code = Process(argv, log, env).wait(120)
        return code, log.read_text()

    def done(self, *arguments, says=()):
        """Run it, and have it succeed and say all of these."""
        code, said = self.call(*arguments)
        lacks = [words for words in says if words not in said]
        if code != 0 or lacks:
            raise Unmet(f"setup {' '.join(arguments)}: exit {code}, and lacks {lacks}\n{said}")

    def refused(self, *arguments, says):
        """Run it, and have it refuse with these words and change nothing."""
        before = self.sums()
        code, said = self.call(*arguments)
        if code != 1 or not any(line.startswith("refused: ") and says in line for line in said.splitlines()):
            raise Unmet(f"setup {' '.join(arguments)} should have refused and said {says!r}: exit {code}\n{said}")
        self.unchanged(before, "a refusal")

    def sums(self):
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files}

    def unchanged(self, before, by):
        """Every file has the very bytes that it had, and there is no record of anything else."""
        if changed := [name for name, sum in self.sums().items() if sum != before[name]]:
            raise Unmet(f"{by} left {', '.join(changed)} changed")

    def read_anew(self, shim, *says, port=None, listens=True):
        """There is no systemd here to have the shim read its configuration again. It logs this, or listens on this port, or
        does so no longer."""
        written = shim.written()
        shim.process.signal(signal.SIGHUP)
        if says:
            shim.said(*says, since=written)
        if port:
            wait_until(lambda: shim.process.listens(port) == listens, 5, f"the shim listens on {port}: {listens}", Unmet)

    def run(self, **errands):
        """The agent's run, on these ways."""
        traffic = self.lab.traffic()
        outcome = self.agent.run(None).succeeded()
        traffic.went(self.agent, **errands)
        return outcome

    def comes_and_goes(self, mode, shim, *, says, port=None):
        """The whole story: it is shown, done, done again for nothing, used by a first run, and undone to the byte; then done once
        more, and undone after others have written into the same files. `port`: where the shim listens meanwhile. Gives the run."""
        before = self.sums()
        self.done("--mode", mode, says=[*says, "Nothing has been changed"])
        self.unchanged(before, "looking")

        self.done("--mode", mode, "--apply", says=says)
        after = self.sums()
        self.done("--mode", mode, "--apply", says=["nothing to do"])
        self.unchanged(after, "doing it twice")
        self.read_anew(shim, port=port)
        outcome = self.run(ca="ca", compile="compile1", plugins="files", report="compile2")
        doctor.ask(self.agent.host, self.puppet, shim, self.configuration).healthy()
        self.done("--undo", says=["byte for byte"])
        self.unchanged(before, "setup --undo")
        self.read_anew(shim, port=port, listens=False)
        if (self.directory / "record").exists():
            raise Unmet("setup --undo left its record")

        texts = {path: path.read_text() for path in self.files}
        self.done("--mode", mode, "--apply")
        for path in self.files:
            with path.open("a") as file:
                file.write(BY_HAND)
        self.done("--undo", says=["has been changed since; what was ours is taken out"])
        for path, text in texts.items():
            if path.read_text() != text + BY_HAND:
                raise Unmet(f"{path.name} should be what it was with what was written by hand:\n{path.read_text()}")
        return outcome
