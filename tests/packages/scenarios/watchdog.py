"""The process hangs: systemd notices, ends it, and starts another.

The unit gives it a minute; here it is given three seconds, so as not to wait for that.
"""

import time

from bench.machine import SERVICE
from bench.scenario import demand
from lab.evidence import Unmet
from lab.process import pass_until, wait_until


def run(bench):
    machine = bench.installed()
    bench.works()
    watchdog = machine.property(SERVICE, "WatchdogUSec")
    demand(watchdog == "1min", f"the unit has a watchdog of {watchdog}")
    machine.write(f"/etc/systemd/system/{SERVICE}.d/watchdog.conf", "[Service]\nWatchdogSec=3s\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVICE)
    bench.works()
    hung = machine.main_pid()
    # Longer than that, it lives: it says that it does.
    pass_until(time.monotonic() + 5)
    demand(machine.main_pid() == hung, "the watchdog has ended a process that is well")
    machine.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", SERVICE)
    wait_until(lambda: machine.main_pid() not in (0, hung), 20, "systemd starts another process", Unmet)
    machine.said("Watchdog timeout")
    bench.listens()
    bench.works()
