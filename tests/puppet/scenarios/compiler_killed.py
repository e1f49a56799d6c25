"""The first compiler dies in the middle of a run.

It has told the agent its environment, and it dies while the agent collects facts: after pluginsync, before the catalog.
The agent has a connection to it by then, but facts take longer than it keeps one that is idle (4 s), and so it opens
another for the catalog. The shim has had the run pinned to the dead one; the connection goes to the second compiler,
which takes the facts, compiles, and gets the report.
"""

from lab.evidence import Unmet
from lab.failover import compiled, unnoticed, waited_little
from lab.ways import proxy

STOPS = ("compile1",)
FORWARD_TO = "compile2"
KEEPALIVE = 4


def run(lab):
    agent = lab.agent()
    lab.time_healthy_run(agent)
    pause = agent.pause()
    traffic = lab.traffic()
    with lab.shim() as shim:
        under_way = agent.start(proxy(), pause=pause)
        pause.reached()
        if not {"environment", "plugins"} <= traffic.kinds() or "catalog" in traffic.kinds():
            raise Unmet(f"facts are collected at another time, after: {', '.join(sorted(traffic.kinds()))}")
        lab.server("compile1").stop()
        pause.lasts(KEEPALIVE + 0.5)
        outcome = under_way.outcome(120).succeeded().printed("compiled by compile2.example.test")
        unnoticed(outcome)
        traffic.went(agent, environment="compile1", plugins="files", catalog="compile2", report="compile2")
        traffic.delivered()
        waited_little(lab, compiled(shim))
    lab.cost("the run, without its pause", outcome.seconds - pause.length)
