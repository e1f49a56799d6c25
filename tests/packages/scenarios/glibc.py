"""The binary in both packages runs on glibc 2.28 and needs no library that is not glibc's own."""

import re

from bench.scenario import demand
from lab.process import run as command

NEWEST = (2, 28)
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "ld-linux-x86-64.so.2"}


def run(bench):
    for kind in ("deb", "rpm"):
        directory = bench.unpacked(kind)
        binary = str(directory / "usr/bin/puppet-shim")
        versions = set(re.findall(r"GLIBC_(\d+(?:\.\d+)+)", command(["objdump", "-T", binary])))
        newest = max(tuple(map(int, version.split("."))) for version in versions)
        demand(newest <= NEWEST, f"the {kind}'s binary needs glibc {'.'.join(map(str, newest))}")
        needed = set(re.findall(r"NEEDED.*\[(.*)\]", command(["readelf", "--dynamic", binary])))
        demand(needed <= LIBRARIES, f"the {kind}'s binary needs {', '.join(sorted(needed - LIBRARIES))}")
        bench.notes.append(f"{kind}: glibc {'.'.join(map(str, newest))}; {', '.join(sorted(needed))}; "
                           f"{(directory / 'usr/bin/puppet-shim').stat().st_size / 1e6:.1f} MB")
    says = command([str(bench.unpacked("deb") / "usr/bin/puppet-shim"), "--version"])
    demand(says.startswith("puppet-shim "), f"the binary says {says}")
