"""`puppet-shim setup` on the agent's host, and the files that it may change there."""

import hashlib

from lab import doctor, plan
from lab.agent import WITHOUT_PAUSE
from lab.evidence import Unmet
from lab.process import Process
from lab.shim import REPOSITORY, binary

# What somebody else writes into each file after `setup` has.
BY_HAND = "# by hand\n"


class SetUp:
    """An agent with a stock puppet.conf, and the configuration as the package brings it."""

    def __init__(self, lab, agent, **settings):
        self.agent = agent
        self.directory = lab.directory / "setup"
        self.directory.mkdir()
        self.calls = 0
        self.configuration = self.directory / "puppet-shim.toml"
        # As the package brings it, but that the agent here keeps its CA elsewhere.
        packaged = (REPOSITORY / "packaging" / "puppet-shim.toml").read_text()
        self.configuration.write_text(f'{packaged}\n[certificates]\nca_file = "{agent.ca_file}"\n')
        self.name(f"puppet.{plan.DOMAIN}", **settings)
        # The agent's directories are not where the `puppet` command looks by itself.
        self.puppet = self.directory / "puppet"
        self.puppet.write_text(f'#!/bin/sh\nexec puppet "$@" --confdir {agent.confdir}\n')
        self.puppet.chmod(0o755)
        self.files = [agent.confdir / "puppet.conf", self.configuration, agent.host.etc / "hosts"]

    def name(self, server, **settings):
        self.agent.configure({"server": server} | WITHOUT_PAUSE | settings)

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

    def comes_and_goes(self, mode, shim, use, unused=lambda: None, *, says):
        """The whole story: it is shown, done, done again for nothing, used, and undone to the byte; then done once more, and
        undone after others have written into the same files. `use` is the run in between, `unused` what has to be seen to
        after it."""
        before = self.sums()
        self.done("--mode", mode, says=[*says, "Nothing has been changed"])
        self.unchanged(before, "looking")

        self.done("--mode", mode, "--apply", says=says)
        after = self.sums()
        self.done("--mode", mode, "--apply", says=["nothing to do"])
        self.unchanged(after, "doing it twice")
        use()
        doctor.ask(self.agent.host, self.puppet, shim, self.configuration).healthy()
        self.done("--undo", says=["byte for byte"])
        self.unchanged(before, "setup --undo")
        unused()
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
