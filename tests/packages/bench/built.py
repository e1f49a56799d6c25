"""The packages under test, as packaging/build makes them: one to install, and a later one to upgrade to."""

import re
import shutil
import subprocess
from pathlib import Path

from lab.process import Failure

REPOSITORY = Path(__file__).parents[3]
PACKAGES = REPOSITORY / "target" / "packages"


class Built:
    """The two files of one revision, copied to where nothing replaces them."""

    def __init__(self, directory, revision):
        # With the caller's environment: it says where Rust is.
        done = subprocess.run([REPOSITORY / "packaging" / "build", "--revision", str(revision)], stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failure(f"packaging/build: exit {done.returncode}")
        directory.mkdir()
        self.deb = newest(directory, "deb", revision)
        self.rpm = newest(directory, "rpm", revision)


def newest(directory, kind, revision):
    """The package of this kind and revision; there may be those of other versions beside it."""
    found = [path for path in PACKAGES.glob(f"*.{kind}") if re.search(rf"-{revision}[._]", path.name)]
    if not found:
        raise Failure(f"packaging/build made no {kind} of revision {revision}")
    latest = max(found, key=lambda path: path.stat().st_mtime)
    return Path(shutil.copy(latest, directory))
