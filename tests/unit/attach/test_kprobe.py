"""Where kprobes are placed, and the notation of a location in the kernel's interface."""

from __future__ import annotations

import errno
import os

import pytest

from pypwru.attach.kprobe import ProbeEvent, _define_probes
from pypwru.attach.report import AttachReport
from pypwru.discovery.functions import Function

TEXT = 0xFFFF800080010000


class KprobeEvents:
    """Record the locations of probes, and refuse one of them."""

    def __init__(self, refused: str = "") -> None:
        self.locations: list[str] = []
        self._refused = refused

    def define(self, event: str, location: str, returns: bool = False) -> None:
        if location == self._refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.locations.append(location)


def define_work(
    machine: str, address: int, module: str, refused: str = ""
) -> tuple[KprobeEvents, AttachReport]:
    function = Function("work", module, 0, 0, (address,), f"work[{module}]", "", 0)
    events, report = KprobeEvents(refused), AttachReport()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6", "#1", machine)))
        _define_probes(events, ProbeEvent("event", False, TEXT), function, report, report)  # type: ignore[arg-type]
    return events, report


@pytest.mark.parametrize(
    ("machine", "address", "module", "location", "offset"),
    [
        ("x86_64", TEXT + 0x100, "", "_text+261", 5),
        ("x86_64", TEXT + 0x3000000, "nf_tables", "_text+50331653", 5),
        ("aarch64", TEXT + 0x100, "", "_text+256", 0),
        ("aarch64", TEXT - 0x100, "nf_tables", "nf_tables:work+0", 0),
        ("x86_64", TEXT - 0x100, "nf_tables", "nf_tables:work+5", 5),
    ],
)
def test_no_offset_is_negative(
    machine: str, address: int, module: str, location: str, offset: int
) -> None:
    """trace_kprobe_create() of kernel/trace/trace_kprobe.c refuses negative ones with EINVAL."""
    events, report = define_work(machine, address, module)
    assert events.locations == [location]
    assert report.targets == {address + offset: f"work[{module}]"}
    assert report.target_count == 1


def test_refused_probe_is_reported() -> None:
    events, report = define_work("aarch64", TEXT - 0x100, "nf_tables", "nf_tables:work+0")
    assert events.locations == []
    assert report.ignored == [("work[nf_tables]", "Invalid argument")]
