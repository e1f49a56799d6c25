"""Each setting of the configuration: what is passed, and what the file says then."""

import re
import tempfile
import tomllib
from pathlib import Path

from checks.catalog import catalog, catalogs
from checks.module import REPOSITORY, Wrong, command, equal
from lab.shim import binary

PACKAGED = REPOSITORY / "packaging" / "puppet-shim.toml"

# Every setting, none of them with its default: what the class is given and what the file says are the same but for `roles`.
ROLE = {
    "names": ["puppet", "primary.corp.example"],
    "ports": [8140, 9140],
    "srv": "_x-puppet._tcp.corp.example",
    "servers": ["compiler1.example.com", "compiler2.example.com:8140", "192.0.2.21", "[2001:db8::21]:8140"],
    "balance": "least-loaded",
    "prefer": ["compiler1.fra.example.com", "*.example.com"],
    "allow_targets": ["*.example.com", "*.corp.example"],
    "allow_ports": [8140, "9140-9149"],
}
EVERYTHING = {
    "domain": "example.com",
    "certname": "agent01.example.com",
    "foreign": "http://proxy.example.com:3128",
    "listen": ["127.0.0.1:8139", "[::1]:8139", "192.0.2.10:8140"],
    "allow_remote_clients": True,
    "idle_exit": "5min",
    "roles": {
        "compile": ROLE,
        "ca": {"srv": False, "fallback": False, "servers": ["ca1.example.com:8140"]},
        "files": {"fallback": False},
        "artifacts": {"names": ["artifacts"], "srv": "_artifacts._tcp"},
    },
    "timeouts": {"sniff": "5s", "connect": "1500ms", "budget": "20s", "idle": "2h", "pin": "0s", "drain": "10min"},
    "limits": {"connections": 256, "hello": "32KiB"},
    "dns": {
        "servers": ["192.0.2.53", "192.0.2.54:5353", "tls://[2001:db8::53]:8853#dns.example.com"],
        "timeout": "3s",
        "max_stale": "30d",
        "allow_loopback": True,
        "dnssec": "prefer",
        "trust_anchor": "/etc/puppet-shim/trust-anchor.key",
        "ca_file": "/etc/ssl/certs/dns-ca.pem",
    },
    "certificates": {"check": True, "ca_file": "/etc/puppetlabs/puppet/ssl/certs/ca.pem"},
    "status": {"socket": "/run/puppet-shim/status.socket", "group": "adm", "page": False},
}


def covered():
    """Each key of the packaged configuration has a parameter, and no parameter is made up."""
    packaged, ours = keys_of_the_packaged_file(), keys_of(expected(EVERYTHING))
    if lacks := packaged - ours:
        raise Wrong(f"no parameter for {written(lacks)}")
    if extra := ours - packaged:
        raise Wrong(f"{PACKAGED.name} has no {written(extra)}")
    # And what is tested here is all that the class can write.
    equal(keys_of(tomllib.loads(catalog(EVERYTHING).file())), ours, "the keys that the file has")


def nothing_set():
    """Without parameters the file says what the packaged one says, and else has comments only."""
    undefined = {"listen": None, "foreign": None, "roles": {"ca": {"names": None}}, "dns": {"timeout": None}}
    nothing, undef = catalogs({}, undefined)
    packaged = tomllib.loads(PACKAGED.read_text())
    equal(tomllib.loads(nothing.file()), packaged, "the file")
    equal(tomllib.loads(undef.file()), packaged | {"role": {"ca": {}}, "dns": {}}, "the file where all is undef")


def whole_file():
    """Every setting is written as it was passed, and puppet-shim takes the file."""
    equal(tomllib.loads(catalog(EVERYTHING).file()), expected(EVERYTHING), "the file")
    accepted(catalog(EVERYTHING).file())


def one_by_one():
    """Each setting alone is written alone, and puppet-shim takes the file."""
    # These two only make sense with another.
    needs = {"allow_remote_clients": {}, "listen": {"allow_remote_clients": True}}
    alone = []
    for key, value in EVERYTHING.items():
        if key == "roles":
            alone += [{key: {role: {name: item}}} for role, table in value.items() for name, item in table.items()]
        elif isinstance(value, dict):
            alone += [{key: {name: item}} for name, item in value.items()]
        else:
            alone.append({key: value} | needs.get(key, {}))
    for made in catalogs(*alone):
        equal(tomllib.loads(made.file()), expected(made.parameters), f"the file for {made.parameters}")
        accepted(made.file())


def strings():
    """Quotes, backslashes, control characters and other alphabets arrive as they were passed."""
    paths = ['/a"b', "/a\\b", "/a\nb\tc", "/\x01\x1f\x7f", "/größe.pem", "/a'b", "/a\\'b\\\\c", "/#", "/\\u0041", "/$x ${y}", "/%"]
    names = ['a"b', "a\\b", "a'b", "${x}"]
    passed = [{"certificates": {"ca_file": path}} for path in paths] + [{"certname": name} for name in names]
    for made in catalogs(*passed):
        equal(tomllib.loads(made.file()), expected(made.parameters), "the file")
        accepted(made.file())


def accepted(content):
    """puppet-shim itself finds no error."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "puppet-shim.toml"
        path.write_text(content)
        try:
            command(binary(), "check", "--offline", "--config", path)
        except Wrong as wrong:
            raise Wrong(f"{wrong}\n{content}") from None


def expected(parameters):
    """What the file has to say for them, and of its own."""
    return {"idle_exit": "2min"} | {{"roles": "role"}.get(key, key): value for key, value in parameters.items()}


def keys_of(config):
    """(table, key) of a configuration; all roles are one table."""
    found = set()
    for key, value in config.items():
        if key == "role":
            found |= {("role", name) for table in value.values() for name in table}
        elif isinstance(value, dict):
            found |= {(key, name) for name in value}
        else:
            found.add(("", key))
    return found


def keys_of_the_packaged_file():
    """A setting is a line with `#` and a key without a space between, a table's header likewise."""
    found, table = set(), ""
    for line in PACKAGED.read_text().splitlines():
        if header := re.fullmatch(r"#?\[([a-z]+)(\.\w+)?\]", line):
            table = header[1]
        elif key := re.match(r"#?([a-z_]+) = ", line):
            found.add((table, key[1]))
    return found


def written(keys):
    return ", ".join(sorted(f"[{table}] {key}" if table else key for table, key in keys))
