"""The doctor: `puppet-shim check` on the agent's host, about one of the agents there."""

import json
import shlex
import subprocess

from lab.evidence import Unmet
from lab.process import ENVIRONMENT
from lab.shim import binary


class Opinion:
    def __init__(self, code, output):
        self.code = code
        self.output = output
        found = json.loads(output)
        self.complaints = [
            finding | {"group": group["name"]}
            for group in found["groups"] for finding in group["findings"] if finding["verdict"] != "ok"
        ]
        self.ok = found["ok"]

    def healthy(self):
        """Nothing to complain of."""
        if self.code != 0 or self.complaints:
            raise Unmet(f"the doctor complains of a healthy host: exit {self.code}\n{self.text()}")
        return self

    def only(self, group, check, what, mend):
        """One cross, about this; with these words, and these in what is to be done."""
        found = [(c["group"], c["check"], c["verdict"]) for c in self.complaints]
        if self.code != 1 or found != [(group, check, "problem")]:
            raise Unmet(f"not just one cross, about {check} of {group}: exit {self.code}\n{self.text()}")
        if what not in self.complaints[0]["what"] or mend not in self.complaints[0]["mend"]:
            raise Unmet(f"the cross lacks {what!r} or {mend!r}\n{self.text()}")
        return self

    def text(self):
        return json.dumps(self.complaints, indent=1)


def check(agent, shim):
    """What it says, for machines. The agent has directories of its own, of which only its own `puppet` knows."""
    puppet = agent.target / "puppet"
    puppet.write_text(f"#!/bin/sh\nexec puppet \"$@\" --confdir {shlex.quote(str(agent.confdir))}\n")
    puppet.chmod(0o755)
    return ask(agent.host, puppet, shim, shim.directory / "shim.toml")


def ask(host, puppet, shim, config):
    """The same with this command in the place of `puppet`, and with this configuration."""
    environment = ENVIRONMENT | {"STATE_DIRECTORY": str(shim.directory), "PUPPET_SHIM_PUPPET": str(puppet)}
    argv = host.argv(binary(), "check", "--json", "--config", str(config))
    done = subprocess.run(argv, env=environment, timeout=60, text=True, stdin=subprocess.DEVNULL, capture_output=True)
    try:
        return Opinion(done.returncode, done.stdout)
    except ValueError as error:
        raise Unmet(f"the doctor prints no JSON: exit {done.returncode}\n{done.stdout}{done.stderr}") from error
