"""What is demanded of the module, one subject a file.

module      where it is, and commands on it
text        syntax, style, metadata, and the reference that is made of the comments
catalog     catalogs, compiled many at once
settings    each setting of the configuration: what is passed and what the file says then
matrix      which resources there are, on which system and with which parameters
applied     a run for real, in a root of its own; with package and units it is a scenario of tests/packages
"""

from checks.applied import alias_mode, bad_value, proxy_mode
from checks.matrix import absent, group, hierarchy, hosts, listeners, order, package, puppet_conf, types
from checks.module import Wrong
from checks.settings import covered, nothing_set, one_by_one, strings, whole_file
from checks.text import lint, metadata, reference, syntax

CHECKS = [
    syntax, lint, metadata, reference,
    covered, nothing_set, whole_file, one_by_one, strings,
    types, hierarchy, package, listeners, group, puppet_conf, hosts, order, absent,
    proxy_mode, alias_mode, bad_value,
]
__all__ = ["CHECKS", "Wrong"]
