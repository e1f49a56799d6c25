"""`puppet-shim setup --mode port` sends an agent with a stock puppet.conf through the shim, one name for all roles, and takes
it off again.

The port tells the role. It needs no listener for it, for the agent names the port to its proxy.
"""

import signal

from lab import plan
from lab.setup import SetUp

FORWARD_TO = "ca"


def run(lab):
    agent = lab.new_agent("setup-by-port")
    setup = SetUp(lab, agent)
    with lab.shim(config=setup.configuration) as shim:
        def use():
            shim.process.signal(signal.SIGHUP)
            traffic = lab.traffic()
            agent.run(None).succeeded()
            traffic.went(agent, ca="ca", compile="compile1", plugins="files", report="compile2")

        setup.comes_and_goes("port", shim, use, says=[
            "+http_proxy_host = 127.0.0.1",
            "+ca_port = 8141",
            "+report_port = 8142",
            f"+pluginsource = puppet://puppet.{plan.DOMAIN}:8143/plugins",
            f"+pluginfactsource = puppet://puppet.{plan.DOMAIN}:8143/pluginfacts",
        ])
        # Another mode is another thing to undo.
        setup.done("--mode", "port", "--apply")
        setup.refused("--mode", "proxy", says="set up in port mode")
        setup.done("--undo")
