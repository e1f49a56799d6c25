"""The process leaves when it is idle, and the next connection starts it again.

Nobody notices: what comes while it is away waits for it in the socket.
"""

import time

from bench.scenario import demand


def run(bench):
    machine = bench.installed(idle_exit='"1s"')
    with bench.tunnel() as connection:
        connection.exchange()
        first = machine.main_pid()
        demand(first, "no process")
    bench.idle()
    demand(not "puppet-shim" in machine.run("sh", "-c", "cat /proc/[0-9]*/comm"), "a process of ours is left")

    began = time.monotonic()
    with bench.tunnel() as connection:
        connection.exchange()
        bench.notes.append(f"a connection that has to start the process: {(time.monotonic() - began) * 1000:.0f} ms")
        demand(machine.main_pid() not in (0, first), "no new process")

    # A tunnel without a word is not idle: a catalog compiles in silence.
    with bench.tunnel() as connection:
        time.sleep(3)
        connection.exchange()
    bench.idle()
    demand(machine.property("puppet-shim.service", "NRestarts") == "0", "leaving counted as a failure")
