"""Modules that a command loads, by Python's own report of imports (-X importtime)."""

from __future__ import annotations

import sys

COMMAND = (sys.executable, "-X", "importtime", "-m", "pypwru")

# A quick start loads none of them: each takes milliseconds, and few runs need them.
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
    """Return modules of pypwru's process, from its standard error, without those of ``site``."""
    lines = [line for line in stderr.splitlines() if line.startswith("import time:")]
    names = [line.rpartition("|")[2].strip() for line in lines]
    return set(names[names.index("site") + 1 :])
