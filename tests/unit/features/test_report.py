"""Answers of probes, what of them is cached, and both outputs."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pypwru.cache import Cache
from pypwru.config import Backend
from pypwru.errors import KernelError
from pypwru.features import report as report_module
from pypwru.features.document import json_document
from pypwru.features.report import Answer, Report, probe_features
from pypwru.features.text import table
from pypwru.kernel.feature import Feature, Undetermined
from pypwru.log import Log

OLD, NEW = "5.10.0-44-amd64", "6.12.1"


class Choice:
    """What select_backend() returns of a BackendPlan."""

    why = "no fentry-multi: it is too old"

    class plan:  # noqa: N801 -- an attribute
        backend = Backend.KPROBE_MULTI
        target_count = 1626


class Kernel:
    """A kernel that is not probed itself."""

    kernel_btf: Path | None = None

    def select_backend(self) -> Any:
        return Choice


def yes(remark: str = "") -> Callable[[object], str]:
    return lambda kernel: remark


def no(cause: str, cure: str = "", code: int = 0) -> Callable[[object], str]:
    def probe(kernel: object) -> NoReturn:
        raise KernelError(cause, cure) from (OSError(code, "refused") if code else None)

    return probe


def unknown(why: str) -> Callable[[object], str]:
    def probe(kernel: object) -> NoReturn:
        raise Undetermined(why)

    return probe


def feature(probe: Callable[[object], str], name: str = "one", **fields: Any) -> Feature:
    values = {"since": "5.18", "options": ("CONFIG_ONE",), "cost": "it is slow", **fields}
    return Feature(name, probe=probe, **values)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(autouse=True)
def running_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux 6.12, and a process that may trace."""
    monkeypatch.setattr(report_module, "missing_capabilities", list)
    set_release(monkeypatch, NEW)


