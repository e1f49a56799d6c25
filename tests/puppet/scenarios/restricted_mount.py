"""A mount that its server opens to one certname only.

The agent of that name gets the file through the shim; another agent, through the same shim on the same host, is
refused, and it is the file server that refuses. So it is the agent's own certificate that arrives there.
"""

from lab.ways import proxy

SOURCE = "puppet://puppetfiles.example.test/restricted/whoami"
WAY = {"compile": "compile1", "plugins": "files", "file": "files", "report": "compile2"}


def run(lab):
    admitted = lab.agent("admitted")
    other = lab.agent()
    with lab.shim():
        traffic = lab.traffic()
        admitted.run(proxy(), sources=[SOURCE]).succeeded()
        admitted.got("whoami", "files")
        traffic.went(admitted, **WAY)
        traffic.answered("file", 200)

        traffic = lab.traffic()
        other.run(proxy(), sources=[SOURCE]).failed().printed("Forbidden request", "/restricted/whoami")
        traffic.went(other, **WAY)
        traffic.answered("file", 403)
