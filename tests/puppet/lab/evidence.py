"""What a scenario demands, and the servers' access logs as its witness."""

from lab import plan
from lab.process import wait_until

# Seconds that the last line of a log may take, on a machine that is busy with much else.
PATIENCE = 60

AGENT_HOST = frozenset([plan.ipv4("agent"), plan.ipv6("agent")])

# What an agent sets out for, and the kinds of request (see accesslog.KINDS) that it takes.
ERRANDS = {
    "ca": ["bundle", "crl", "csr", "certificate"],
    "compile": ["environment", "catalog"],
    # The two halves of it, where they go to two servers.
    "environment": ["environment"],
    "catalog": ["catalog"],
    "plugins": ["plugins"],
    "file": ["file"],
    "report": ["report"],
}


class Unmet(Exception):
    """What a scenario demands did not happen."""


class Traffic:
    """All that reached any server since this was made."""

    def __init__(self, servers):
        self.logs = [server.access_log for server in servers]
        self.since = {log: log.size() for log in self.logs}

    def requests(self):
        return [request for log in self.logs for request in log.requests(self.since[log])]

    def kinds(self):
        return {request.kind for request in self.requests()}

    def went(self, agent, addresses=AGENT_HOST, **errands):
        """The agent went exactly these ways, errand=server.

        Every kind of request that the errand takes was made, to that server and to no other, and nothing else was asked
        of anybody. The servers saw the agent's certname, and one of these addresses, which are the agent host's.
        """
        way = {kind: server for errand, server in errands.items() for kind in ERRANDS[errand]}
        # A server writes its line just after the agent has its answer.
        wait_until(lambda: set(way) <= self.kinds(), PATIENCE, f"a request of each kind: {', '.join(way)}", Unmet)
        for request in self.requests():
            if request.kind == "signing":
                continue
            if request.kind not in way:
                raise Unmet(f"{request.server} should not have been asked: {request.what}")
            if request.server != way[request.kind]:
                raise Unmet(f"{request.kind} should go to {way[request.kind]}, not to {request.server}: {request.what}")
            # An agent gets its certificate without one to show.
            if request.kind not in ERRANDS["ca"] and request.certname != agent.certname:
                raise Unmet(f"{request.server} saw the certname {request.certname}: {request.what}")
            if request.address not in addresses:
                raise Unmet(f"{request.server} saw the address {request.address}: {request.what}")

    def went_one_way(self, agent, errands, servers):
        """All of these errands, and no other, went to one and the same of these servers, which is returned."""
        wait_until(self.requests, PATIENCE, "a request", Unmet)
        server = self.requests()[0].server
        if server not in servers:
            raise Unmet(f"{server} should not have been asked at all")
        self.went(agent, **dict.fromkeys(errands, server))
        return server

    def delivered(self):
        """The report came, and was taken."""
        self.answered("report", 200)

    def has(self, kind, status):
        """Has there been a request of this kind that was answered like this?"""
        return any((request.kind, request.status) == (kind, status) for request in self.requests())

    def saw(self, kind, address):
        """All requests of this kind came from that address."""
        found = {request.address for request in self.requests() if request.kind == kind}
        if found != {address}:
            raise Unmet(f"{kind} came from {sorted(found)}, not {address}")

    def answered(self, kind, status):
        """There was a request of this kind, and all of them were answered like this."""
        found = {request.status for request in self.requests() if request.kind == kind}
        if found != {status}:
            raise Unmet(f"{kind} was answered {sorted(found)}, not {status}")

    def text(self):
        """The logs themselves, for a person to read."""
        return "".join(f"-- access log of {log.server}\n{log.text(self.since[log])}" for log in self.logs)
