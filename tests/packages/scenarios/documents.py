"""The manual pages read without a complaint, each setting is in one of them, and the shells take the completions."""

import re

from bench.built import REPOSITORY
from bench.scenario import demand

# What bash does for `puppet-shim re` and a tab.
COMPLETE = """
source /usr/share/bash-completion/completions/puppet-shim
COMP_WORDS=(puppet-shim re) COMP_CWORD=1
$(complete -p puppet-shim | sed 's/.*-F \\([^ ]*\\).*/\\1/') puppet-shim re puppet-shim
echo "${COMPREPLY[@]}"
"""


def run(bench):
    machine = bench.boot()
    machine.install(bench.package.deb)
    pages = machine.run("sh", "-c", "ls /usr/share/man/man[15]/puppet-shim*").split()
    demand(len(pages) >= 5, f"there are no more pages than {pages}")
    for page in pages:
        said = machine.run("sh", "-c", f"MANWIDTH=80 man --warnings -E UTF-8 -l {page} 2>&1 >/dev/null")
        demand(not said, f"{page}: {said}")
    shown = machine.run("man", "5", "puppet-shim.toml")
    packaged = (REPOSITORY / "packaging" / "puppet-shim.toml").read_text()
    for key in re.findall(r"^#?(\w+) = ", packaged, re.MULTILINE):
        demand(re.search(rf"^\s+{key} = ", shown, re.MULTILINE), f"puppet-shim.toml(5) lacks {key}")
    listed = machine.run("puppet-shim", "--help").partition("\nCommands:\n")[2].partition("\n\n")[0]
    commands = re.findall(r"^  (\w+) ", listed, re.MULTILINE)
    demand("resolve" in commands, f"--help lists {commands}")
    for command in set(commands) - {"help"}:
        demand(machine.path(f"/usr/share/man/man1/puppet-shim-{command}.1.gz").exists(), f"{command} has no page")
    completed = machine.run("bash", "-c", COMPLETE)
    demand("resolve" in completed, f"bash completes `puppet-shim re` to {completed}")
    for name in ("copyright", "changelog.gz", "changelog.Debian.gz", "README.md", "third-party-licences.gz"):
        demand(machine.path(f"/usr/share/doc/puppet-shim/{name}").exists() or
               machine.path(f"/usr/share/doc/puppet-shim/{name}.gz").exists(), f"the package lacks {name}")
    for name in ("grafana/puppet-shim.json", "prometheus/puppet-shim.rules.yml"):
        demand(machine.path(f"/usr/share/puppet-shim/{name}").exists(), f"the package lacks {name}")
