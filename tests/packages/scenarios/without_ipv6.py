"""A host without IPv6: the socket unit names ::1 too, and works all the same."""

IPV6 = False


def run(bench):
    bench.installed()
    bench.listens()
    bench.works()
