"""This machine's kernel: its BTF compared with bpftool's, its files read by mount(8) and cat."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pypwru.attach.support import TRIAL_FUNCTION
from pypwru.btf.load import load_vmlinux
from pypwru.btf.types import Kind
from pypwru.discovery.functions import discover_functions
from pypwru.discovery.selection import Selection
from pypwru.discovery.tracepoints import discover_tracepoints
from pypwru.errors import KernelError
from pypwru.kernel import capabilities, ftrace, lockdown, pseudofs
from pypwru.kernel.kallsyms import KALLSYMS, read_symbols
from tests.support.need import need
from tests.support.paths import TREE

VMLINUX = Path("/sys/kernel/btf/vmlinux")
EVERY = Selection()

pytestmark = pytest.mark.native


@pytest.fixture(autouse=True)
def root() -> None:
    need(os.geteuid() == 0, "root")


class BpftoolTypes:
    """This kernel's types as bpftool lists them, with a plain search of its prototypes."""

    def __init__(self) -> None:
        need(shutil.which("bpftool") and VMLINUX.exists(), "bpftool, and a kernel with BTF")
        dump = ["bpftool", "-j", "btf", "dump", "file", str(VMLINUX)]
        printed = subprocess.run(dump, capture_output=True, check=True).stdout
        self.types: dict[int, dict[str, Any]] = {
            entry["id"]: entry for entry in json.loads(printed)["types"]
        }

    def bare(self, type_id: int) -> dict[str, Any]:
        while (found := self.types.get(type_id, {"kind": "VOID", "name": ""}))["kind"] in (
            "CONST",
            "VOLATILE",
            "TYPEDEF",
            "RESTRICT",
            "TYPE_TAG",
        ):
            type_id = found["type_id"]
        return found

    def skb_positions(self, proto_id: int) -> list[int]:
        """Return positions, 1 the first, of ``struct sk_buff *`` arguments."""
        positions = []
        for position, param in enumerate(self.types[proto_id]["params"], 1):
            pointer = self.bare(param["type_id"])
            if pointer["kind"] == "PTR":
                target = self.bare(pointer["type_id"])
                if (target["kind"], target["name"]) == ("STRUCT", "sk_buff"):
                    positions.append(position)
        return positions

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.types.values() if entry["kind"] == kind]


@pytest.fixture(scope="module")
def bpftool_types() -> BpftoolTypes:
    return BpftoolTypes()


def test_functions_are_those_of_bpftool(bpftool_types: BpftoolTypes) -> None:
    expected: dict[str, int] = {}
    beyond = set()
    for function in bpftool_types.of_kind("FUNC"):
        if positions := bpftool_types.skb_positions(function["type_id"]):
            if positions[0] <= 5:
                expected[function["name"]] = positions[0]
            else:
                beyond.add(function["name"])
    found = discover_functions(load_vmlinux(), {}, None, None, EVERY)
    assert {one.name: one.skb_arg for one in found.functions} == expected
    assert {function.display for function, _ in found.unattachable} == beyond
    assert len(expected) > 1000


def test_tracepoints_are_those_of_bpftool(bpftool_types: BpftoolTypes) -> None:
    expected = {}
    for typedef in bpftool_types.of_kind("TYPEDEF"):
        if typedef["name"].startswith("btf_trace_"):
            proto = bpftool_types.types[typedef["type_id"]]["type_id"]
            if positions := bpftool_types.skb_positions(proto):
                expected[typedef["name"].removeprefix("btf_trace_")] = positions[0] - 2
    found = discover_tracepoints(load_vmlinux(), EVERY)
    assert {one.name: one.skb_index for one in found} == expected
    kfree_skb = next(one for one in found if one.name == "kfree_skb")
    names = [
        bpftool_types.bare(param["type_id"])["name"]
        for entry in bpftool_types.of_kind("TYPEDEF")
        if entry["name"] == "btf_trace_kfree_skb"
        for param in bpftool_types.types[bpftool_types.types[entry["type_id"]]["type_id"]][
            "params"
        ][1:]
    ]
    assert kfree_skb.reason_index == names.index("skb_drop_reason")


