"""The admin moves the compilers' record from one server to another.

The shim runs all the while. Once the TTL of the old record is over, the next run goes to the new server, and none of it
to the old one, though that is well and the last run was there.
"""

import time

from lab.process import pass_until
from lab.ways import proxy

# Of every record in the zone, with the floor that the shim puts under it.
TTL = 5


def run(lab):
    agent = lab.agent()
    way = proxy(domain="brief.test")
    with lab.shim(domain="brief.test") as shim:
        traffic = lab.traffic()
        agent.run(way).succeeded().printed("compiled by compile1.example.test")
        traffic.went(agent, compile="compile1", plugins="files", report="compile2")
        with lab.dns.changed("brief.test", "8140 compile1", "8140 compile2"):
            pass_until(time.monotonic() + TTL)
            traffic = lab.traffic()
            agent.run(way).succeeded().printed("compiled by compile2.example.test")
            traffic.went(agent, compile="compile2", plugins="files", report="compile2")
            shim.said("the servers have changed", "added=compile2.brief.test:8140", "removed=compile1.brief.test:8140")
