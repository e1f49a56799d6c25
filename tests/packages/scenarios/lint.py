"""Nothing that lintian or rpmlint calls an error, and units that systemd takes, the service with an exposure of at most 1.2.

What is overridden is explained where that is done: packaging/deb/lintian-overrides, packaging/rpm/rpmlint.toml.
"""

import re
import subprocess

from bench.built import REPOSITORY
from bench.machine import SERVICE, SOCKET
from bench.scenario import demand

# Tenths. The second is root, with one capability, for a moment.
EXPOSURE = {SERVICE: 12, "puppet-shim-ca.service": 15}


def run(bench):
    said = tool("lintian", "--fail-on", "error", "--tag-display-limit", "0", bench.package.deb)
    bench.notes += [line for line in said.splitlines() if line[1:2] == ":"]
    said = tool("rpmlint", "--config", REPOSITORY / "packaging" / "rpm" / "rpmlint.toml", bench.package.rpm)
    summary = re.search(r"(\d+) errors?, (\d+) warnings?", said)
    demand(summary and summary[1] == "0", f"rpmlint\n{said}")
    bench.notes.append(f"rpmlint: {summary[0]}")

    machine = bench.boot()
    machine.install(bench.package.deb)
    for unit in (SERVICE, SOCKET, "puppet-shim-ca.service", "puppet-shim-ca-first.service", "puppet-shim-ca.path"):
        said = machine.run("systemd-analyze", "verify", unit)
        demand("puppet-shim" not in said, f"systemd-analyze verify\n{said}")
    for unit, most in EXPOSURE.items():
        said = machine.run("systemd-analyze", "security", "--offline=true", f"--threshold={most}", "--no-pager",
                           f"/lib/systemd/system/{unit}", check=False)
        exposure = re.search(r"Overall exposure level.*: ([\d.]+)", said)
        demand(exposure and float(exposure[1]) * 10 <= most, f"systemd-analyze security\n{said}")
        bench.notes.append(f"{unit}: exposure {exposure[1]}")


def tool(*argv):
    done = subprocess.run(list(map(str, argv)), text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    demand(done.returncode == 0, f"{argv[0]}\n{done.stdout}")
    return done.stdout
