"""`puppet-shim setup --mode proxy` sends an agent with a stock puppet.conf through the shim, and takes it off again.

Each role goes to servers of its own by a name of its own, from the first run on. What no certificate could bear is refused
beforehand, and what DNS has no server for. A proxy that the agent has already becomes the shim's own, and so does its list of
servers. Its first run believes no CA but the one whose fingerprint it was given.
"""

import hashlib

from lab import plan
from lab.setup import SetUp

FORWARD_TO = "ca"


def run(lab):
    agent = lab.new_agent("setup-by-proxy")
    certificate = lab.ca.directory / "ca" / "ca_crt.pem"
    setup = SetUp(lab, agent, ca_fingerprint=hashlib.sha256(certificate.read_bytes()).hexdigest())
    with lab.shim(config=setup.configuration) as shim:
        outcome = setup.comes_and_goes("proxy", shim, says=[
            f"{setup.puppet} config set ca_server puppetca.{plan.DOMAIN} --section main",
            "http_proxy_port 8139",
            f"+report_server = puppetreport.{plan.DOMAIN}",
            f"+pluginsource = puppet://puppetfiles.{plan.DOMAIN}/plugins",
            f'+certname = "{agent.certname}"',
        ])
        outcome.printed("Verified CA bundle with digest (SHA256)")
        setup.name(f"primary.{plan.DOMAIN}")
        setup.refused("--mode", "proxy", says=f"no server of compile has primary.{plan.DOMAIN} in its certificate")
        setup.name(f"puppet.{plan.DOMAIN}", no_proxy=f"localhost, .{plan.DOMAIN}")
        setup.refused("--mode", "proxy", says="no_proxy in puppet.conf")
        setup.name("puppet.empty.plain.test")
        setup.refused("--mode", "proxy", says="role compile has no server that the agent could be taken to")

        setup.name(f"puppet.{plan.DOMAIN}", http_proxy_host="proxy.example.net", http_proxy_port=3128)
        before = setup.sums()
        setup.done("--mode", "proxy", "--apply", says=['+foreign = "http://proxy.example.net:3128"'])
        setup.read_anew(shim, "foreign")
        setup.run(compile="compile1", plugins="files", report="compile2")
        setup.done("--undo", says=["byte for byte"])
        setup.unchanged(before, "setup --undo")

        # Where there are no records. By the name alone it would be compile2.
        setup.name("puppet.plain.test", server_list="compile1.example.test:8140 , compile2.example.test")
        before = setup.sums()
        servers = '+role.compile.servers = ["compile1.example.test:8140", "compile2.example.test"]'
        setup.done("--mode", "proxy", "--apply", says=["config delete server_list", servers])
        setup.read_anew(shim, "role.compile")
        setup.run(compile="compile1", plugins="compile1", report="compile1")
        setup.done("--undo", says=["byte for byte"])
        setup.unchanged(before, "setup --undo")
