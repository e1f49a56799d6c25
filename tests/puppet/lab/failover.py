"""What a fault of the compiler that is tried first must not do to a run: the claims of several scenarios."""

from lab import plan
from lab.evidence import Unmet
from lab.ways import proxy

# Seconds that a run may wait for compilers, by the shim's log, while the fault is news: more than the connections of
# healthy runs waited. A quarter of one is the rule.
NEWS = 2.5

# The same for each of a run's connections when the fault is known: more than the longest of the healthy ones.
KNOWN = 1


def two_runs(lab, fault, words, well_before=False):
    """compile1, the better one by its SRV priority, has the fault: from before the shim starts, or after a run with it.

    Two runs take place, one right after the other. Nothing fails in either. The first meets the fault, which the shim's
    log tells in these words; the second does not wait for compile1, for the shim remembers.
    """
    agent = lab.agent()
    lab.time_healthy_run(agent)
    with lab.shim() as shim:
        if well_before:
            agent.run(proxy()).succeeded().printed("compiled by compile1.example.test")
        with fault:
            first, met = one_run(lab, agent, shim)
            demand(tried_first(met[0]).startswith("compile1.") and words in tried_first(met[0]), "met the fault", met)
            waited_little(lab, met)
            second, known = one_run(lab, agent, shim)
            limit = KNOWN + 2 * max(lab.site.waits)
            for line in known:
                demand(tried_first(line).startswith("compile2."), "known of the fault", known)
                demand(waited(line) <= limit, f"waited no longer than {limit:.1f} s", known)
    lab.cost("the first run", first)
    lab.cost("the second", second)


def one_run(lab, agent, shim):
    """A run to which nothing happens: its seconds, and the shim's lines on its connections to a compiler."""
    traffic = lab.traffic()
    mark = shim.mark()
    outcome = agent.run(proxy()).succeeded().printed("compiled by compile2.example.test")
    unnoticed(outcome)
    traffic.went(agent, compile="compile2", plugins="files", report="compile2")
    traffic.delivered()
    lines = compiled(shim, mark)
    server = f"{plan.fqdn('compile2')}:{plan.SERVERS['compile2']}"
    demand(all(line["server"] == server for line in lines), f"gone to {server}", lines)
    return outcome.seconds, lines


def unnoticed(outcome):
    """The agent complained of nothing, unless it be Facter of the machine that the lab is on."""
    for line in outcome.output.splitlines():
        if line.startswith(("Error: ", "Warning: ")) and not line.startswith("Error: Facter: "):
            raise Unmet(f"the agent noticed: {line}")


def compiled(shim, since=0):
    """The shim's lines on a run's connections to a compiler."""
    return [line for line in shim.served(since) if line["role"] == "compile"]


def waited_little(lab, lines):
    limit = NEWS + sum(lab.site.waits)
    demand(sum(map(waited, lines)) <= limit, f"waited no longer than {limit:.1f} s", lines)


def waited(line):
    """Seconds from knowing what the agent wants to the first word of a server."""
    return (float(line["answer_ms"]) - float(line["sniff_ms"])) / 1000


def tried_first(line):
    return line["tried"].strip('"').split("; ")[0]


def demand(held, what, lines):
    if not held:
        raise Unmet(f"by the shim's log the run should have {what}: {lines}")
