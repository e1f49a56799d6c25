"""DNS is gone, and the shim has been restarted since.

It has written down what DNS said when it was still there, and what it said is past its TTL: five seconds. The run goes
the same ways as before, with a moment's wait, and the log says how old the answers are.
"""

import time

from lab.failover import unnoticed
from lab.process import pass_until
from lab.ways import proxy

# Of every record in the zone, with the floor that the shim puts under it.
TTL = 5


def run(lab):
    agent = lab.agent()
    way = proxy(domain="brief.test")
    with lab.shim(domain="brief.test") as shim:
        agent.run(way).succeeded().printed("compiled by compile1.example.test")
        over = time.monotonic()
        with lab.dns.stopped():
            shim.restart()
            pass_until(over + TTL + 1)
            traffic, since = lab.traffic(), shim.written()
            outcome = agent.run(way).succeeded().printed("compiled by compile1.example.test")
            unnoticed(outcome)
            traffic.went(agent, compile="compile1", plugins="files", report="compile2")
            traffic.delivered()
            for owner in ("_x-puppet", "_x-puppet-fileserver", "_x-puppet-report"):
                shim.said(" carried ", f"{owner}._tcp.brief.test kept on disk, stale since ", since=since)
