"""The first compiler accepts, and then says nothing.

It was well in the run before: its certificate is known, and runs are pinned to it. Then its process is stopped where
it stands, as one that is swapping or collecting garbage. The kernel completes the TCP connection for it, so it takes
more than a connect to notice: the agent's TLS hello has no answer. The shim has the hello still, and gives it to the
second compiler.
"""

from lab.failover import two_runs

FORWARD_TO = "compile2"


def run(lab):
    two_runs(lab, lab.server("compile1").mute(), "accepted and said nothing", well_before=True)