def test_symbols_are_those_of_kallsyms() -> None:
    symbols = read_symbols()
    expected: dict[str, list[int]] = {}
    for line in KALLSYMS.read_text().splitlines():
        words = line.split()
        if words[1] in ("t", "T", "w", "W"):
            expected.setdefault("".join(words[2:]), []).append(int(words[0], 16))
    # Programs and modules come and go between two readings.
    steady = {name for name in expected if "[" not in name}
    assert {name: list(symbols.by_name[name]) for name in steady} == {
        name: expected[name] for name in steady
    }
    (address,) = symbols.addresses("consume_skb")
    assert symbols.nearest(address + 1) == ("consume_skb", 1)


def mount_and_cat(filesystem: str, name: str) -> subprocess.CompletedProcess[str]:
    """Print a file of a filesystem that is mounted in a mount namespace of its own."""
    script = f"mount -t {filesystem} none /mnt && exec cat /mnt/{name}"
    command = ["unshare", "--mount", "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def mounts() -> list[str]:
    """Return all mounts but files of network namespaces, which other tests make and remove
    meanwhile.
    """
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if " - nsfs " not in line]


def test_detached_mount_has_same_file() -> None:
    before = mounts()
    descriptors = sorted(os.listdir("/proc/self/fd"))
    found = pseudofs.read_file("securityfs", "lsm", mount_points=()).decode()
    assert found == mount_and_cat("securityfs", "lsm").stdout
    with pytest.raises(FileNotFoundError):
        pseudofs.read_file("securityfs", "no_such_file", mount_points=("/nowhere",))
    with pytest.raises(OSError, match="no_such_filesystem"):
        pseudofs.read_file("no_such_filesystem", "x", mount_points=())
    assert mounts() == before
    assert sorted(os.listdir("/proc/self/fd")) == descriptors


def test_lockdown_level_is_that_of_file() -> None:
    shown = mount_and_cat("securityfs", "lockdown")
    expected = (
        lockdown.parse_level(shown.stdout) if not shown.returncode else lockdown.Lockdown.NONE
    )
    assert lockdown.level() is expected


def test_traceable_functions_or_error() -> None:
    shown = mount_and_cat("tracefs", "available_filter_functions")
    if shown.returncode == 0:
        found = ftrace.traceable_functions()
        assert len(found) == len(set(shown.stdout.splitlines()))
        return
    with pytest.raises(KernelError, match="available_filter_functions") as caught:
        ftrace.traceable_functions()
    if "not permitted" in shown.stderr and lockdown.level().value in (
        "integrity",
        "confidentiality",
    ):
        assert f"kernel lockdown ({lockdown.level().value})" in str(caught.value)


def test_missing_capabilities_of_root_and_user() -> None:
    assert capabilities.missing_capabilities() == []
    code = "from pypwru.kernel.capabilities import *; print(*missing_capabilities())"
    unprivileged = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    printed = subprocess.run(
        [*unprivileged, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(TREE)},
    ).stdout
    assert printed.split() == ["CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"]


def test_hidden_addresses_are_error() -> None:
    unprivileged = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    shown = subprocess.run(
        [*unprivileged, "head", "-1", str(KALLSYMS)], capture_output=True, text=True, check=True
    ).stdout
    code = "from pypwru.kernel.kallsyms import read_symbols; print(len(read_symbols()))"
    result = subprocess.run(
        [*unprivileged, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(TREE)},
    )
    if shown.startswith("0000000000000000 "):
        assert "CAP_SYSLOG" in result.stderr
    else:
        assert int(result.stdout) > 1000


def test_trial_function_has_plain_arguments() -> None:
    btf = load_vmlinux()
    function = btf.type(btf.find(TRIAL_FUNCTION, Kind.FUNC)[0])
    kinds = {btf.type(btf.resolve(each.type)).kind for each in btf.params(function.type)}
    assert kinds <= {Kind.INT, Kind.PTR, Kind.ENUM}
