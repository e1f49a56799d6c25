"""`puppet-shim setup --mode port` sends an agent with a stock puppet.conf through the shim, one name for all roles, and takes
it off again.

The port tells the role. It needs no listener for it, for the agent names the port to its proxy.
"""

from lab.setup import SetUp

FORWARD_TO = "ca"


def run(lab):
    setup = SetUp(lab, lab.new_agent("setup-by-port"))
    with lab.shim(config=setup.configuration) as shim:
        setup.comes_and_goes("port", shim, says=[
            "+http_proxy_host = 127.0.0.1",
            "+ca_port = 8141",
            "+report_port = 8142",
            "+pluginsource = puppet://puppet:8143/plugins",
            "+pluginfactsource = puppet://puppet:8143/pluginfacts",
        ])
        # Another mode is another thing to undo.
        setup.done("--mode", "port", "--apply")
        setup.refused("--mode", "proxy", says="set up in port mode")
        setup.done("--undo")
