"""Runs for real, in a root of their own: the machine's, under a layer in memory that takes what is written.

The packages and systemd's units are left out: there is no systemd in there. With them it is tests/packages/scenarios/module.py.
"""

import shutil
import tempfile
from pathlib import Path

from checks.catalog import declaration
from checks.module import MODULE, OTHERS, Wrong, command, equal
from checks.matrix import NAMES
from lab.shim import binary

CONFIG = "/etc/puppet-shim/puppet-shim.toml"
PUPPET_CONF = "/etc/puppet/puppet.conf"
HOSTS = "/etc/hosts"
HERE = {"manage_package": False, "manage_service": False, "manage_puppet_conf": True}

# Exit codes of --detailed-exitcodes.
SAME, CHANGED, FAILED = 0, 2, 4


def proxy_mode():
    """Proxy mode, for real: put in place, the same a second time, changed, and taken away again."""
    mode = HERE | {"mode": "proxy", "agent_names": {"ca_server": NAMES["ca_server"]}}
    with Root() as root:
        before = root.read(PUPPET_CONF)
        root.apply(mode, SAME, "--noop")
        equal(root.read(PUPPET_CONF), before, "puppet.conf after --noop")
        root.apply(mode, CHANGED)
        root.apply(mode, SAME)
        root.says({"http_proxy_host": "127.0.0.1", "http_proxy_port": "8139", "ca_server": NAMES["ca_server"]})
        root.apply(mode | {"timeouts": {"connect": "3s"}}, CHANGED)
        if 'connect = "3s"' not in root.read(CONFIG):
            raise Wrong(f"the configuration did not change:\n{root.read(CONFIG)}")
        root.apply(mode | {"ensure": "absent"}, CHANGED)
        root.apply(mode | {"ensure": "absent"}, SAME)
        root.says({"http_proxy_host": "none", "http_proxy_port": "3128", "ca_server": "puppet"})
        if root.read(CONFIG) is not None:
            raise Wrong("the configuration is still there")


def alias_mode():
    """From proxy mode to alias mode: the names lead to loopback, and the proxy is out of puppet.conf."""
    mode = HERE | {"mode": "alias", "manage_hosts": True, "agent_names": NAMES}
    line = f"127.0.0.1\t{NAMES['server']}\t{' '.join(name for name in NAMES.values() if name != NAMES['server'])}\n"
    with Root() as root:
        root.apply(HERE | {"mode": "proxy"}, CHANGED)
        root.apply(mode, CHANGED)
        root.apply(mode, SAME)
        root.says({"http_proxy_host": "none", "server": NAMES["server"], "report_server": NAMES["report_server"],
                   "pluginsource": f"puppet://{NAMES['file_server']}/plugins"})
        if line not in root.read(HOSTS):
            raise Wrong(f"the hosts file has no line {line!r}:\n{root.read(HOSTS)}")
        root.apply(mode | {"ensure": "absent"}, CHANGED)
        root.apply(mode | {"ensure": "absent"}, SAME)
        # The name by which the site's agents find their server stays.
        root.says({"server": NAMES["server"], "report_server": NAMES["server"], "pluginsource": "puppet:///plugins"})
        if NAMES["server"] in root.read(HOSTS):
            raise Wrong(f"the hosts file has a line of ours:\n{root.read(HOSTS)}")
        # A proxy elsewhere is the site's.
        root.run("puppet", "config", "set", "http_proxy_host", "proxy.example.com", "--section", "main")
        root.apply(mode, CHANGED)
        root.says({"http_proxy_host": "proxy.example.com"})


def bad_value():
    """What the types let through and puppet-shim does not fails the resource, and the old file stays."""
    with Root() as root:
        root.apply(HERE, CHANGED)
        before = root.read(CONFIG)
        said = root.apply(HERE | {"timeouts": {"connect": "3h"}}, FAILED)
        for word in ('"3h" is too long', "10ms to 2min"):
            if word not in said:
                raise Wrong(f"the run does not say {word}:\n{said}")
        equal(root.read(CONFIG), before, "the configuration")


class Root:
    """A context: a mount namespace, kept by a process in it, whose root is a copy of the machine's."""

    def __enter__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="puppet-module-root-"))
        self.undo = []
        try:
            self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def up(self):
        layer, self.root = self.directory / "layer", self.directory / "root"
        layer.mkdir()
        self.root.mkdir()
        self.mount("-t", "tmpfs", "tmpfs", layer)
        for part in ("upper", "work"):
            (layer / part).mkdir()
        self.mount("-t", "overlay", "-o", f"lowerdir=/,upperdir={layer}/upper,workdir={layer}/work", "overlay", self.root)
        for folder in ("proc", "dev"):
            self.mount("--bind", f"/{folder}", self.root / folder)
        shutil.copy(binary(), self.root / "usr/bin/puppet-shim")
        # Whatever the machine has of ours is not what is tested here.
        shutil.rmtree(self.root / "etc/puppet-shim", ignore_errors=True)
        for path, content in ((PUPPET_CONF, "[main]\nssldir = /var/lib/puppet/ssl\n"), (HOSTS, "127.0.0.1 localhost\n")):
            self.path(path).parent.mkdir(parents=True, exist_ok=True)
            self.path(path).write_text(content)
        shutil.copytree(MODULE, self.root / "srv/modules/puppet_shim")

    def mount(self, *arguments):
        command("mount", *arguments)
        self.undo.append(arguments[-1])

    def __exit__(self, *_):
        for path in reversed(self.undo):
            command("umount", "--lazy", path)
        shutil.rmtree(self.directory)

    def path(self, path):
        return self.root / path.lstrip("/")

    def read(self, path):
        return self.path(path).read_text() if self.path(path).exists() else None

    def run(self, *argv, expect=(0,)):
        return command("chroot", self.root, *argv, expect=expect)

    def apply(self, parameters, wanted, *options):
        """`puppet apply` of the class ends with this exit code; returns what it said."""
        manifest = self.path("/srv/site.pp")
        manifest.write_text(declaration(parameters))
        code, said = self.run("puppet", "apply", "--detailed-exitcodes", "--color", "false", *options,
                              "--modulepath", f"/srv/modules:{OTHERS}", "/srv/site.pp", expect=range(256))
        if code != wanted:
            raise Wrong(f"{parameters}: puppet apply ended with {code} and not {wanted}:\n{said}")
        return said

    def says(self, settings):
        """Puppet itself reads these out of puppet.conf."""
        _, said = self.run("puppet", "config", "print", "--section", "main", "certname", *settings)
        found = dict(line.partition(" = ")[::2] for line in said.splitlines())
        equal({name: found[name] for name in settings}, settings, "what puppet config print says")