def set_release(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    names = os.uname()
    found = os.uname_result((names.sysname, names.nodename, release, names.version, names.machine))
    monkeypatch.setattr(os, "uname", lambda: found)


def answer(cache: Cache, row: Feature) -> tuple[bool | None, str, str]:
    ((_, is_here, remark, cure),) = probe_features([row], Kernel(), cache).answers  # type: ignore[arg-type]
    return is_here, remark, cure


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (feature(yes("by module x")), (True, "by module x", "")),
        (feature(unknown("it is not loaded")), (None, "it is not loaded", "")),
        (feature(no("refused")), (False, "refused", "boot a kernel built with CONFIG_ONE")),
        (
            feature(no("refused", "omit --backend")),
            (False, "refused", "boot a kernel built with CONFIG_ONE"),
        ),
        (feature(no("refused"), cure="do it"), (False, "refused", "do it")),
        (feature(no("off", "do it"), since="", options=()), (False, "off", "do it")),
        (
            feature(no("refused", code=errno.EPERM)),
            (False, "refused", report_module._CURE_REFUSED),
        ),
    ],
    ids=["yes", "unknown", "no", "cure of row", "own cure", "cure of probe", "refused"],
)
def test_answer(
    cache: Cache,
    row: Feature,
    expected: tuple[bool | None, str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert answer(cache, row) == expected


def test_cure_on_an_older_kernel(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    set_release(monkeypatch, OLD)
    assert answer(cache, feature(no("refused")))[2] == (
        "boot Linux 5.18 or newer, built with CONFIG_ONE"
    )


def test_without_rights_nothing_is_tried(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "missing_capabilities", lambda: ["CAP_BPF"])
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    kernel: Any = Kernel()
    kernel.select_backend = pytest.fail
    features = [
        feature(lambda kernel: pytest.fail("it was tried")),
        feature(yes(), needs_root=False),
        feature(no("refused", code=errno.EACCES), needs_root=False),
    ]
    report = probe_features(features, kernel, cache)
    assert [(one.is_here, one.remark) for one in report.answers] == [
        (None, "needs root"),
        (True, ""),
        (None, "needs root"),
    ]
    assert (report.backend, report.note) == (None, "needs root")


def test_backend_of_a_trace(cache: Cache) -> None:
    report = probe_features([], Kernel(), cache)  # type: ignore[arg-type]
    assert report == Report((), Backend.KPROBE_MULTI, 1626, Choice.why)
    kernel: Any = Kernel()
    kernel.select_backend = lambda: no("cannot read it", "run as root")(None)
    assert probe_features([], kernel, cache)[1:] == (None, 0, "cannot read it; run as root")


def test_only_fixed_features_that_are_there_are_cached(cache: Cache) -> None:
    probed: list[str] = []

    def noting(name: str, probe: Callable[[object], str]) -> Callable[[object], str]:
        def call(kernel: object) -> str:
            probed.append(name)
            return probe(kernel)

        return call

    probes = {
        "fixed": (yes(), True),
        "changing": (yes(), False),
        "remark": (yes("now"), True),
        "lacking": (no("refused"), True),
        "unknown": (unknown("not loaded"), True),
    }
    features = [
        feature(noting(name, probe), name, is_fixed=is_fixed)
        for name, (probe, is_fixed) in probes.items()
    ]
    first = probe_features(features, Kernel(), cache)  # type: ignore[arg-type]
    assert probed == [*probes]
    probed.clear()
    assert probe_features(features, Kernel(), cache) == first  # type: ignore[arg-type]
    assert probed == ["changing", "remark", "lacking", "unknown"]
    probed.clear()
    kernel = Kernel()
    kernel.kernel_btf = Path("/boot/vmlinux")
    probe_features(features, kernel, cache)  # type: ignore[arg-type]
    assert probed == [*probes]


def test_unusable_cache_is_logged(tmp_path: Path) -> None:
    log = io.StringIO()
    (tmp_path / "open").mkdir(mode=0o755)
    probe_features([feature(yes(), is_fixed=True)], Kernel(), Cache(tmp_path / "open", Log(log)))  # type: ignore[arg-type]
    assert "No cache" in log.getvalue()


REPORT = Report(
    (
        Answer(feature(yes(), "BTF", since="5.4"), True),
        Answer(feature(yes(), "lockdown", since=""), True, "lockdown is none"),
        Answer(feature(yes(), "kprobe-multi"), False, "no link\x1b[2J", "boot Linux 5.18"),
        Answer(feature(yes(), "switch", since=""), False, "it is 0"),
        Answer(feature(yes(), "nftables", since=""), None, "nf_tables is not loaded"),
    ),
    Backend.KPROBE,
    1473,
    "no kprobe-multi: no link",
)


def test_table() -> None:
    assert table(REPORT) == (
        "FEATURE       SINCE  HERE\n"
        "BTF           5.4    yes\n"
        "lockdown      -      yes: lockdown is none\n"
        "kprobe-multi  5.18   no\n"
        "    why:  no link\\u001b[2J\n"
        "    cost: it is slow\n"
        "    cure: boot Linux 5.18\n"
        "switch        -      no\n"
        "    why:  it is 0\n"
        "    cost: it is slow\n"
        "nftables      -      unknown: nf_tables is not loaded\n"
        "\n"
        "Backend of a trace without options: kprobe, on 1473 targets\n"
        "    why:  no kprobe-multi: no link\n"
    )


def test_table_without_backend() -> None:
    text = table(Report((), None, 0, "needs root"))
    assert text.endswith("\nBackend of a trace without options: unknown: needs root\n")


def test_document() -> None:
    now = datetime(2026, 12, 1, 15, 0, tzinfo=timezone.utc)
    document: dict[str, Any] = json_document(REPORT, "6.1.0", now)
    assert document["metadata"] == {
        "timestamp": "2026-12-01T15:00:00+00:00",
        "kernel": "6.1.0",
        "backend": "kprobe",
        "targets": 1473,
        "note": "no kprobe-multi: no link",
    }
    assert document["features"][2] == {
        "name": "kprobe-multi",
        "since": "5.18",
        "options": ["CONFIG_ONE"],
        "here": False,
        "remark": "no link\x1b[2J",
        "cost": "it is slow",
        "cure": "boot Linux 5.18",
    }
    assert [one["here"] for one in document["features"]] == [True, True, False, False, None]
    assert document["features"][0]["cost"] is document["features"][0]["cure"] is None
    unknown_backend: Any = json_document(Report((), None, 0, "needs root"), "6.1.0", now)
    assert unknown_backend["metadata"]["backend"] is unknown_backend["metadata"]["targets"] is None
