"""A file from a web server that is no Puppet server.

An agent that has a proxy sends its `http://` sources there too. With `foreign = "direct"` the shim fetches them where
they are; everything of Puppet's goes its way as before.
"""

from lab.ways import proxy


def run(lab):
    agent = lab.agent()
    traffic = lab.traffic()
    web = lab.web.traffic()
    with lab.shim(foreign="direct"):
        agent.run(proxy(), sources=["http://web.example.test/hello.txt"]).succeeded()
    agent.got("hello.txt", "hello from the web")
    web.went(["HEAD /hello.txt", "GET /hello.txt"])
    traffic.went(agent, compile="compile1", plugins="files", report="compile2")
