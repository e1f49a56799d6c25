"""Which resources there are, on which system and with which parameters."""

import json
import tempfile
import tomllib
from pathlib import Path

from checks.catalog import AIO, DEBIAN, REDHAT, catalog, catalogs
from checks.module import Wrong, command, equal, modulepath

SOCKET = "Service[puppet-shim.socket]"
READ_AGAIN = "Exec[puppet-shim: read the configuration again]"
LISTEN_ANEW = "Exec[puppet-shim: listen anew]"
JOIN = "Exec[puppet-shim: be of another group]"
DROP_IN = "/etc/systemd/system/puppet-shim.socket.d/listen.conf"
GROUP = "/etc/systemd/system/puppet-shim.service.d/group.conf"
SET = "Exec[puppet config set "
NAMES = {
    "server": "puppet.example.com",
    "ca_server": "puppetca.example.com",
    "report_server": "puppetreport.example.com",
    "file_server": "puppetfiles.example.com",
}

# What no host can have, and the parameter that Puppet has to name.
WRONG = [
    ({"ensure": "latest"}, "ensure"),
    ({"listen": []}, "listen"),
    ({"listen": "127.0.0.1:8139"}, "listen"),
    ({"listen": ["localhost:8139"]}, "listen"),
    ({"listen": ["127.0.0.1"]}, "listen"),
    ({"listen": ["::1:8139"]}, "listen"),
    ({"allow_remote_clients": "true"}, "allow_remote_clients"),
    ({"domain": "example com"}, "domain"),
    ({"certname": "a/b"}, "certname"),
    ({"certname": "ä"}, "certname"),
    ({"certname": "a\nb"}, "certname"),
    ({"foreign": "allow"}, "foreign"),
    ({"foreign": "https://proxy.example.com:3128"}, "foreign"),
    ({"foreign": "http://me:secret@proxy.example.com:3128"}, "foreign"),
    ({"idle_exit": 120}, "idle_exit"),
    ({"roles": {"Compile": {}}}, "roles"),
    ({"roles": {"a.b": {}}}, "roles"),
    ({"roles": {"compile": {"name": ["puppet"]}}}, "name"),
    ({"roles": {"compile": {"names": "puppet"}}}, "names"),
    ({"roles": {"compile": {"names": ["puppet:8140"]}}}, "names"),
    ({"roles": {"compile": {"ports": [0]}}}, "ports"),
    ({"roles": {"compile": {"ports": ["8140"]}}}, "ports"),
    ({"roles": {"compile": {"srv": True}}}, "srv"),
    ({"roles": {"compile": {"srv": "x-puppet._tcp"}}}, "srv"),
    ({"roles": {"compile": {"servers": ["https://compiler1:8140"]}}}, "servers"),
    ({"roles": {"compile": {"balance": "random"}}}, "balance"),
    ({"roles": {"compile": {"prefer": ["*"]}}}, "prefer"),
    ({"roles": {"compile": {"allow_ports": []}}}, "allow_ports"),
    ({"roles": {"compile": {"allow_ports": ["8140:8149"]}}}, "allow_ports"),
    ({"timeouts": {"connect": "5"}}, "connect"),
    ({"timeouts": {"connect": "5m"}}, "connect"),
    ({"timeouts": {"conect": "5s"}}, "conect"),
    ({"limits": {"connections": 0}}, "connections"),
    ({"limits": {"hello": "16k"}}, "hello"),
    ({"dns": {"servers": ["dns.example.com"]}}, "servers"),
    ({"dns": {"dnssec": True}}, "dnssec"),
    ({"dns": {"ca_file": "ca.pem"}}, "ca_file"),
    ({"certificates": {"check": "no"}}, "check"),
    ({"certificates": {"ca_file": "/etc/ssl/"}}, "ca_file"),
    ({"status": {"socket": True}}, "socket"),
    ({"status": {"group": "a b"}}, "group"),
    ({"status": {"page": "off"}}, "page"),
    ({"mode": "dns"}, "mode"),
    ({"agent_names": {"ca": "puppetca"}}, "ca"),
    ({"no_such_parameter": 1}, "no_such_parameter"),
]


