"""Where kprobes are put: how a place is said to the kernel."""

from __future__ import annotations

import errno
import os

import pytest

from pypwru.attach.kprobe import ProbeEvent, _define_probes
from pypwru.attach.report import AttachReport
from pypwru.discovery.functions import Function

TEXT = 0xFFFF800080010000


class Events:
    """Notes places, and refuses some."""

    def __init__(self, refused: str = "") -> None:
        self.places: list[str] = []
        self._refused = refused

    def define(self, event: str, place: str, returns: bool = False) -> None:
        if place == self._refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.places.append(place)


def defined(
    machine: str, address: int, module: str, refused: str = ""
) -> tuple[Events, AttachReport]:
    function = Function("work", module, 0, 0, (address,), f"work[{module}]", "", 0)
    events, report = Events(refused), AttachReport()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6", "#1", machine)))
        _define_probes(events, ProbeEvent("event", False, TEXT), function, report, report)  # type: ignore[arg-type]
    return events, report


@pytest.mark.parametrize(
    ("machine", "address", "module", "place", "offset"),
    [
        ("x86_64", TEXT + 0x100, "", "_text+261", 5),
        ("x86_64", TEXT + 0x3000000, "nf_tables", "_text+50331653", 5),
        ("aarch64", TEXT + 0x100, "", "_text+256", 0),
        ("aarch64", TEXT - 0x100, "nf_tables", "nf_tables:work+0", 0),
        ("x86_64", TEXT - 0x100, "nf_tables", "nf_tables:work+5", 5),
    ],
)
def test_no_offset_is_negative(
    machine: str, address: int, module: str, place: str, offset: int
) -> None:
    """trace_kprobe_create() of kernel/trace/trace_kprobe.c refuses such with EINVAL."""
    events, report = defined(machine, address, module)
    assert events.places == [place]
    assert report.targets == {address + offset: f"work[{module}]"}
    assert report.target_count == 1


def test_what_the_kernel_refuses_is_reported() -> None:
    events, report = defined("aarch64", TEXT - 0x100, "nf_tables", "nf_tables:work+0")
    assert events.places == []
    assert report.ignored == [("work[nf_tables]", "Invalid argument")]
