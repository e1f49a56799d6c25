"""The first compiler is stopped.

Its SRV record still has the better priority, and its host refuses the connection. The agent's run goes to the second
compiler at once, and nothing in it fails.
"""

from lab.failover import compiled, unnoticed, waited_little
from lab.ways import proxy

STOPPED = ("compile1",)
FORWARD_TO = "compile2"


def run(lab):
    agent = lab.agent()
    lab.time_healthy_run(agent)
    traffic = lab.traffic()
    with lab.shim() as shim:
        outcome = agent.run(proxy()).succeeded().printed("compiled by compile2.example.test")
        unnoticed(outcome)
        traffic.went(agent, compile="compile2", plugins="files", report="compile2")
        traffic.delivered()
        waited_little(lab, compiled(shim))
    lab.cost("the run", outcome.seconds)
