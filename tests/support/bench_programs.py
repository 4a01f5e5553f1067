"""The bench programs, by where they can run, and how tests run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from tests.support.paths import TREE

FOLDER = TREE / "bench"
WITHOUT_RIGHTS = ("frames", "render")
"""They need no kernel: tests/unit runs them."""
NATIVE = ("backends", "levels", "pcap", "start")
"""They measure on this machine's kernel, as root: tests/native runs them."""
IN_GUEST = ("attach", "cost", "hits")
"""They boot a guest, so tests go no further than their command lines; ``make bench`` runs them."""
PROGRAMS = (*WITHOUT_RIGHTS, *NATIVE, *IN_GUEST)


def run(program: str, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run ``bench/PROGRAM WORDS...`` by this Python."""
    folder = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    command = [sys.executable, str(FOLDER / program), *words]
    return subprocess.run(
        command, cwd=TREE, env=environment, capture_output=True, text=True, check=False
    )
