"""A file from `puppet://puppetfiles…`.

The catalog comes from a compiler and names a source on the official name of the file servers. Every server has a
file under that path, with its own name as the content.
"""

from lab.ways import proxy


def run(lab):
    agent = lab.agent()
    traffic = lab.traffic()
    with lab.shim():
        agent.run(proxy(), sources=["puppet://puppetfiles.example.test/lab/whoami"]).succeeded()
    agent.got("whoami", "files")
    traffic.went(agent, compile="compile1", plugins="files", file="files", report="compile2")
