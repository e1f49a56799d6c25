"""What a server wrote down: who asked for what, from where, and what became of it.

Two lines make a request. The authorization layer's comes first and names the certificate; Jetty's own comes when the
answer is out. Path and address join them: one agent asks one thing at a time, and where two run at once, at one server,
only the paths that have a certname in them say whose request it was.
"""

import ipaddress
import re
from dataclasses import dataclass

CALLER = re.compile(r"\S+ caller Request to '(?P<path>.*?)' from '((?P<certname>[^'(]+)\()?(?P<address>[^')]+)\)?' .*"
                    r" - request (allowed|denied)$")
REQUEST = re.compile(r"\S+ request (?P<address>\S+) (?P<status>\d+)"
                     r" (?P<method>\S+) (?P<path>[^ ?]+)(\?(?P<query>\S*))? HTTP/\S+$")

# The authorization layer also tells of each rule that it passes by.
NOISE = " - continuing matching"

# What an agent asks for, in the order of its first run: the name scenarios use, the method, the path and query.
KINDS = [
    ("bundle", "GET", r"/puppet-ca/v1/certificate/ca\?.*"),
    ("crl", "GET", r"/puppet-ca/v1/certificate_revocation_list/ca\?.*"),
    ("csr", "PUT", r"/puppet-ca/v1/certificate_request/.*"),
    ("certificate", "GET", r"/puppet-ca/v1/certificate/.*"),
    # Which environment, and does it exist? The second question is a file request, yet it goes to the compiler.
    ("environment", "GET", r"/puppet/v3/node/.*"),
    ("environment", "GET", r"/puppet/v3/file_metadatas/plugins\?.*recurse=false.*"),
    ("plugins", "GET", r"/puppet/v3/file_(metadata|content)s?/(plugins|pluginfacts)\b.*"),
    ("catalog", "POST", r"/puppet/v3/catalog/.*"),
    ("file", "GET", r"/puppet/v3/file_(metadata|content)s?/.*"),
    ("report", "PUT", r"/puppet/v3/report/.*"),
    # This one no agent asks: it is the administrator's command on the CA's own host.
    ("signing", "PUT", r"/puppet-ca/v1/certificate_status/.*"),
]


@dataclass(frozen=True)
class Request:
    server: str
    certname: str | None
    address: str
    status: int
    kind: str
    what: str


class AccessLog:
    def __init__(self, server, path):
        self.server = server
        self.path = path

    def size(self):
        return self.path.stat().st_size if self.path.exists() else 0

    def text(self, since):
        if not self.path.exists():
            return ""
        with self.path.open("rb") as log:
            log.seek(since)
            lines = log.read().decode(errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if NOISE not in line)

    def requests(self, since):
        """The requests finished since the log had that size."""
        callers = {}
        for line in self.text(since).splitlines():
            if caller := CALLER.match(line):
                callers[caller["path"], caller["address"]] = caller["certname"]
            elif request := REQUEST.match(line):
                yield Request(
                    server=self.server,
                    certname=callers.pop((request["path"], request["address"]), None),
                    address=str(ipaddress.ip_address(request["address"].strip("[]"))),
                    status=int(request["status"]),
                    kind=kind_of(request),
                    what=f"{request['method']} {request['path']} {request['status']}",
                )


def kind_of(request):
    """The name for what was asked for; "other" for what nobody here should ask."""
    target = f"{request['path']}?{request['query'] or ''}"
    for kind, method, pattern in KINDS:
        if request["method"] == method and re.fullmatch(pattern, target):
            return kind
    return "other"
