"""C without its comments."""

from __future__ import annotations

import shutil
import subprocess

from tests.support.need import need


def without_comments(text: str) -> str:
    """Return C text, its directives unchanged, without comments and empty lines, by gcc."""
    need(shutil.which("gcc"), "gcc")
    words = ["gcc", "-fpreprocessed", "-dD", "-E", "-P", "-"]
    return subprocess.run(words, input=text, capture_output=True, text=True, check=True).stdout