def types():
    """What cannot be is refused when the catalog is compiled, by its name."""
    for (parameters, name), made in zip(WRONG, catalogs(*(parameters for parameters, _ in WRONG))):
        if not made.error:
            raise Wrong(f"{parameters} compiles")
        if f"'{name}'" not in made.error or not ("expects" in made.error or "unrecognized" in made.error or "no parameter" in made.error):
            raise Wrong(f"{parameters}: {made.error}")


def package():
    """The package is managed as asked for, and purged where a removal would leave files."""
    rows = [
        ({}, DEBIAN, {"ensure": "installed"}),
        ({"package_ensure": "0.1.0-1", "package_name": "shim"}, REDHAT, {"ensure": "0.1.0-1"}),
        ({"package_source": "/srv/shim.deb"}, DEBIAN, {"ensure": "installed", "source": "/srv/shim.deb", "provider": "dpkg"}),
        ({"package_source": "/srv/shim.rpm"}, REDHAT, {"ensure": "installed", "source": "/srv/shim.rpm"}),
        ({"package_source": "/srv/shim.rpm", "package_provider": "rpm"}, REDHAT,
         {"ensure": "installed", "source": "/srv/shim.rpm", "provider": "rpm"}),
        ({"ensure": "absent"}, DEBIAN, {"ensure": "purged"}),
        ({"ensure": "absent"}, REDHAT, {"ensure": "absent"}),
        ({"manage_package": False}, DEBIAN, None),
    ]
    for (parameters, _, wanted), made in zip(rows, catalogs(*(row[:2] for row in rows))):
        name = f"Package[{parameters.get('package_name', 'puppet-shim')}]"
        equal(made.names("Package"), [name] if wanted else [], f"the packages for {parameters}")
        if wanted:
            equal(made[name], wanted, f"the package for {parameters}")


def listeners():
    """systemd listens where the file says; without a word on that, where the package says."""
    rows = [
        ({}, None),
        ({"mode": "proxy"}, None),
        ({"listen": ["127.0.0.1:9139", "[::1]:9139"]}, ["127.0.0.1:9139", "[::1]:9139"]),
        ({"mode": "alias"}, ["127.0.0.1:8140", "[::1]:8140"]),
        ({"mode": "alias", "listen": ["127.0.0.1:8140"]}, ["127.0.0.1:8140"]),
        ({"mode": "port"}, [f"127.0.0.1:{port}" for port in (8140, 8141, 8142, 8143)]),
        ({"mode": "port", "agent_names": {"ca_port": 9141}}, [f"127.0.0.1:{port}" for port in (8140, 9141, 8142, 8143)]),
    ]
    for (parameters, wanted), made in zip(rows, catalogs(*(row[0] for row in rows))):
        equal(made[f"File[{DROP_IN}]"]["ensure"], "file" if wanted else "absent", f"{DROP_IN} for {parameters}")
        if not wanted:
            continue
        lines = [line for line in made.file(DROP_IN).splitlines() if line.startswith("ListenStream=")]
        equal(lines, ["ListenStream=", *(f"ListenStream={listener}" for listener in wanted)], f"ListenStream for {parameters}")
        equal(tomllib.loads(made.file())["listen"], wanted, f"listen for {parameters}")
    quiet = catalog({"manage_service": False, "listen": ["127.0.0.1:8140"], "status": {"group": "adm"}})
    equal(quiet.names("Service", "Exec"), [], "services and commands without manage_service")
    equal([name for name in quiet.names("File") if "systemd" in name], [], "the drop-ins without manage_service")


def group():
    """The service is of the group that may ask for the status; without a word on that, of its own."""
    rows = [({}, None), ({"status": {"page": False}}, None), ({"status": {"group": "adm"}}, "adm"), ({"status": {"group": "118"}}, "118")]
    for (parameters, wanted), made in zip(rows, catalogs(*(row[0] for row in rows))):
        equal(made[f"File[{GROUP}]"]["ensure"], "file" if wanted else "absent", f"{GROUP} for {parameters}")
        if wanted:
            lines = [line for line in made.file(GROUP).splitlines() if not line.startswith("#")]
            equal(lines, ["[Service]", f"Group={wanted}"], f"{GROUP} for {parameters}")
    made = catalog({"status": {"group": "adm"}})
    equal(made[f"File[{GROUP}]"]["notify"], "Exec[puppet-shim: systemctl daemon-reload]", "what a new drop-in is told to")
    equal(made[JOIN]["command"], "systemctl try-restart puppet-shim.service", "what follows")
    equal((made[JOIN]["subscribe"], made[JOIN]["require"]), (f"File[{GROUP}]", "Exec[puppet-shim: systemctl daemon-reload]"), "and upon what")


