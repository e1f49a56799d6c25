"""A file from one particular server.

The manifest names a compiler by its own name, not by an official one. The name is the target of an SRV record, so it
is not foreign, and it means that very server: not the compiler that the rest of the run uses.
"""

from lab.ways import proxy


def run(lab):
    agent = lab.agent()
    traffic = lab.traffic()
    with lab.shim():
        agent.run(proxy(), sources=["puppet://compile2.example.test/lab/whoami"]).succeeded()
    agent.got("whoami", "compile2")
    traffic.went(agent, compile="compile1", plugins="files", file="compile2", report="compile2")
