"""The lab's site: its network and DNS, and of its servers those that the scenarios here need, shared by all of them."""

import time
from contextlib import ExitStack
from pathlib import Path

from lab.site import Site

# Either compiles. Each has one JRuby, so that two catalogs at a time need both.
SERVERS = ("ca", "compile1")

# Seconds: an agent's connection is kept over an installation that takes long.
IDLE = 1200

ENVIRONMENTS = Path(__file__).parent.parent / "environments"


class Shared:
    """A context. What is asked for inside it stays up until its end."""

    def __init__(self):
        self.site = None
        self.undo = ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.undo.close()

    def up(self, servers=True):
        """The site; with its servers ready, unless they are not wanted."""
        if not self.site:
            self.timed("the lab's network", self.enter)
        if servers and not all(server.running() for server in self.site.servers.values()):
            self.timed("the lab's servers", self.site.run_servers)
        return self.site

    def enter(self):
        self.site = self.undo.enter_context(Site(SERVERS, ENVIRONMENTS, IDLE))

    @staticmethod
    def timed(what, step):
        began = time.monotonic()
        step()
        print(f"{what}  {time.monotonic() - began:.1f} s", flush=True)
