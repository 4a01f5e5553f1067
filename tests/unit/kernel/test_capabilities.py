"""CAP_BPF, CAP_PERFMON, CAP_SYSLOG: which of them a set lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.errors import KernelError
from pypwru.kernel.capabilities import find_missing, missing_capabilities, require_capabilities

SYS_ADMIN, SYSLOG, PERFMON, BPF = (1 << bit for bit in (21, 34, 38, 39))
ALL = (1 << 41) - 1


@pytest.mark.parametrize(
    ("effective", "last", "missing"),
    [
        (ALL, 40, []),
        (0, 40, ["CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"]),
        (BPF | PERFMON | SYSLOG, 40, []),
        (SYS_ADMIN | SYSLOG, 40, []),
        (SYS_ADMIN, 40, ["CAP_SYSLOG"]),
        (BPF | SYSLOG, 40, ["CAP_PERFMON"]),
        (SYSLOG, 37, ["CAP_SYS_ADMIN"]),
        (SYSLOG | SYS_ADMIN, 37, []),
    ],
)
def test_missing(effective: int, last: int, missing: list[str]) -> None:
    assert find_missing(effective, last) == missing


def test_root_of_container_lacks_all() -> None:
    assert find_missing(ALL, 40, initial_namespace=False) == [
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_SYSLOG",
    ]


@given(st.integers(0, ALL), st.integers(0, ALL))
def test_missing_shrinks_with_more_rights(held: int, more: int) -> None:
    assert set(find_missing(held | more, 40)) <= set(find_missing(held, 40))


def procfs(folder: Path, effective: int, namespace: int = 4026531837) -> Path:
    (folder / "self/ns").mkdir(parents=True)
    (folder / "sys/kernel").mkdir(parents=True)
    (folder / "sys/kernel/cap_last_cap").write_text("40\n")
    lines = f"Name:\tpypwru\nCapPrm:\t{ALL:016x}\nCapEff:\t{effective:016x}\n"
    (folder / "self/status").write_text(lines)
    (folder / "self/ns/user").symlink_to(f"user:[{namespace}]")
    return folder


def test_this_process(tmp_path: Path) -> None:
    assert missing_capabilities(procfs(tmp_path, SYS_ADMIN)) == ["CAP_SYSLOG"]


def test_error_names_missing_and_cure(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"CAP_PERFMON \(.*CAP_SYSLOG \(.*sudo pypwru") as caught:
        require_capabilities(procfs(tmp_path, BPF))
    assert "CAP_BPF" not in str(caught.value)


def test_sufficient_capabilities(tmp_path: Path) -> None:
    require_capabilities(procfs(tmp_path, BPF | PERFMON | SYSLOG))


def test_user_namespace_is_detected(tmp_path: Path) -> None:
    assert missing_capabilities(procfs(tmp_path, ALL, namespace=4026532208)) != []


def test_no_procfs(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="mount procfs"):
        missing_capabilities(tmp_path)
