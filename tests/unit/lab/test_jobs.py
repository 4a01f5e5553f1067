"""Helpers of the lab's jobs."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.lab.jobs.pcap import packets
from tests.lab.jobs.steps import run_steps


def block(kind: int, size: int = 16) -> bytes:
    return struct.pack("=II", kind, size).ljust(size - 4, b"\0") + struct.pack("=I", size)


def test_packets_of_a_growing_file(tmp_path: Path) -> None:
    file = tmp_path / "growing.pcapng"
    assert packets(file) == (0, 0)
    whole = block(0x0A0D0D0A, 28) + block(1, 20) + block(6, 32) + block(6, 40)
    file.write_bytes(whole)
    assert packets(file) == (2, len(whole))
    for cut in (1, 11, 12, 31):
        file.write_bytes(whole + block(6, 32)[:cut])
        assert packets(file) == (2, len(whole))


def test_steps_are_skipped_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, results = tmp_path / "result.json", dict[str, object]()
    monkeypatch.setenv("PYPWRU_LAB_WITHOUT", "plain,frames")
    steps = [(name, dict[str, object]) for name in ("every kprobe", "plain kprobe", "frames")]
    run_steps(steps, results, file)
    assert results == {"every kprobe": {}}
    assert file.read_text() == '{"every kprobe": {}}'
