"""The module, and commands on it."""

import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab.process import ENVIRONMENT

REPOSITORY = Path(__file__).parents[3]
MODULE = REPOSITORY / "packaging" / "puppet-module"
# Debian's own modules: `host` is one.
OTHERS = "/usr/share/puppet/modules"


class Wrong(Exception):
    """The module does not do what it should."""


def command(*argv, expect=(0,), **rest):
    """Run it; Wrong, with what it said, if it ends otherwise. Returns the exit code and what it said."""
    done = subprocess.run([str(word) for word in argv], env=ENVIRONMENT, text=True, errors="replace", timeout=120,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **rest)
    if done.returncode not in expect:
        raise Wrong(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}")
    return done.returncode, done.stdout


def equal(found, wanted, what):
    if found != wanted:
        raise Wrong(f"{what} is\n    {found!r}\nand should be\n    {wanted!r}")


def modulepath():
    """A directory in which the module has the name that Puppet knows it by."""
    global _modulepath
    if not _modulepath:
        _modulepath = Path(tempfile.mkdtemp(prefix="puppet-module-"))
        atexit.register(shutil.rmtree, _modulepath)
        os.chmod(_modulepath, 0o755)
        (_modulepath / "puppet_shim").symlink_to(MODULE)
    return _modulepath


_modulepath = None
