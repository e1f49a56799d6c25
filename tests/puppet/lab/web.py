"""A web server that is no Puppet server: Python's own, on port 80 of its host."""

import re

from lab import plan
from lab.evidence import AGENT_HOST, Unmet
from lab.process import Process, wait_until

REQUEST = re.compile(r'(?P<address>\S+) \S+ \S+ \[.*?\] "(?P<method>\S+) (?P<target>\S+) ')


class Web:
    def __init__(self, host, directory):
        self.host = host
        self.directory = directory
        self.log = directory.parent / "web.log"
        self.process = None

    def up(self):
        self.directory.mkdir()
        (self.directory / "hello.txt").write_text("hello from the web\n")
        command = ["/usr/bin/python3", "-u", "-m", "http.server", "--bind", plan.ipv4("web"),
                   "--directory", str(self.directory), "80"]
        self.process = Process(self.host.argv(*command), self.log)
        wait_until(lambda: self.process.listens(80), 60, "the web server listens")

    def down(self):
        if self.process:
            self.process.kill()

    def traffic(self):
        """What reaches this server from now on."""
        return WebTraffic(self.log)


class WebTraffic:
    def __init__(self, log):
        self.log = log
        self.since = log.stat().st_size

    def went(self, wanted):
        """Exactly these requests, "METHOD TARGET", came, and they came from the agent's host."""
        found = list(REQUEST.finditer(self.log.read_text()[self.since:]))
        if [f"{request['method']} {request['target']}" for request in found] != wanted:
            raise Unmet(f"the web server got {[request[0] for request in found]}, not {wanted}")
        for request in found:
            if request["address"] not in AGENT_HOST:
                raise Unmet(f"the web server saw a strange address: {request[0]}")
