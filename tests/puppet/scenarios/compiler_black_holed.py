"""The first compiler's packets are dropped.

Its host is there and answers nothing, neither yes nor no: a firewall, or a network that has lost its way back. Nothing
tells that from a slow server but the time it takes, and the agent itself would give it two minutes for each of its
addresses. The shim asks the second compiler too after a quarter of a second.
"""

from lab.failover import two_runs

FORWARD_TO = "compile2"


def run(lab):
    two_runs(lab, lab.server("compile1").black_holed(), "did not answer")