def puppet_conf():
    """The agent's settings are those of the mode, changed by the agent's own puppet, and none without being asked."""
    plain, *unasked = catalogs({}, {"mode": "proxy"}, {"manage_puppet_conf": True}, {"agent_names": NAMES})
    for made in unasked:
        equal(made.names("Exec"), plain.names("Exec"), f"the commands for {made.parameters}")

    proxy = {"http_proxy_host": "127.0.0.1", "http_proxy_port": 8139}
    names = {name: NAMES[name] for name in ("server", "ca_server", "report_server")} | plugins("puppetfiles.example.com")
    one = {"server": NAMES["server"]}
    ports = one | {"ca_port": 8141, "report_port": 8142} | plugins("puppet.example.com:8143")
    rows = [
        ({"mode": "proxy"}, proxy),
        ({"mode": "proxy", "listen": ["[::1]:9139"]}, {"http_proxy_host": "::1", "http_proxy_port": 9139}),
        ({"mode": "proxy", "listen": ["0.0.0.0:8139"]}, proxy),
        ({"mode": "proxy", "listen": ["[::]:8139"]}, proxy | {"http_proxy_host": "::1"}),
        ({"mode": "proxy", "agent_names": NAMES}, names | proxy),
        ({"mode": "proxy", "agent_names": one | {"ca_port": 8141, "report_port": 8142, "file_port": 8143}}, ports | proxy),
        ({"mode": "alias", "agent_names": NAMES}, names),
        ({"mode": "port", "agent_names": one}, ports),
    ]
    for facts, puppet, conf in [
        (DEBIAN, "/usr/bin/puppet ", "/etc/puppet/puppet.conf"),
        (REDHAT | AIO, "/opt/puppetlabs/bin/puppet ", "/etc/puppetlabs/puppet/puppet.conf"),
    ]:
        asked = [(parameters | {"manage_puppet_conf": True}, facts) for parameters, _ in rows]
        for (parameters, wanted), made in zip(rows, catalogs(*asked)):
            made["Class[Puppet_shim::Agent]"]
            commands = {title[len(SET):-1]: made[title] for title in made.names("Exec") if title.startswith(SET)}
            equal(set(commands), {f"{name} {value}" for name, value in wanted.items()}, f"the settings for {parameters}")
            for title, setting in commands.items():
                equal(setting["command"], f"{puppet}config set {title} --section main", "the command")
                if f" {conf} " not in setting["unless"]:
                    raise Wrong(f"{title} is not looked for in {conf}: {setting['unless']}")
    own = catalog({"mode": "proxy", "manage_puppet_conf": True, "puppet_command": "/opt/my puppet", "puppet_confdir": "/srv/p"})
    own = own[f"{SET}http_proxy_port 8139]"]
    equal(own["command"], '"/opt/my puppet" config set http_proxy_port 8139 --section main --confdir /srv/p', "the command")


def hosts():
    """The names lead to loopback where that is asked for; without a name there is an error and no half of a way."""
    asked = {"mode": "alias", "manage_hosts": True, "agent_names": NAMES | {"file_server": NAMES["server"]}}
    alias, proxy = catalogs(asked, asked | {"mode": "proxy"})
    equal(alias["Host[puppet.example.com]"], {"ensure": "present", "ip": "127.0.0.1", "host_aliases": [
        "puppetca.example.com", "puppetreport.example.com"]}, "the line of the hosts file")
    equal(proxy.names("Host"), [], "the lines of the hosts file in proxy mode")
    for made in catalogs(*({"mode": mode, manage: True} for mode in ("alias", "port") for manage in ("manage_puppet_conf", "manage_hosts"))):
        if not made.error or "agent_names['server']" not in made.error:
            raise Wrong(f"{made.parameters}: {made.error}")


def plugins(authority):
    return {"pluginsource": f"puppet://{authority}/plugins", "pluginfactsource": f"puppet://{authority}/pluginfacts"}


