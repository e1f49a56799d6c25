"""Names that are nobody's.

A manifest names a file server of another site and a web server. The shim knows neither and is not told to let
foreign names through, so it refuses both. The agent prints the reason, which names the setting; for the web server it
only says that it got nothing, and the reason is in the shim's log.
"""

from lab.ways import proxy


def run(lab):
    agent = lab.agent()
    traffic = lab.traffic()
    web = lab.web.traffic()
    with lab.shim() as shim:
        outcome = agent.run(proxy(), sources=[
            "puppet://files.elsewhere.test/lab/whoami",
            "http://web.example.test/hello.txt",
        ])
    outcome.failed()
    outcome.printed("403", "foreign", "files.elsewhere.test")
    outcome.printed("Could not retrieve", "http://web.example.test/hello.txt")
    shim.logged(row="foreign", name="web.example.test", status="403")
    web.went([])
    traffic.went(agent, compile="compile1", plugins="files", report="compile2")
