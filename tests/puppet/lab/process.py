"""Children of the lab, and waiting for what they do."""

import os
import signal
import subprocess
import time
from pathlib import Path

# Nothing of the caller's environment reaches a child: an http_proxy in it would beat every puppet.conf.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
}

# States of a TCP socket, as /proc writes them.
ESTABLISHED = "01"
LISTENING = "0A"


class Failure(Exception):
    """The lab itself does not work: no verdict on what is under test."""


def run(argv, env=None, timeout=600):
    """Run a command to its end and return its output; Failure, with that output, if it ends badly."""
    done = subprocess.run(argv, env=ENVIRONMENT | (env or {}), timeout=timeout, text=True, errors="replace",
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise Failure(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def wait_until(condition, seconds, what, error=Failure):
    """Poll until `condition` returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise error(f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)
    return found


def pass_until(moment):
    """Let time pass until the monotonic clock shows this: for stories that are about time."""
    time.sleep(max(0, moment - time.monotonic()))


def sockets(pid):
    """Local port and state of each TCP socket in the network namespace of this process."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            local, _, state = line.split()[1:4]
            yield int(local.rpartition(":")[2], 16), state


class Process:
    """A child in a session of its own, so that an interrupt at the terminal is left to the lab to pass on."""

    def __init__(self, argv, log, env=None):
        self.log = Path(log)
        with self.log.open("ab") as out:
            self.child = subprocess.Popen(argv, env=ENVIRONMENT | (env or {}), cwd="/", start_new_session=True,
                                          stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    def running(self):
        return self.child.poll() is None

    def wait(self, seconds):
        """The exit code; None, and the child is killed, if it takes longer."""
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def terminate(self, seconds):
        """Ask it to stop, and return what it made of it like `wait`."""
        if self.running():
            self.child.terminate()
        return self.wait(seconds)

    def signal(self, number):
        """To the child alone."""
        self.child.send_signal(number)

    def kill(self):
        """End the child and whatever it started."""
        if self.running():
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()

    def listens(self, port):
        """Does it, or a neighbour in its network namespace, listen on this TCP port? Asked without connecting."""
        return (port, LISTENING) in self.sockets()

    def serves(self, port):
        """Has anybody a connection to this TCP port, in its network namespace?"""
        return (port, ESTABLISHED) in self.sockets()

    def sockets(self):
        try:
            return list(sockets(self.child.pid))
        except OSError:
            # One that has ended is in no namespace.
            return []
