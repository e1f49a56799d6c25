"""A broken configuration arrives while no process runs, and its repair can arrive only through the shim.

The next connection is served with the configuration that was accepted last; the log, `puppet-shim status` and `systemctl
status` say so. The port never stops listening.
"""

import json

from bench.machine import SERVICE
from bench.scenario import CONFIG, demand


def run(bench):
    machine = bench.installed(idle_exit='"1s"')
    bench.works()
    bench.idle()
    good = machine.path(CONFIG).read_text()
    with bench.knocking():
        machine.write(CONFIG, good + "\n[timeouts]\nconnect = fast\n")
        bench.works()
        machine.said("puppet-shim.toml:", "error: this is not TOML")
        status = machine.run("systemctl", "status", "--no-pager", SERVICE)
        demand("last accepted configuration" in status, f"systemctl status does not tell\n{status}")
        demand(machine.active(SERVICE), "the service is not active")
        bench.notes += [line.strip() for line in status.splitlines() if "Status:" in line]
        told = json.loads(machine.run("puppet-shim", "status", "--json", check=False))["configuration"]
        demand(told["origin"] == "last-accepted" and told["rejected"] == CONFIG, f"puppet-shim status tells {told}")
        demand("this is not TOML" in " ".join(told["diagnostics"]), f"puppet-shim status does not tell why: {told}")
        # The repair came through it.
        machine.write(CONFIG, good)
        machine.run("systemctl", "reload", SERVICE)
        bench.works()
        status = machine.run("systemctl", "status", "--no-pager", SERVICE)
        told = json.loads(machine.run("puppet-shim", "status", "--json"))["configuration"]
        demand(told["origin"] == "file" and not told["diagnostics"], f"still told: {told}")
        demand("last accepted" not in status.partition("Status:")[2].partition("\n")[0], f"still told\n{status}")
    bench.idle()
