"""All compilers are stopped.

No catalog can come, and the agent has to hear why: its own output carries the shim's reason, with each server that was
tried and what it did.
"""

from lab.ways import proxy

STOPPED = ("compile1", "compile2")


def run(lab):
    agent = lab.agent()
    traffic = lab.traffic()
    with lab.shim():
        outcome = agent.run(proxy()).failed()
    outcome.printed("Request to https://puppet.example.test:8140/puppet/v3 failed",
                    "compile1.example.test:8140", "compile2.example.test:8140", "refused")
    outcome.printed("Could not retrieve catalog")
    traffic.went(agent)
