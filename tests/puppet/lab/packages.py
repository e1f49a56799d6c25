"""Debian packages: installs the ones that are missing, and starts none of their services."""

import os
import subprocess
from pathlib import Path

NEEDED = ["iproute2", "knot", "nftables", "puppet-agent", "puppetserver", "tcpdump", "util-linux"]
POLICY = Path("/usr/sbin/policy-rc.d")


def install_missing(needed=NEEDED):
    missing = [name for name in needed if not installed(name)]
    if not missing:
        return
    print("installing", " ".join(missing), flush=True)
    apt_get("update")
    # The way of Debian's own image builders to keep a package from starting its service: a policy of 101, "forbidden".
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        apt_get("install", "--yes", "--no-install-recommends", *missing)
    finally:
        if ours:
            POLICY.unlink()


def installed(name):
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


def apt_get(*arguments):
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "--quiet=2", *arguments], env=env, check=True, stdout=subprocess.DEVNULL)
