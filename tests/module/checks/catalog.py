"""Catalogs, compiled many at once and applied nowhere."""

import json
import os
import re
import subprocess
from pathlib import Path

from checks.module import OTHERS, Wrong, modulepath
from lab.process import ENVIRONMENT

COMPILER = Path(__file__).parent / "catalog.rb"

# What of a host's facts the module looks at.
DEBIAN = {"os": {"family": "Debian", "name": "Debian"}}
REDHAT = {"os": {"family": "RedHat", "name": "Rocky"}}
AIO = {"aio_agent_version": "8.10.0"}


class Catalog:
    def __init__(self, parameters, compiled):
        self.parameters = parameters
        self.error = compiled.get("error")
        self.resources = {f"{resource['type']}[{resource['title']}]": resource.get("parameters", {})
                          for resource in compiled.get("resources", [])}

    def __getitem__(self, name):
        if self.error:
            raise Wrong(f"{self.parameters} does not compile: {self.error}")
        if name not in self.resources:
            raise Wrong(f"{self.parameters}: the catalog has no {name}, but {', '.join(self.resources)}")
        return self.resources[name]

    def names(self, *types):
        return [name for name in self.resources if name.partition("[")[0] in types]

    def file(self, path="/etc/puppet-shim/puppet-shim.toml"):
        return self[f"File[{path}]"]["content"]


def catalogs(*requests):
    """For each (parameters, facts), or parameters alone, the catalog that has the class."""
    pairs = [request if isinstance(request, tuple) else (request, DEBIAN) for request in requests]
    questions = [{"code": declaration(parameters), "facts": facts} for parameters, facts in pairs]
    env = ENVIRONMENT | {"RUBYLIB": os.environ.get("PUPPET_LIB", "")}
    done = subprocess.run(["ruby", COMPILER, f"{modulepath()}:{OTHERS}"], input=json.dumps(questions), env=env, text=True,
                          capture_output=True, timeout=120)
    if done.returncode:
        raise Wrong(f"the catalogs are not compiled: {done.stdout}{done.stderr}")
    return [Catalog(parameters, compiled) for (parameters, _), compiled in zip(pairs, json.loads(done.stdout))]


def catalog(parameters, facts=DEBIAN):
    return catalogs((parameters, facts))[0]


def declaration(parameters):
    """The class with these parameters, in Puppet's language."""
    rows = "".join(f"  {name} => {literal(value)},\n" for name, value in parameters.items())
    return f"class {{ 'puppet_shim':\n{rows}}}\n"


def literal(value):
    if value is None:
        return "undef"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{literal(key)} => {literal(item)}' for key, item in value.items())} }}"
    # In single quotes, where nothing else is special, a line's end included.
    return "'" + re.sub(r"['\\]", r"\\\g<0>", value) + "'"
