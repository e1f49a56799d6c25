"""In a chroot, as images are built, no systemd runs: the package goes in and out, and the next boot listens."""

from bench.machine import SOCKET
from bench.scenario import demand
from lab.process import run as command


def run(bench):
    machine = bench.laid()
    for package in (bench.package, bench.later):
        machine.root.joinpath("root/package.deb").write_bytes(package.deb.read_bytes())
        command(["chroot", str(machine.root), "dpkg", "--install", "/root/package.deb"])
    machine.boot()
    bench.listens()
    bench.configure()
    bench.works()
    demand(machine.property(SOCKET, "UnitFileState") == "enabled", "the socket is not enabled")
