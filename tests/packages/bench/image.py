"""A Debian as debootstrap makes it, of the release that this machine has, with what the scenarios need in it.

It takes a minute to make, so it is kept under target/, by what went into it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from lab.process import Failure, run

CACHE = Path(__file__).parents[3] / "target" / "bench"

# The machine's own, then rpm, to which the .rpm goes, and an agent, whose puppet.conf leads to the shim.
INCLUDED = ["systemd", "systemd-sysv", "dbus", "man-db", "rpm", "puppet-agent"]

# What is done to it after that. The agent is there to be configured, and not to run.
FINISH = """
systemctl --quiet mask puppet.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer man-db.timer
echo agent.example.test >/etc/hostname
printf '127.0.0.1 localhost\\n::1 localhost\\n10.9.8.1 agent.example.test agent\\n' >/etc/hosts
rm -f /etc/resolv.conf
apt-get clean
"""


def image():
    """The directory that holds it."""
    mirror, release = source()
    recipe = hashlib.sha256("\0".join([release, *INCLUDED, FINISH]).encode()).hexdigest()[:16]
    directory = CACHE / recipe
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            make(directory, mirror, release)
    return directory


def source():
    """The mirror that apt itself uses, and the release it has of it."""
    form = "$(REPO_URI) $(CODENAME) $(COMPONENT)"
    for line in run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).splitlines():
        mirror, release, component = line.split()
        # Not its updates, which are no whole Debian.
        if component == "main" and "-" not in release:
            return mirror, release
    raise Failure("apt knows no mirror of Debian")


def make(directory, mirror, release):
    print(f"making a Debian {release}", flush=True)
    # Those of earlier recipes.
    for old in CACHE.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    growing = directory.with_suffix(".growing")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    log = CACHE / "debootstrap.log"
    with log.open("w") as out:
        argv = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", release, growing, mirror]
        for step in (argv, ["chroot", growing, "sh", "-euc", FINISH]):
            if subprocess.run(step, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out).returncode:
                raise Failure(f"no Debian could be made\n{log.read_text()}")
    # Only now: it is there as a whole or not at all.
    growing.rename(directory)
