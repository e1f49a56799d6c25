"""A connection that has to start the process: from its exec to the server's first byte, less than 30 ms more than one that runs needs.

The state directory has what has to be known: what DNS said, whose certificate has the name, the host's domain. What systemd
takes until it executes the program, which is to make a process and its sandbox, is noted beside it.
"""

import time
from itertools import pairwise

from bench.execution import Execution
from bench.machine import SERVICE
from bench.scenario import demand
from bench.server import certified

# Rounds at least and at most.
LEAST = 15
MOST = 60

NAME = "puppet.cold.test"

# Milliseconds that a start may take, where `puppet-shim --version` takes no longer than VERSION; on a slower machine in proportion.
LIMIT = 30
VERSION = 5


def run(bench):
    machine = bench.at_lab("cold.test", servers=False)
    bench.server_at_lab("web")
    certificate, key = certified(bench.directory, NAME)
    bench.server.show(certificate, key)
    machine.write("/var/lib/puppet/ssl/certs/ca.pem", certificate.read_text())
    bench.works(name=NAME)
    machine.said("carried", "server=web.cold.test:8140")
    machine.run("systemctl", "stop", SERVICE)
    memory = machine.path("/var/lib/private/puppet-shim/memory.json").read_text()
    demand(NAME in memory and "_x-puppet._tcp.cold.test" in memory, f"this is what is remembered: {memory}")

    rounds = []
    with Execution(machine.path("/usr/bin/puppet-shim")) as execution:
        while True:
            rounds.append(one_round(bench, machine, execution))
            noticed, sandboxed, cold, warm, more, version = (quarter(times) * 1000 for times in zip(*rounds))
            limit = LIMIT * max(1, version / VERSION)
            if len(rounds) >= LEAST and more < limit or len(rounds) == MOST:
                break
    bench.notes.append(f"to the server's first byte {cold:.1f} ms from exec, {warm:.1f} ms to a process that runs; "
                       f"before it, systemd {noticed:.1f} ms until there is a process, and {sandboxed:.1f} ms in that; "
                       f"`puppet-shim --version` takes {version:.1f} ms; {len(rounds)} rounds")
    demand(more < limit, f"to the server's first byte it takes {more:.1f} ms more from exec than where a process runs, "
                         f"where a limit of {limit:.1f} ms holds")


def one_round(bench, machine, execution):
    """Seconds: until there is a process, until it executes the program, and from there to the server's first byte; those
    to a process that runs, what the start takes more, and how long the program takes for nothing but its version."""
    machine.run("systemctl", "stop", SERVICE)
    demand(machine.main_pid() == 0, "a process runs after a stop")
    connected, reached = connect(bench)
    forked = int(machine.property(SERVICE, "ExecMainStartTimestampMonotonic")) / 1e6
    moments = [connected, forked, execution.began, reached]
    demand(moments == sorted(moments), f"connected, forked, executed, reached at {moments}")
    again, reached_again = connect(bench)
    noticed, sandboxed, cold = (later - earlier for earlier, later in pairwise(moments))
    warm = reached_again - again
    machine.run("/usr/bin/puppet-shim", "--version")
    return noticed, sandboxed, cold, warm, cold - warm, time.monotonic() - execution.began


def quarter(times):
    """The lower quartile: the machine may have had other work in the others."""
    return sorted(times)[len(times) // 4]


def connect(bench):
    """When a connection began, and when the server had its first byte, by the monotonic clock, which the machine shares."""
    began = time.monotonic()
    with bench.tunnel(name=NAME):
        return began, bench.server.reached
