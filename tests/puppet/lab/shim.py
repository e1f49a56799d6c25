"""The program under test, on the agent's host; or the plain forwarder in its place."""

import json
import os
import re
from pathlib import Path

from lab import plan
from lab.evidence import PATIENCE, Unmet
from lab.process import Failure, Process, wait_until

REPOSITORY = Path(__file__).parents[3]
MODULE = REPOSITORY / "packaging" / "puppet-module"
FORWARDER = Path(__file__).parent / "forwarder"
DEFAULT_LISTEN = ["127.0.0.1:8139", "[::1]:8139"]


def binary():
    path = Path(os.environ.get("PUPPET_SHIM", REPOSITORY / "target" / "release" / "puppet-shim")).absolute()
    if not os.access(path, os.X_OK):
        raise Failure(f"{path} is not there: build it, or name another in the variable PUPPET_SHIM")
    return str(path)


class Shim:
    """A context: inside it the shim runs for one way in, with these settings on top."""

    # Seconds to wait for a line of its log.
    patience = PATIENCE

    def __init__(self, host, directory, way, settings, config=None):
        self.host = host
        self.directory = directory
        self.way = way
        self.settings = settings | ({"listen": way.listen} if way.listen else {})
        # A file that somebody else has written, in place of the settings.
        self.config = config
        self.process = None

    def command(self):
        """Without a setting there is no file either: the defaults have to do."""
        if self.config:
            return [binary(), "run", "--config", str(self.config)]
        if not self.settings:
            return [binary(), "run"]
        config = self.directory / "shim.toml"
        # Strings and lists of strings are written alike in JSON and TOML.
        config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in self.settings.items()))
        return [binary(), "run", "--config", str(config)]

    def __enter__(self):
        self.directory.mkdir()
        self.host.alias(*self.way.aliases)
        return self.start()

    def start(self):
        log = self.directory / "shim.log"
        # What it remembers of its servers must not leak into the next scenario.
        self.process = Process(self.host.argv(*self.command()), log, {"STATE_DIRECTORY": str(self.directory)})

        def listening():
            if not self.process.running():
                raise Failure(f"the shim did not start\n{log.read_text()}")
            return all(self.process.listens(port) for port in self.way.ports)
        wait_until(listening, PATIENCE, "the shim listens")
        return self

    def restart(self):
        """End it in good order, and start it again; its log and its state stay."""
        if self.process.terminate(PATIENCE) != 0:
            raise Unmet("the shim was told to end and did not end well")
        self.start()

    def said(self, *words, since=0):
        """All of these words in one line of its log, not counting the first `since` characters of that."""
        def found():
            lines = self.process.log.read_text()[since:].splitlines()
            return any(all(word in line for word in words) for line in lines)
        wait_until(found, self.patience, f"the shim logs a line with all of: {', '.join(words)}", Unmet)

    def written(self):
        """How long its log is, for `said`."""
        return len(self.process.log.read_text())

    def __exit__(self, error, *_):
        self.host.alias()
        code = self.process.terminate(PATIENCE)
        if code != 0 and error is None:
            raise Unmet(f"the shim was told to end and did not end well: exit {code}")

    def logged(self, **fields):
        """One line of the shim's log has all of these fields. It writes the line when the connection is over."""
        def found():
            return any(fields.items() <= fields_of(line).items() for line in self.process.log.read_text().splitlines())
        wait_until(found, self.patience, f"the shim logs a line with {fields}", Unmet)

    def warned_once(self, about, *words):
        """It has warned of this once, in a line that has all of these words too."""
        def found():
            return [line for line in self.process.log.read_text().splitlines() if " WARN " in line and about in line]
        wait_until(found, self.patience, f"the shim warns of {about}", Unmet)
        if len(found()) > 1:
            raise Unmet(f"the shim warned of {about} {len(found())} times")
        if lacks := [word for word in words if word not in found()[0]]:
            raise Unmet(f"the shim's warning lacks {', '.join(lacks)}: {found()[0]}")

    def mark(self):
        """Where its log stands, for `served`."""
        return len(self.connections())

    def served(self, since=0, roles=("compile", "files", "report")):
        """Its lines on the connections of a run that is over, as their fields; `since` is from `mark`."""
        def found():
            lines = self.connections()[since:]
            over = not any(self.process.serves(port) for port in self.way.ports)
            return lines if over and set(roles) <= {line.get("role") for line in lines} else None
        return wait_until(found, self.patience, f"the shim logs connections for {', '.join(roles)}", Unmet)

    def connections(self):
        """The fields of each line on a connection."""
        lines = map(fields_of, self.process.log.read_text().splitlines())
        return [fields for fields in lines if {"from", "end"} <= set(fields)]


def fields_of(line):
    """The key=value pairs of a line; a value with spaces is in double quotes."""
    return dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line))


class ForwarderShim(Shim):
    """The same, played by a forwarder that takes everything to one server."""

    # It has no such log.
    patience = 5

    def __init__(self, host, directory, way, settings, server):
        super().__init__(host, directory, way, settings)
        self.server = server

    def command(self):
        listen = self.way.listen or DEFAULT_LISTEN
        return [str(FORWARDER), "--to", f"{plan.ipv4(self.server)}:{plan.SERVERS[self.server]}", *listen]
