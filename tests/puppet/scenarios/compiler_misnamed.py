"""The first compiler's certificate lacks the name that agents ask for.

The site has a new domain, and all servers have certificates with its names but this one: it still has the old. An
agent that got there would find the wrong name, and would not go on to another server but fail its run. The shim looks
before the agent does, takes the run to the second compiler, and says what is wrong and what to do; not again with the
next run.
"""

from lab import plan
from lab.failover import unnoticed
from lab.ways import proxy

DOMAIN = "renamed.test"


def run(lab):
    agent = lab.agent()
    traffic = lab.traffic()
    with lab.shim(domain=DOMAIN, **{"certificates.ca_file": str(agent.ca_file)}) as shim:
        for _ in range(2):
            outcome = agent.run(proxy(domain=DOMAIN)).succeeded().printed("compiled by compile2.example.test")
            unnoticed(outcome)
        shim.warned_once("certificate", "compile1.example.test:8140", f"puppet.{DOMAIN}", "dns_alt_names",
                         f"puppet.{plan.DOMAIN}")
    traffic.went(agent, compile="compile2", plugins="files", report="compile2")
    traffic.delivered()
