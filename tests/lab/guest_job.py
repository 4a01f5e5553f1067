"""A guest job measured once a kernel, for all the tests that judge it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.requirement import need

VM = Path(__file__).with_name("vm")


@cache
def measured(kernel: str, module: str, *words: str) -> dict[str, Any]:
    """What ``python -m MODULE FOLDER WORDS...`` saw: one boot, however often it is asked for."""
    need(shutil.which("qemu-system-x86_64"), "qemu-system-x86_64 (package qemu-system-x86)")
    need(os.geteuid() == 0, "root: the guest's file system is this machine's, read by QEMU")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [VM, kernel, "--rwdir", folder, "--", "python", "-m", module, folder, *words],
            capture_output=True,
            text=True,
            check=False,
        )
        result = Path(folder) / "result.json"
        if done.returncode or not result.exists():
            pytest.fail(f"the guest ended with {done.returncode}: {done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(result.read_text())
    return found


def step(seen: dict[str, Any], kernel: str, name: str) -> Any:
    """One step of the job; its own failure fails only the tests that need it."""
    if "error" in seen[name]:
        pytest.fail(f"{kernel}: {name}: {seen[name]['error']}")
    return seen[name]
