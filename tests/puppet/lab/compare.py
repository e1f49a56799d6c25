"""What a fault of the first compiler costs a run, by Puppet's own ways and by way of the shim: a table for README.

No verdict on anything, and no part of the tests: where packets get lost, Puppet's own ways wait for minutes.
"""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median

from lab import plan
from lab.evidence import Unmet
from lab.process import wait_until
from lab.scenario import Lab
from lab.server import Server
from lab.ways import Way, proxy

FAULTS = {
    "healthy": lambda server: nullcontext(),
    "refuses": Server.refusing,
    "no ARP answer": Server.unplugged,
    "packets dropped": Server.black_holed,
    "accepts, then is mute": Server.mute,
}

COMPILERS = [plan.fqdn(name) for name in ("compile1", "compile2")]

# Puppet's own ways, which do not come near the shim. All else is the agent's default.
NATIVE = {
    "`use_srv_records`": Way({"use_srv_records": True, "srv_domain": plan.DOMAIN}, files="puppet://"),
    "`server_list`": Way({"server_list": ",".join(COMPILERS)}, files="puppet://"),
}
SHIM = ("puppet-shim, first run", "puppet-shim, next run")

# A cell is the median of so many runs; of one, if that takes longer than LONG seconds.
REPEATS = 3
LONG = 20

# Seconds. A run that takes longer has no answer to give.
TIMEOUT = 1200


@dataclass(frozen=True)
class Cell:
    """What became of one run."""

    seconds: float
    damage: str

    def __str__(self):
        return f"{self.seconds:.1f} s{self.damage and ', '}{self.damage}"


def compare(site):
    lab = Lab(site, "compare")
    agent = lab.agent()
    table = {fault: row(lab, agent, fault) for fault in FAULTS}
    print(f"\n| first compiler | {' | '.join([*NATIVE, *SHIM])} |")
    print("|---|" + "---|" * len([*NATIVE, *SHIM]))
    for fault, cells in table.items():
        print(f"| {fault} | {' | '.join(map(together, cells.values()))} |")


def row(lab, agent, fault):
    """Every column's runs with this fault, by column."""
    # A server that has just been started takes longer over its first catalog, and that is not the fault's.
    for compiler in COMPILERS:
        agent.run(Way({"server": compiler}, files="puppet://")).succeeded()
    cells = {column: [] for column in [*NATIVE, *SHIM]}
    with FAULTS[fault](lab.server("compile1")):
        for measure in [*(partial(native, column) for column in NATIVE), by_shim]:
            for _ in range(REPEATS):
                found = []
                for column, cell in measure(lab, agent):
                    print(f"{fault}, {column}: {cell}", flush=True)
                    cells[column].append(cell)
                    found.append(cell)
                if max(cell.seconds for cell in found) > LONG:
                    break
    return cells


def native(column, lab, agent):
    yield column, one_run(lab, agent, NATIVE[column])


def by_shim(lab, agent):
    """Two runs, with a shim that knows nothing before the first."""
    with lab.shim():
        for column in SHIM:
            yield column, one_run(lab, agent, proxy())


def one_run(lab, agent, way):
    traffic = lab.traffic()
    outcome = agent.run(way, timeout=TIMEOUT)
    damage = []
    if outcome.code not in (0, 2):
        damage.append(f"exit {outcome.code}")
    try:
        # A server writes its line just after the agent has its answer.
        wait_until(lambda: traffic.has("report", 200), 2, "the report", Unmet)
    except Unmet:
        damage.append("report lost")
    return Cell(outcome.seconds, ", ".join(damage))


def together(cells):
    """A column's runs as the table has them."""
    damages = Counter(cell.damage for cell in cells if cell.damage)
    return ", ".join([f"{median(cell.seconds for cell in cells):.1f} s",
                      *(f"{count} of {len(cells)}: {damage}" for damage, count in damages.items())])
