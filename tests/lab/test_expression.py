"""Every kernel's verifier takes C expressions over its own structs, and finds them true."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab import guest_packages
from tests.requirement import need

VM = Path(__file__).with_name("vm")
COMMANDS = """
PYPWRU_TESTS=all python -m pytest -q -p no:cacheprovider tests/native/test_expression_load.py &&
    python -m tests.lab.guest_expression
"""
pytestmark = pytest.mark.lab


@pytest.mark.parametrize("kernel", guest_packages.KERNELS)
def test_the_verifier_of(kernel: str) -> None:
    need(shutil.which("qemu-system-x86_64"), "qemu-system-x86_64 (package qemu-system-x86)")
    need(os.geteuid() == 0, "root: the guest's file system is this machine's, read by QEMU")
    done = subprocess.run([VM, kernel, "--", "sh", "-c", COMMANDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " tracing programs load" in done.stdout
