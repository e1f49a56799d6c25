"""The DNS server: knot, authoritative for the zones under conf/zones and for nothing else."""

import shutil

from lab import plan
from lab.process import Failure, Process, wait_until
from lab.template import CONF, fill


class Dns:
    def __init__(self, host, directory):
        self.host = host
        self.directory = directory
        self.process = None

    def up(self):
        shutil.copytree(CONF / "zones", self.directory)
        shutil.chown(self.directory, "knot", "knot")
        config = self.directory / "knot.conf"
        config.write_text(fill("knot.conf", directory=self.directory, ipv4=plan.ipv4("dns"), ipv6=plan.ipv6("dns")))
        self.process = Process(self.host.argv("knotd", "--config", str(config)), self.directory / "log")
        try:
            wait_until(lambda: self.process.listens(53), 20, "knot listens on port 53")
        except Failure as failure:
            raise Failure(f"{failure}\n{self.process.log.read_text()}") from None

    def down(self):
        if self.process:
            self.process.kill()
