"""The parity suite's boots, one a kernel, for all the tests that judge them.

The peer is Debian's pwru 1.0.5, or the one that ``PYPWRU_LAB_PWRU`` names. What 1.0.5 has no flag
for is compared with what pwru 1.0.12 printed in this lab (data/pwru_head, see record_parity).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pypwru.config import Config
from pypwru.errors import UsageError
from pypwru.options import parse
from tests.lab import topology, warm_cache
from tests.lab.parity import Finding, compare_live, compare_recorded
from tests.lab.parity_invocations import INVOCATIONS
from tests.requirement import need

VM = Path(__file__).with_name("vm")
RECORDED = Path(__file__).parents[1] / "data" / "pwru_head"
WHOLE = "6.12"
KERNELS = ("5.10", "6.1", WHOLE, "7.2")
_SECONDS = "2700"
_VALUES = {"folder": "/run/parity", "inode": "1", "btf": "/sys/kernel/btf/vmlinux"}


def names(kernel: str) -> list[str]:
    """Which invocations run on ``kernel``: all on one, the cheap ones on the others."""
    return [name for name, one in INVOCATIONS.items() if kernel == WHOLE or one.cheap]


@cache
def measured(kernel: str) -> dict[str, Any]:
    """What was seen on ``kernel``: the result of one boot, however often it is asked for."""
    need(shutil.which("qemu-system-x86_64"), "qemu-system-x86_64 (package qemu-system-x86)")
    need(shutil.which("clang"), "clang (package clang)")
    need(os.geteuid() == 0, "root: the guest's file system is this machine's, read by QEMU")
    with tempfile.TemporaryDirectory() as folder:
        return boot(kernel, Path(folder), names(kernel))


def boot(kernel: str, folder: Path, invocations: list[str], record: bool = False) -> dict[str, Any]:
    """Run them in one boot.

    Args:
        folder: shared with the guest.
        record: run pwru alone.
    """
    topology.build_programs(folder)
    environment = {**os.environ, "PYPWRU_CACHE": str(folder / "cache")}
    environment |= {"PYPWRU_LAB_RECORD": "1"} if record else {}
    if not record:
        warm_cache.fill(kernel, folder / "cache", [configured(name) for name in invocations])
    command = ["python", "-m", "tests.lab.guest_parity_job", str(folder), *invocations]
    done = subprocess.run(
        [VM, kernel, "--timeout", _SECONDS, "--rwdir", str(folder), "--", *command],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    result = folder / "result.json"
    if done.returncode or not result.exists():
        pytest.fail(f"the guest ended with {done.returncode}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def configured(name: str) -> Config | None:
    """What the run is asked for; None when it is refused or isn't a run."""
    try:
        found = parse(INVOCATIONS[name].command(_VALUES))
    except UsageError:
        return None
    return found if isinstance(found, Config) else None


@cache
def recorded() -> Mapping[str, Any]:
    """What pwru 1.0.12 printed: kernel, version, and status, out, err by invocation."""
    content: dict[str, Any] = json.loads((RECORDED / f"{WHOLE}.json").read_text())
    return content


def findings(kernel: str, name: str) -> list[Finding]:
    """All that isn't the same, of one invocation."""
    result = measured(kernel)
    seen = result["invocations"][name]
    if "error" in seen:
        pytest.fail(f"{kernel}: {name}: {seen['error']}")
    own, theirs = seen["pypwru"], seen.get("pwru")
    found = []
    if theirs:
        found += _compare(name, own, theirs, "old" if result["old"] else "live", True)
    if not theirs or result["old"]:
        same = result["kernel"] == recorded()["kernel"]
        found += _compare(name, own, recorded()["invocations"][name], "recorded", same)
    return list(dict.fromkeys(found))


def _compare(
    name: str, own: Mapping[str, Any], theirs: Mapping[str, Any], reference: str, same: bool
) -> list[Finding]:
    config, invocation = configured(name), INVOCATIONS[name]
    if own["status"] != theirs["status"]:
        return [Finding(name, "status", theirs["status"], own["status"], "", reference)]
    if config is None or not invocation.kinds:
        return []
    if invocation.ends and reference != "live":
        same = False
    if reference == "recorded":
        same_order = same and invocation.steady
        return compare_recorded(name, config, theirs["out"], own["out"], same_order)
    return compare_live(name, config, theirs["out"], own["out"], reference == "old")
