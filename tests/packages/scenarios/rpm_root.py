"""The .rpm goes into a root of its own, as images are made, with nothing running in it, and out of it again."""

from bench.scenario import demand
from lab.process import run as command

OTHERS = ("/var/lib/rpm/", "/root/.rpmdb", "/var/cache/")


def run(bench):
    machine = bench.laid()
    machine.lay_for_rpm()
    root = machine.root

    def rpm(*arguments):
        # Debian's libraries are in no database that rpm knows.
        said = command(["rpm", "--root", str(root), *map(str, arguments)])
        # It begins by advising against itself.
        return "".join(line for line in said.splitlines(keepends=True) if not line.startswith("rpm: "))

    rpm("--initdb")
    before = everything(root)
    rpm("--install", "--nodeps", bench.package.rpm)
    wanted = root / "etc/systemd/system/sockets.target.wants/puppet-shim.socket"
    demand(wanted.is_symlink(), "the socket is not enabled")
    demand(not rpm("--verify", "--nodeps", "puppet-shim"), "rpm -V finds something")
    rpm("--upgrade", "--nodeps", bench.later.rpm)
    demand(wanted.is_symlink(), "the upgrade has disabled the socket")
    rpm("--erase", "puppet-shim")
    left = {path for path in everything(root) - before if not path.startswith(OTHERS)}
    demand(not left, f"after the removal there are: {' '.join(sorted(left))}")


def everything(root):
    found = command(["find", str(root), "-xdev"]).splitlines()
    return {path.removeprefix(str(root)) for path in found}
