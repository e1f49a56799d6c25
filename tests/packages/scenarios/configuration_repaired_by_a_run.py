"""A broken configuration arrives while no process runs, and an agent's run brings the repair, through the shim.

The run goes by the configuration that was accepted last; the log and `systemctl status` say so. The catalog replaces the file
and has it read, after which it holds. The port takes every connection all the while.
"""

from bench.machine import SERVICE
from bench.scenario import CONFIG, demand
from lab.evidence import Unmet
from lab.process import wait_until

LAST = "last accepted configuration"


def run(bench):
    machine = bench.at_lab("machine.test")
    good = machine.path(CONFIG).read_text().replace('idle_exit = "2min"', 'idle_exit = "2s"')
    machine.write(CONFIG, good)
    agent = bench.agent("repaired.machine.test")
    bench.idle()
    # No process may see it before the agent does: knocking would start one.
    machine.write(CONFIG, good + "\n[timeouts]\npin = soon\n")
    with bench.knocking() as knocking:
        wait_until(lambda: LAST in status(machine), 10, "systemctl status tells of the broken file", Unmet)
        machine.said("puppet-shim.toml:", "error: this is not TOML")
        machine.said("running with the", LAST)
        process = machine.main_pid()
        traffic = bench.traffic_at_lab()
        outcome = agent.run("repair")
        demand(outcome.code == 2, f"the run that repairs the file: exit {outcome.code}, and not 2")
        traffic.went(agent, compile="compile1", plugins="compile1", report="compile1")
        traffic.delivered()
        machine.said("carried", "role=compile", "name=puppet.machine.test")
        machine.said("reloaded", "timeouts")
        wait_until(lambda: LAST not in status(machine), 10, "systemctl status no longer tells of it", Unmet)
        demand(machine.main_pid() == process, "the repair has cost a restart")
    bench.notes.append(f"{knocking.count} connections beside it")
    # And the next process begins with it.
    bench.idle()
    agent.run("repair").changed_nothing()
    demand(LAST not in status(machine), f"the next process does not take the repaired file: {status(machine)}")


def status(machine):
    """What the daemon says of itself."""
    return machine.property(SERVICE, "StatusText")
