"""An agent that is told which of the host's addresses to use.

`sourceaddress` binds the agent's socket, but that one only leads to the shim. The servers see the address only if
the shim binds its own socket to it.
"""

from lab import plan
from lab.ways import proxy


def run(lab):
    agent = lab.agent()
    traffic = lab.traffic()
    with lab.shim():
        agent.run(proxy(), sourceaddress=plan.SECOND_ADDRESS).succeeded()
    traffic.went(agent, compile="compile1", plugins="files", report="compile2", addresses={plan.SECOND_ADDRESS})
