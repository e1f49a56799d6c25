"""The Puppet module in the machine, where Debian's puppet looks for it; its parameters come out of Hiera."""

import json
import shutil

from bench.machine import INSIDE
from lab.agent import Run
from lab.evidence import Unmet
from lab.shim import MODULE

PLACE = "/etc/puppet/code/modules/puppet_shim"
HIERA = "/etc/puppet/hiera.yaml"
DATA = "/etc/puppet/data/site.yaml"

# Exit codes of --detailed-exitcodes.
SAME, CHANGED, FAILED = 0, 2, 4


class Module:
    def __init__(self, machine, work):
        """What its runs print goes into `work`."""
        self.machine = machine
        self.work = work
        self.count = 0
        shutil.copytree(MODULE, machine.path(PLACE))
        # JSON is YAML.
        machine.write(HIERA, json.dumps({"version": 5, "hierarchy": [{"name": "site", "path": "site.yaml"}]}))

    def apply(self, parameters, wanted):
        """`puppet apply` of the class ends with this exit code; returns what it said."""
        self.machine.write(DATA, json.dumps({f"puppet_shim::{name}": value for name, value in parameters.items()}))
        self.count += 1
        argv = self.machine.argv("puppet", "apply", "--detailed-exitcodes", "--color", "false", "--execute", "include puppet_shim")
        outcome = Run(argv, self.work / f"apply-{self.count}.log", INSIDE).outcome(120)
        if outcome.code != wanted:
            raise Unmet(f"{parameters}: puppet apply ended with {outcome.code} and not {wanted}\n{outcome.output}")
        return outcome.output
