"""A repository for apt, in the machine itself, with one package in it."""

import hashlib
import shutil

from lab.process import run

DIRECTORY = "/srv/packages"


class Repository:
    def __init__(self, machine):
        self.directory = machine.path(DIRECTORY)
        self.directory.mkdir(parents=True)
        # In place of the mirror, which nothing in the machine reaches.
        machine.write("/etc/apt/sources.list", f"deb [trusted=yes] file:{DIRECTORY} ./\n")

    def offer(self, deb):
        """What `apt-get update` finds from now on."""
        shutil.copy(deb, self.directory)
        control = run(["dpkg-deb", "--field", str(deb)]).strip()
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        index = f"{control}\nFilename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"
        (self.directory / "Packages").write_text(index)
