"""Between runs nothing is asked of DNS.

A run, then two minutes, in which every TTL of the zone ends many times over. Of the agent's host not one packet goes to
or comes from a nameserver, until the next run, which asks again.
"""

import time

from lab.evidence import Unmet
from lab.process import Process, pass_until, run as command, wait_until
from lab.ways import proxy

IDLE = 120


def run(lab):
    agent = lab.agent()
    way = proxy(domain="brief.test")
    with lab.shim(domain="brief.test"):
        traffic = lab.traffic()
        agent.run(way).succeeded()
        traffic.went(agent, compile="compile1", plugins="files", report="compile2")
        with Capture(agent.host, lab.directory) as capture:
            pass_until(time.monotonic() + IDLE)
            if packets := capture.packets():
                raise Unmet(f"{len(packets)} packets in {IDLE} s without a run: {packets[:3]}")
            agent.run(way).succeeded()
            wait_until(capture.packets, 5, "the next run asks DNS", Unmet)
    lab.notes.append(f"no packet in {IDLE} s, {len(capture.packets())} in the run after it")


class Capture:
    """A context: what a host has to say to nameservers, and they to it."""

    def __init__(self, host, directory):
        self.host = host
        self.file = directory / "dns.pcap"
        self.log = directory / "tcpdump.log"

    def __enter__(self):
        # As root, which owns the directory.
        argv = ("tcpdump", "-Z", "root", "-i", "any", "-n", "-U", "-w", str(self.file), "port", "53")
        self.process = Process(self.host.argv(*argv), self.log)
        wait_until(lambda: "listening on" in self.log.read_text(), 10, "tcpdump listens")
        return self

    def __exit__(self, *_):
        self.process.kill()

    def packets(self):
        lines = command(["tcpdump", "-n", "-r", str(self.file)]).splitlines()
        return [line for line in lines if not line.startswith(("reading from", "dropped privs", "Warning"))]
