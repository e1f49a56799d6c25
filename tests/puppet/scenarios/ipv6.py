"""IPv6, on both sides of the shim.

The agent reaches the shim at [::1]. The compiler of this domain has an AAAA record and no other, so it can only be
reached over IPv6, and sees the agent host's IPv6 address.
"""

from lab import plan
from lab.ways import proxy


def run(lab):
    agent = lab.agent()
    traffic = lab.traffic()
    with lab.shim(domain="six.test"):
        agent.run(proxy(domain="six.test", host="::1")).succeeded()
    traffic.went(agent, compile="compile1", plugins="files", report="compile2")
    traffic.saw("catalog", plan.ipv6("agent"))
