"""The first compiler is off the link.

Nobody answers ARP for it, as when the power of a host has failed. The kernel says `No route to host`, but only after
some three seconds, and the shim is with the second compiler long before.
"""

from lab.failover import two_runs

FORWARD_TO = "compile2"


def run(lab):
    two_runs(lab, lab.server("compile1").unplugged(), "did not answer")
