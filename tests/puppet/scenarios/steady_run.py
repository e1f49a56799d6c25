"""A steady run: an agent that has its certificate asks for everything but that.

Plugins come from the file server and the catalog from the compiler of the better priority; the report goes to the
report server. The shim runs without a configuration file and finds the domain and the DNS server by itself. Its own
log tells the same as the servers'.
"""

from lab.ways import proxy


def run(lab):
    agent = lab.agent()
    traffic = lab.traffic()
    with lab.shim() as shim:
        agent.run(proxy()).succeeded().printed("compiled by compile1.example.test")
    traffic.went(agent, compile="compile1", plugins="files", report="compile2")
    shim.logged(role="compile", name="puppet.example.test", server="compile1.example.test:8140")
    shim.logged(role="files", name="puppetfiles.example.test", server="files.example.test:8143")
    shim.logged(role="report", name="puppetreport.example.test", server="compile2.example.test:8140")