def order():
    """A change of the configuration is told to a process that runs, and never to the socket."""
    made = catalog({"mode": "proxy", "manage_puppet_conf": True, "listen": ["127.0.0.1:8139"]})
    equal(made["File[/etc/puppet-shim/puppet-shim.toml]"]["notify"], [READ_AGAIN], "what a new file is told to")
    equal(made[READ_AGAIN]["command"], "systemctl try-reload-or-restart puppet-shim.service", "what it does")
    equal(made[SOCKET]["restart"], "/bin/systemctl try-reload-or-restart puppet-shim.service", "what a notice to the class does")
    equal(made[SOCKET]["start"], "/bin/systemctl restart puppet-shim.socket", "how it is started")
    for name, parameters in made.resources.items():
        told = [parameters.get(way, []) for way in ("notify", "subscribe")]
        if SOCKET in str(told) or name == SOCKET and any(told) or "Class[" in str(told):
            raise Wrong(f"{name} can restart the socket: {parameters}")
    for name in (READ_AGAIN, LISTEN_ANEW, JOIN, "Exec[puppet-shim: systemctl daemon-reload]"):
        equal(made[name]["refreshonly"], True, f"refreshonly of {name}")
    equal(made[f"File[{DROP_IN}]"]["notify"], "Exec[puppet-shim: systemctl daemon-reload]", "what a new drop-in is told to")
    equal(made[LISTEN_ANEW]["command"], "systemctl try-restart puppet-shim.socket", "what follows")
    equal((made[LISTEN_ANEW]["subscribe"], made[LISTEN_ANEW]["require"]),
          (f"File[{DROP_IN}]", "Exec[puppet-shim: systemctl daemon-reload]"), "and upon what")
    chain(made, "Install", "Config", "Service", "Agent")


def absent():
    """A removal begins with the agent's settings and ends with the package."""
    gone = {"ensure": "absent", "mode": "proxy", "manage_puppet_conf": True, "agent_names": NAMES, "listen": ["127.0.0.1:8139"],
            "status": {"group": "adm"}}
    made = catalog(gone)
    chain(made, "Agent", "Service", "Config", "Install")
    deleted = {name[len("Exec[puppet config delete "):-1] for name in made.names("Exec") if "config delete" in name}
    equal(deleted, {"ca_server", "report_server", "pluginsource", "pluginfactsource", "http_proxy_host", "http_proxy_port"},
          "the settings that are deleted")
    for name in made.names("File"):
        equal(made[name]["ensure"], "absent", name)
    for unit in ("socket", "service"):
        service = made[f"Service[puppet-shim.{unit}]"]
        equal((service["ensure"], service["enable"]), ("stopped", False), f"puppet-shim.{unit}")


def chain(made, *classes):
    for earlier, later in zip(classes, classes[1:]):
        equal(made[f"Class[Puppet_shim::{earlier}]"].get("before"), [f"Class[Puppet_shim::{later}]"], f"what follows {earlier}")


def hierarchy():
    """Hiera's levels: tables are put together key by key, roles one by one, and a list counts as a whole."""
    with tempfile.TemporaryDirectory() as directory:
        environment = Path(directory) / "production"
        (environment / "data").mkdir(parents=True)
        (environment / "modules").symlink_to(modulepath())
        write(environment / "hiera.yaml", {"version": 5, "hierarchy": [{"name": "all", "paths": ["host.yaml", "site.yaml"]}]})
        write(environment / "data/host.yaml", {
            "puppet_shim::timeouts": {"connect": "3s"},
            "puppet_shim::roles": {"compile": {"prefer": ["*.fra.example.com"]}},
        })
        write(environment / "data/site.yaml", {
            "puppet_shim::timeouts": {"connect": "1s", "pin": "1min"},
            "puppet_shim::roles": {"compile": {"prefer": ["*.example.com"], "balance": "hash"}, "ca": {"srv": False}},
        })
        for name, wanted in [
            ("timeouts", {"connect": "3s", "pin": "1min"}),
            ("roles", {"compile": {"prefer": ["*.fra.example.com"]}, "ca": {"srv": False}}),
        ]:
            _, said = command("puppet", "lookup", f"puppet_shim::{name}", "--environmentpath", directory, "--render-as", "json",
                              "--node", "agent.example.com", "--facts", write(Path(directory) / "facts.json", DEBIAN))
            equal(json.loads(said[said.index("{"):]), wanted, name)


def write(path, data):
    """JSON is YAML."""
    path.write_text(json.dumps(data))
    return path
