"""The parity suite's boots, one a kernel, for all the tests that judge them.

The peer is Debian's pwru 1.0.5, or the one that ``PYPWRU_LAB_PWRU`` names. What 1.0.5 has no flag
for is compared with what pwru 1.0.12 printed in this lab (data/pwru_head, see record_parity).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pypwru.btf.load import load_vmlinux
from pypwru.cache import Cache
from pypwru.config import Config
from tests.lab.net import topology
from tests.lab.parity import conntrack_row
from tests.lab.parity.compare import Finding, compare_live, compare_recorded
from tests.lab.parity.differences import Declared
from tests.lab.parity.invocations import INVOCATIONS, NO_FLOW, Invocation
from tests.lab.parity.tracking import CONTROLS
from tests.lab.vm import boots, guest, warm_cache
from tests.lab.vm.boots import Result
from tests.support.need import need
from tests.support.paths import DATA

RECORDED = DATA / "pwru_head"
WHOLE = "6.12"
KERNELS = ("5.10", "6.1", WHOLE, "7.2")
_SECONDS = "2700"
_USAGE = 2  # the exit status
_VALUES = {"folder": "/run/parity", "inode": "1", "btf": "/sys/kernel/btf/vmlinux"}


ROWS: Mapping[str, Invocation] = {**INVOCATIONS, **CONTROLS, conntrack_row.NAME: conntrack_row.ROW}


def names(kernel: str) -> list[str]:
    """Which rows run on ``kernel``: all on one, the cheap ones on the others."""
    return [name for name, row in ROWS.items() if kernel == WHOLE or row.cheap]


def measured(kernel: str) -> Result:
    """What was seen on ``kernel``: the result of one boot, however often it is asked for."""
    need(shutil.which("clang"), "clang (package clang)")
    return boots.result(begun(kernel))


def begun(kernel: str) -> Future[Result]:
    """The boot of ``kernel``, begun if nobody has yet."""
    return boots.begun(_measure, kernel)


def _measure(kernel: str) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        return boot(kernel, Path(folder), names(kernel))


def boot(kernel: str, folder: Path, invocations: list[str], record: bool = False) -> Result:
    """Run them in one boot.

    Args:
        folder: shared with the guest.
        record: run pwru alone.

    Raises:
        GuestError: it ended before they did.
    """
    topology.build_programs(folder)
    environment = {**os.environ, "PYPWRU_CACHE": str(folder / "cache")}
    environment |= {"PYPWRU_LAB_RECORD": "1"} if record else {}
    environment |= {"PYPWRU_LAB_WHOLE": "1"} if kernel == WHOLE and not record else {}
    if not record:
        boots.compile_for(kernel, folder / "cache", [command(name) for name in invocations])
    job = ["python", "-m", "tests.lab.parity.guest", str(folder), *invocations]
    return boots.run(kernel, folder, job, ("--timeout", _SECONDS), environment)


def command(name: str) -> list[str]:
    """The row's words, with values that are as good here as the guest's."""
    return ROWS[name].own(_VALUES)


def configured(name: str) -> Config | None:
    """What the run is asked for; None when it is refused or isn't a run."""
    return warm_cache.configured(command(name))


@cache
def recorded() -> Mapping[str, Any]:
    """What pwru 1.0.12 printed: kernel, version, and status, out, err by invocation."""
    content: dict[str, Any] = json.loads((RECORDED / f"{WHOLE}.json").read_text())
    return content


def recorded_run(name: str) -> dict[str, Any]:
    """What pwru 1.0.12 said, as a run of today would be."""
    kept = recorded()["invocations"][name]
    text = {part: "".join(f"{line}\n" for line in kept[part]) for part in ("out", "err")}
    return {"status": kept["status"], **text}


def seen(kernel: str, name: str) -> Any:
    """A row's result; its own failure fails only the tests that need it."""
    found = measured(kernel)["invocations"][name]
    if "error" in found:
        pytest.fail(f"{kernel}: {name}: {found['error']}")
    return found


@cache
def declared(kernel: str) -> Declared:
    """What is known of the functions of ``kernel``."""
    return Declared(load_vmlinux(guest.btf(kernel), Cache()), measured(kernel)["repeated"])


def findings(kernel: str, name: str) -> list[Finding]:
    """All that isn't the same, of one invocation."""
    result, both = measured(kernel), seen(kernel, name)
    own, theirs = both["pypwru"], both.get("pwru")
    found = []
    if theirs:
        found += _compare(name, own, theirs, "old" if result["old"] else "live", True)
    if not theirs or result["old"]:
        same = result["kernel"] == recorded()["kernel"]
        found += _compare(name, own, recorded_run(name), "recorded", same)
    return found


def _compare(
    name: str, own: Mapping[str, Any], theirs: Mapping[str, Any], reference: str, same: bool
) -> list[Finding]:
    config, invocation = configured(name), ROWS[name]
    if own["status"] != theirs["status"]:
        return [Finding(name, "status", theirs["status"], own["status"], "", reference)]
    if own["status"] == _USAGE and reference != "old":
        words = theirs["err"].splitlines()[-1]
        return [] if words in own["err"] else [Finding(name, "words", words, own["err"][-300:])]
    if config is None or not invocation.kinds:
        return []
    if reference == "recorded":
        steady = invocation.steady if same and not invocation.ends else NO_FLOW
        return compare_recorded(name, config, theirs["out"], own["out"], steady)
    return compare_live(name, config, theirs["out"], own["out"], reference == "old")
