"""Which modules a command loads: Python's own account of its imports (-X importtime)."""

from __future__ import annotations

import sys

COMMAND = (sys.executable, "-X", "importtime", "-m", "pypwru")

# Never wanted by a start that is to be quick: each takes milliseconds, and what they are for is
# needed by few runs.
HEAVY = frozenset(
    (
        "argparse",
        "asyncio",
        "bcc",
        "concurrent.futures",
        "ctypes.util",
        "dataclasses",
        "email",
        "hashlib",
        "importlib.metadata",
        "importlib.resources",
        "inspect",
        "logging",
        "rich",
        "scapy",
        "subprocess",
        "tempfile",
        "zipfile",
    )
)


def imported(stderr: str) -> set[str]:
    """The modules of pypwru's process, from its standard error, without what ``site`` loads."""
    lines = [line for line in stderr.splitlines() if line.startswith("import time:")]
    names = [line.rpartition("|")[2].strip() for line in lines]
    return set(names[names.index("site") + 1 :])
