"""A booted Debian: systemd as process 1 in a container, on the image with a layer of its own, in a network namespace of the bench."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from lab.evidence import Unmet
from lab.process import ENVIRONMENT, Failure, Process, run, wait_until

# systemd-nspawn puts its machine into the control group that it is in itself, and the machine's systemd takes that over.
HIERARCHIES = [path for path in map(Path, ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"))
               if (path / "cgroup.procs").exists()]

SOCKET = "puppet-shim.socket"
SERVICE = "puppet-shim.service"

INSIDE = {"HOME": "/root", "DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_COLORS": "0"}


class Machine:
    def __init__(self, image, directory, namespace):
        self.image = image
        self.directory = directory
        self.root = directory / "root"
        self.namespace = namespace
        self.group = f"puppetbench-{os.getpid()}"
        self.process = None
        self.pid = None

    def lay(self):
        """Its file system: what it changes, and what it adds, is in its own layer."""
        for part in ("upper", "work", "root"):
            (self.directory / part).mkdir(parents=True)
        # A file system of its own, since an overlay cannot be a layer of another.
        run(["mount", "-t", "tmpfs", "-o", "mode=0755", "bench", str(self.directory / "upper")])
        for part in ("upper", "work"):
            (self.directory / "upper" / part).mkdir()
        layers = f"lowerdir={self.image},upperdir={self.directory}/upper/upper,workdir={self.directory}/upper/work"
        run(["mount", "-t", "overlay", "-o", layers, "bench", str(self.root)])

    def lay_for_rpm(self):
        """What the package `filesystem` of EL 9 brings, and Debian has nothing of."""
        for directory in ("licenses", "fish/vendor_completions.d", "zsh/site-functions"):
            (self.root / "usr/share" / directory).mkdir(parents=True, exist_ok=True)

    def settle(self, name, address, nameserver):
        """Before it is booted: its name, under which its domain is, and its nameserver."""
        etc = self.root / "etc"
        (etc / "hostname").write_text(f"{name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{address} {name} {name.partition('.')[0]}\n")
        (etc / "resolv.conf").write_text(f"search {name.partition('.')[2]}\nnameserver {nameserver}\n")

    def boot(self):
        join = ""
        for hierarchy in HIERARCHIES:
            (hierarchy / self.group).mkdir(exist_ok=True)
            join += f"echo $$ >{hierarchy / self.group}/cgroup.procs; "
        nspawn = ["systemd-nspawn", "--quiet", "--boot", f"--directory={self.root}", "--register=no", "--keep-unit",
                  "--console=pipe", "--resolv-conf=off", "--timezone=off", f"--network-namespace-path={self.namespace.path}"]
        self.process = Process(["sh", "-c", f'{join}exec "$@"', "sh", *nspawn], self.directory / "console.log")
        self.pid = wait_until(self.init, 20, "systemd-nspawn starts process 1")
        try:
            wait_until(lambda: self.state() in ("running", "degraded"), 60, "the machine boots")
        except Failure as failure:
            raise Failure(f"{failure}\n{(self.directory / 'console.log').read_text(errors='replace')}") from None

    def init(self):
        """The machine's process 1, as this machine counts."""
        if not self.process.running():
            raise Failure(f"no machine\n{(self.directory / 'console.log').read_text(errors='replace')}")
        children = Path(f"/proc/{self.process.child.pid}/task/{self.process.child.pid}/children").read_text().split()
        # Before that one it has another, which passes for a moment.
        for child in children:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        return None

    def reboot(self):
        """Shut down in order, and booted again: the disk is the same, /run is not."""
        self.run("systemctl", "poweroff", check=False)
        if self.process.wait(60) is None:
            raise Failure("the machine does not shut down in a minute")
        for hierarchy in HIERARCHIES:
            self.prune(hierarchy / self.group)
        self.boot()

    def state(self):
        return self.run("systemctl", "is-system-running", check=False).strip()

    def down(self):
        if self.process and self.process.running():
            with contextlib.suppress(ProcessLookupError):
                if self.pid:
                    os.kill(self.pid, signal.SIGKILL)
            self.process.kill()
        for path in (self.root, self.directory / "upper"):
            if path.is_mount():
                run(["umount", "--lazy", str(path)])
        for hierarchy in HIERARCHIES:
            self.prune(hierarchy / self.group)

    @staticmethod
    def prune(group):
        """A control group goes when those below it, and the last process in it, are gone."""
        def gone():
            for directory in sorted(group.rglob("*/"), reverse=True) + [group]:
                if directory.is_dir():
                    try:
                        directory.rmdir()
                    except OSError:
                        return False
            return True
        wait_until(gone, 10, f"{group} is left")

    def run(self, *command, check=True, timeout=120, error=Failure):
        """Run a command in the machine and return what it printed."""
        done = subprocess.run(self.argv(*command), env=ENVIRONMENT | INSIDE, timeout=timeout, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if check and done.returncode:
            raise error(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
        return done.stdout

    def argv(self, *command):
        """The command line that runs `command` in the machine; its environment is to have what INSIDE says."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd",
                "--", *map(str, command)]

    def path(self, name):
        """A file of the machine, as this machine finds it."""
        return Path(f"/proc/{self.pid}/root") / str(name).lstrip("/")

    def write(self, name, text):
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def install(self, package):
        """As an administrator would: apt for a .deb that is at hand, rpm for an .rpm."""
        shutil.copy(package, self.path("/root"))
        name = f"/root/{package.name}"
        if package.suffix == ".deb":
            return self.run("apt-get", "install", "--yes", "--no-install-recommends", name, error=Unmet)
        # Debian's libraries are in no database that rpm knows.
        said = self.run("rpm", "--upgrade", "--nodeps", name, error=Unmet)
        # Debian's rpm begins by advising against itself.
        return "".join(line for line in said.splitlines(keepends=True) if not line.startswith("rpm: "))

    def property(self, unit, name):
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def active(self, unit):
        return self.property(unit, "ActiveState") == "active"

    def main_pid(self):
        """The daemon, as the machine counts; 0 if there is none."""
        return int(self.property(SERVICE, "MainPID"))

    def log(self):
        """What the daemon, and systemd about it, said."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={SERVICE}", f"--unit={SOCKET}")

    def said(self, *words, seconds=10):
        """All of these words in one line of the log."""
        def found():
            return any(all(word in line for word in words) for line in self.log().splitlines())
        wait_until(found, seconds, f"the log has a line with all of: {', '.join(words)}", Unmet)

    def evidence(self):
        if not self.process:
            return ""
        parts = [f"-- the machine's console\n{(self.directory / 'console.log').read_text(errors='replace')}"]
        if self.pid and self.process.running():
            # Knocking leaves hundreds of these.
            lines = [line for line in self.log().splitlines() if "the client closed after 0 bytes" not in line]
            parts += ["-- the log", *lines, f"-- the service\n{self.run('systemctl', 'status', '--no-pager', '--lines=0', SERVICE, SOCKET, check=False)}"]
        return "\n".join(parts)
