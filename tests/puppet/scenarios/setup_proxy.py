"""`puppet-shim setup --mode proxy` sends an agent with a stock puppet.conf through the shim, and takes it off again.

Each role goes to servers of its own by a name of its own, from the first run on. What no certificate could bear is refused
beforehand. A proxy that the agent has already becomes the shim's own. Its first run believes no CA but the one whose fingerprint
it was given.
"""

import hashlib
import signal

from lab import plan
from lab.evidence import Unmet
from lab.process import wait_until
from lab.setup import SetUp

FORWARD_TO = "ca"


def run(lab):
    agent = lab.new_agent("setup-by-proxy")
    certificate = lab.ca.directory / "ca" / "ca_crt.pem"
    setup = SetUp(lab, agent, ca_fingerprint=hashlib.sha256(certificate.read_bytes()).hexdigest())
    with lab.shim(config=setup.configuration) as shim:
        def use():
            shim.process.signal(signal.SIGHUP)
            traffic = lab.traffic()
            agent.run(None).succeeded().printed("Verified CA bundle with digest (SHA256)")
            traffic.went(agent, ca="ca", compile="compile1", plugins="files", report="compile2")

        setup.comes_and_goes("proxy", shim, use, says=[
            f"puppet config set ca_server puppetca.{plan.DOMAIN} --section main".replace("puppet ", f"{setup.puppet} ", 1),
            "http_proxy_port 8139",
            f"+report_server = puppetreport.{plan.DOMAIN}",
            f"+pluginsource = puppet://puppetfiles.{plan.DOMAIN}/plugins",
            f'+certname = "{agent.certname}"',
        ])
        setup.name(f"primary.{plan.DOMAIN}")
        setup.refused("--mode", "proxy", says=f"no server of compile has primary.{plan.DOMAIN} in its certificate")
        setup.name(f"puppet.{plan.DOMAIN}", no_proxy=f"localhost, .{plan.DOMAIN}")
        setup.refused("--mode", "proxy", says="no_proxy in puppet.conf")

        setup.name(f"puppet.{plan.DOMAIN}", http_proxy_host="proxy.example.net", http_proxy_port=3128)
        before = setup.sums()
        setup.done("--mode", "proxy", "--apply", says=['+foreign = "http://proxy.example.net:3128"'])
        shim.process.signal(signal.SIGHUP)
        wait_until(lambda: "foreign" in shim.process.log.read_text(), 5, "the shim takes the proxy over", Unmet)
        traffic = lab.traffic()
        agent.run(None).succeeded()
        traffic.went(agent, compile="compile1", plugins="files", report="compile2")
        setup.done("--undo", says=["byte for byte"])
        setup.unchanged(before, "setup --undo")
