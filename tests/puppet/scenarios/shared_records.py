"""Roles with the same servers share one within a run.

Two compilers of equal weight serve the files and take the reports too. If each role were drawn on its own, plugins
would come from one server and the catalog from the other. A run is pinned instead: all of it goes to one server. The
next run is drawn anew, so that over many runs both servers have their share.
"""

import time

from lab.evidence import Unmet
from lab.process import pass_until
from lab.ways import proxy

FORWARD_TO = "files"
RUNS = 20

# Seconds after which a run is forgotten. The agent's start alone takes longer, before its first connection.
PIN = 0.5
SERVERS = ("compile1", "compile2")


def run(lab):
    agent = lab.agent()
    way = proxy(domain="pair.test")
    served = []
    with lab.shim(domain="pair.test", **{"timeouts.pin": f"{PIN * 1000:.0f}ms"}):
        for _ in range(RUNS):
            traffic = lab.traffic()
            agent.run(way, sources=[f"{way.files}/lab/whoami"]).succeeded()
            over = time.monotonic()
            served.append(traffic.went_one_way(agent, ["compile", "plugins", "file", "report"], SERVERS))
            agent.got("whoami", served[-1])
            pass_until(over + PIN)
    lab.notes.append(", ".join(f"{server} had {served.count(server)} runs" for server in SERVERS))
    if set(served) != set(SERVERS):
        raise Unmet(f"{RUNS} runs all went to {served[0]}")
