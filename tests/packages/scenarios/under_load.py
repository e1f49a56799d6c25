"""systemd restarts a busy service within a second, and no tunnel and no client notices; a reload nobody notices either.

First 200 tunnels have bytes in them, and one more waits in silence for its catalog, through restart after restart. Then 64 clients
connect and leave as fast as they can, through restarts and reloads in turn.
"""

import time
from contextlib import ExitStack
from statistics import median

from bench.machine import SERVICE
from bench.scenario import CONFIG, demand
from lab.evidence import Unmet
from lab.process import wait_until

TUNNELS = 200
CLIENTS = 64

# Of tunnels, of clients.
RESTARTS = 5
ROUNDS = 10

# Seconds; and how many times as long as the same with nothing open, where the machine is too slow for that.
LIMIT = 1
TIMES = 4

# A listener that systemd does not hold, and so comes and goes with the configuration.
ANOTHER = ("127.0.0.1", 9139)


def run(bench):
    machine = bench.installed()
    machine.run("systemctl", "start", SERVICE)
    bare = min(restart(machine) for _ in range(3))
    bench.notes.append(f"a restart with nothing open: {listed([bare])}")
    tunnels_go_on(bench, machine, max(LIMIT, TIMES * bare))
    clients_do_not_notice(bench, machine, max(LIMIT, TIMES * bare))


def tunnels_go_on(bench, machine, limit):
    with ExitStack() as open_until_here:
        with bench.server.compiling() as compiled:
            patient = open_until_here.enter_context(bench.tunnel())
            asked = patient.ask(3000)
        tunnels = [open_until_here.enter_context(bench.tunnel()) for _ in range(TUNNELS)]
        times = []
        with bench.streams(tunnels) as streams:
            for _ in range(RESTARTS):
                streams.go_on()
                times.append(restart(machine))
            streams.go_on()
        compiled.set()
        patient.returns(asked)
        patient.exchange()
    handed_on = [line for line in machine.log().splitlines() if "left to the next process" in line]
    demand([line.partition("tunnels=")[2] for line in handed_on] == [str(TUNNELS + 1)] * RESTARTS, f"of the tunnels it says {handed_on}")
    wait_until(lambda: machine.log().count(f" restarts={RESTARTS}") == TUNNELS + 1, 20, "each tunnel's line tells of the restarts", Unmet)
    bench.notes.append(f"{TUNNELS + 1} tunnels, {streams.total() / 1e6:.0f} MB there and back: restarts in {listed(times)}")
    judge(times, limit)


def clients_do_not_notice(bench, machine, limit):
    plain = machine.path(CONFIG).read_text()
    other = f'listen = ["127.0.0.1:8139", "[::1]:8139", "{ANOTHER[0]}:{ANOTHER[1]}"]\n{plain}\n[timeouts]\npin = "1min"\n'
    restarts, reloads = [], []
    with bench.crowd(CLIENTS) as crowd:
        for number in range(ROUNDS):
            is_other = number % 2 == 0
            machine.write(CONFIG, other if is_other else plain)
            began = time.monotonic()
            machine.run("systemctl", "reload", SERVICE, error=Unmet)
            wait_until(lambda: bench.listens_at(ANOTHER) == is_other, 10, f"reload {number + 1} is in force", Unmet)
            reloads.append(time.monotonic() - began)
            some_more(crowd)
            restarts.append(restart(machine))
            demand(bench.listens_at(ANOTHER) == is_other, "after the restart it listens elsewhere than before")
            some_more(crowd)
    bench.notes.append(f"{CLIENTS} clients, {crowd.count} connections, none failed: restarts in {listed(restarts)}; "
                       f"reloads in force after {listed(reloads)}")
    judge(restarts, limit)


def some_more(crowd):
    """Each client connects once more, or fails to."""
    before = crowd.count
    wait_until(lambda: crowd.failures or crowd.count >= before + CLIENTS, 20, "the clients go on connecting", Unmet)


def restart(machine):
    """In seconds."""
    before = machine.main_pid()
    began = time.monotonic()
    machine.run("systemctl", "restart", SERVICE, error=Unmet)
    took = time.monotonic() - began
    demand(machine.main_pid() not in (0, before), "systemd has not restarted the process")
    return took


def judge(times, limit):
    # Not the longest: two processors have the clients, the server, the machine and other work to do beside it.
    demand(median(times) < limit, f"restarts took {listed(times)}, of {listed([limit])}")


def listed(times):
    return f"{' '.join(f'{1000 * each:.0f}' for each in sorted(times))} ms"
