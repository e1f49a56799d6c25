"""The DNS server: knot, authoritative for the zones under conf/zones and for nothing else."""

import re
import shutil
import signal
from contextlib import contextmanager

from lab import plan
from lab.process import Failure, Process, wait_until
from lab.template import CONF, fill


class Dns:
    def __init__(self, host, directory):
        self.host = host
        self.directory = directory
        self.log = directory.with_suffix(".log")
        self.serial = 1
        self.process = None

    def up(self):
        shutil.copytree(CONF / "zones", self.directory)
        shutil.chown(self.directory, "knot", "knot")
        config = self.directory / "knot.conf"
        config.write_text(fill("knot.conf", directory=self.directory, ipv4=plan.ipv4("dns"), ipv6=plan.ipv6("dns")))
        self.start()

    def start(self):
        self.process = Process(self.host.argv("knotd", "--config", str(self.directory / "knot.conf")), self.log)
        try:
            wait_until(lambda: self.process.listens(53), 20, "knot listens on port 53")
        except Failure as failure:
            raise Failure(f"{failure}\n{self.log.read_text()}") from None

    def down(self):
        if self.process:
            self.process.kill()

    @contextmanager
    def stopped(self):
        """Inside it nobody answers: the host does, with a refusal."""
        self.down()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def changed(self, zone, old, new):
        """Inside it a zone has another text in one place."""
        path = self.directory / f"{zone}.zone"
        before = path.read_text()
        self.publish(zone, before.replace(old, new))
        try:
            yield
        finally:
            self.publish(zone, before)

    def publish(self, zone, text):
        """Serve this as the zone, whose serial says `1`, with the next serial."""
        self.serial += 1
        path = self.directory / f"{zone}.zone"
        path.write_text(re.sub(r"(SOA\s+\S+\s+\S+) \d+", rf"\1 {self.serial}", text, count=1))
        self.process.signal(signal.SIGHUP)
        wait_until(lambda: re.search(rf"\[{zone}\.\].* -> {self.serial}\b", self.log.read_text()), 20,
                   f"knot serves {zone} with the serial {self.serial}")
