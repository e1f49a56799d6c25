"""What is to be seen of the daemon, from outside of its sandbox: by `status`, by Facter, by a browser, and by `check`.

Nobody's looking starts a process where none runs, and what the last one did is told all the same.
"""

import json

from bench.machine import SOCKET
from bench.scenario import CONFIG, demand

ADDRESSES = ("127.0.0.1:8139", "[::1]:8139")


def run(bench):
    machine = bench.installed(idle_exit='"3s"')
    found = status(machine)
    demand(found["process"] is None, f"a process nobody has started: {found['process']}")
    demand({address: "waiting" for address in ADDRESSES} == listeners(found), f"while systemd listens: {found['listeners']}")

    bench.works()
    found = status(machine)
    demand(found["process"]["pid"] == machine.main_pid(), f"not the daemon's own word: {found['process']}")
    demand({address: "inherited" for address in ADDRESSES} == listeners(found), f"while it runs: {found['listeners']}")
    mode = machine.run("stat", "--format", "%a", "/run/puppet-shim/status.socket").strip()
    demand(mode == "660", f"the status socket has mode {mode}")
    demand(carried(found) >= 1, f"it has not counted its connection: {found['roles']}")
    page = machine.run("ruby", "-ropen-uri", "-e", "print URI.open(%q(http://127.0.0.1:8139/)).read")
    demand("<title>" in page and "compile" in page, f"no page: {page[:300]}")
    doctor(machine)

    bench.idle()
    demand(carried(status(machine)) >= 1, "what it did has gone with it")
    fact = json.loads(machine.run("facter", "--json", "puppet_shim"))["puppet_shim"]
    demand("compile" in fact["roles"] and fact["configuration"] == "file", f"the fact: {fact}")
    doctor(machine)
    demand(machine.main_pid() == 0, "looking has started a process")

    # Somebody would miss it.
    machine.write("/etc/puppet/puppet.conf", "[main]\nhttp_proxy_host = 127.0.0.1\nhttp_proxy_port = 8139\n")
    config = machine.path(CONFIG)
    config.write_text('listen = ["127.0.0.1:8139", "[::1]:8139", "127.0.0.1:8140"]\n' + config.read_text())
    absent = [finding for finding in host(machine) if finding["subject"] == "127.0.0.1:8140"]
    demand([finding["verdict"] for finding in absent] == ["problem"], f"a listener that is not in the unit: {absent}")
    demand(f"not in {SOCKET}" in absent[0]["what"] and "ListenStream=127.0.0.1:8140" in absent[0]["mend"], f"it says {absent}")


def status(machine):
    return json.loads(machine.run("puppet-shim", "status", "--json", check=False))


def listeners(found):
    return {listener["address"]: listener["state"] for listener in found["listeners"]}


def carried(found):
    return sum(role["totals"]["carried"] for role in found["roles"] if role["role"] == "compile")


def host(machine):
    said = json.loads(machine.run("puppet-shim", "check", "--json", check=False))
    return [finding for group in said["groups"] if group["name"] == "host" for finding in group["findings"]]


def doctor(machine):
    """It understands what the real systemd says."""
    findings = host(machine)
    bad = [finding for finding in findings if finding["verdict"] != "ok"]
    demand(not bad, f"of a healthy host the doctor says {bad}")
    for address in ADDRESSES:
        what = [finding["what"] for finding in findings if finding["subject"] == address]
        demand(len(what) == 1 and f"in {SOCKET}" in what[0], f"of {address} the doctor says {what}")
