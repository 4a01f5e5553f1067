"""Results of the parity suite's guests, and recorded output of pwru 1.0.12.

The peer is Debian's pwru 1.0.5, or the one that ``PYPWRU_LAB_PWRU`` names. Invocations with flags
that 1.0.5 lacks are compared with the output of pwru 1.0.12 in this lab (data/pwru_head, see
record.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from pypwru.btf.load import load_vmlinux
from pypwru.cache import Cache
from tests.lab import results
from tests.lab.kernels import REFERENCE
from tests.lab.parity.compare import Finding, compare_live, compare_recorded
from tests.lab.parity.differences import Declared
from tests.lab.parity.invocations import NO_FLOW
from tests.lab.parity.rows import ROWS, configured
from tests.lab.vm import guest
from tests.lab.vm.boots import Result
from tests.support.need import need
from tests.support.paths import DATA

RECORDED = DATA / "pwru_head" / f"{REFERENCE}.json"
_USAGE = 2  # the exit status


def measured(kernel: str) -> Result:
    """Return the result of the job on ``kernel``, which runs once."""
    need(shutil.which("clang"), "clang (package clang)")
    return results.result(kernel, "parity")


@cache
def recorded() -> Mapping[str, Any]:
    """Return the output of pwru 1.0.12: kernel, version, and status, out, err by invocation."""
    content: dict[str, Any] = json.loads(RECORDED.read_text())
    return content


def recorded_run(name: str) -> dict[str, Any]:
    """Return a run of pwru 1.0.12 in the form of a run of today."""
    kept = recorded()["invocations"][name]
    text = {part: "".join(f"{line}\n" for line in kept[part]) for part in ("out", "err")}
    return {"status": kept["status"], **text}


def row_result(kernel: str, name: str) -> Any:
    """Return a row's result; its own failure fails only the tests that need it."""
    found = measured(kernel)["invocations"][name]
    if "error" in found:
        pytest.fail(f"{kernel}: {name}: {found['error']}")
    return found


@cache
def declared(kernel: str) -> Declared:
    """Return what is known of the functions of ``kernel``."""
    return Declared(load_vmlinux(guest.btf(kernel), Cache()), measured(kernel)["repeated"])


def findings(kernel: str, name: str) -> list[Finding]:
    """Return all differences of one invocation."""
    result, both = measured(kernel), row_result(kernel, name)
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
