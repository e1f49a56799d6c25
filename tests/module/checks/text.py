"""Syntax, style, metadata, and the reference that is made of the comments."""

import json
import re
import tempfile
from pathlib import Path

from checks.module import MODULE, REPOSITORY, Wrong, command, equal, modulepath


def syntax():
    """Manifests, templates and functions can be read."""
    manifests = [path for folder in ("manifests", "functions", "types") for path in sorted((MODULE / folder).glob("*.pp"))]
    command("puppet", "parser", "validate", *manifests)
    command("puppet", "epp", "validate", *sorted((MODULE / "templates").glob("*.epp")))
    for path in sorted((MODULE / "lib").rglob("*.rb")):
        command("ruby", "-wc", path)


def lint():
    """puppet-lint has nothing to say."""
    # It tells a module by the folder's name, and follows a link only by its trailing slash.
    _, said = command("puppet-lint", "--fail-on-warnings", f"{modulepath()}/puppet_shim/")
    equal(said, "", "what puppet-lint says")


def metadata():
    """The metadata is sound; version and licence are those of puppet-shim."""
    command("metadata-json-lint", MODULE / "metadata.json")
    version = re.search(r'^version = "(.*)"', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)[1]
    equal(json.loads((MODULE / "metadata.json").read_text())["version"], version, "the version in metadata.json")
    # A copy and no link, since a module is copied from here to elsewhere.
    equal((MODULE / "LICENSE").read_bytes(), (REPOSITORY / "LICENSE").read_bytes(), "LICENSE")


def reference():
    """REFERENCE.md says what the comments say."""
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / "REFERENCE.md"
        # yard keeps its notes where it is run.
        _, said = command("puppet", "strings", "generate", "--format", "markdown", "--out", made, cwd=copy(directory))
        if "[warn]" in said:
            raise Wrong(f"puppet strings warns:\n{said}")
        if made.read_text() != (MODULE / "REFERENCE.md").read_text():
            raise Wrong("it does not: in the module's folder, `puppet strings generate --format markdown` writes it anew")


def copy(directory):
    target = Path(directory) / "puppet_shim"
    command("cp", "-a", MODULE, target)
    return target
