"""Configuration files under conf/, in which @WORD@ stands for a value."""

import re
from pathlib import Path

CONF = Path(__file__).parent.parent / "conf"


def fill(name, **values):
    """The text of a file with every @WORD@ in it replaced; a word without a value is a KeyError."""
    return re.sub(r"@(\w+)@", lambda word: str(values[word[1].lower()]), (CONF / name).read_text())
