"""Modules and files of a real run until it is ready; a warm one reads no types and no symbols."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.native.tracing import TIMEOUT, need_tracing
from tests.support.imports import COMMAND, HEAVY, imported

# Modules that a run loads only if its flags need it, or if its plan isn't cached.
UNUSED = (
    "pypwru.api",
    "pypwru.pcap.capture_points",
    "pypwru.attach.fentry",
    "pypwru.nft.verdict_sources",
    "pypwru.attach.kprobe",
    "pypwru.nft.probes",
    "pypwru.attach.bpf_programs",
    "pypwru.btf.parse",
    "pypwru.discovery.listed_functions",
    "pypwru.regexp.re2",
    "pypwru.discovery.no_match",
    "pypwru.packets.drop_filter",
    "pypwru.nft.packet_filter",
    "pypwru.pcap.packet_data",
    "pypwru.expr",
    "pypwru.program.page_bases",
    "pypwru.listing",
    "pypwru.nft.text_delay",
    "pypwru.journey",
    "pypwru.output.json",
    "pypwru.nft.match",
    "pypwru.pcap",
    "pypwru.files.rotation",
    "pypwru.nft.rule_key",
    "pypwru.program.conntrack_types",
    "pypwru.program.layout",
    "pypwru.nft.rule_service",
    "pypwru.statistics.schedule",
    "pypwru.statistics.summary",
)
# The kernel's own long lists.
READ_ONCE = ("/sys/kernel/btf/vmlinux", "/proc/kallsyms", "available_filter_functions")


def run_until_ready(tmp_path: Path, *flags: str, tracer: Sequence[str] = ()) -> str:
    """Return standard error of a run that is stopped once it is ready.

    Args:
        flags: beside --ready-file and the filter.
        tracer: words that start the command.
    """
    ready, log = tmp_path / "ready", tmp_path / "stderr"
    ready.unlink(missing_ok=True)
    words = [*tracer, *COMMAND, *flags, "--ready-file", str(ready), "icmp"]
    environment = {**os.environ, "PYPWRU_CACHE": str(tmp_path / "cache")}
    with log.open("wb") as stderr:
        run = subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + TIMEOUT
            while not ready.exists():
                assert run.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
                time.sleep(0.01)
        finally:
            os.killpg(run.pid, signal.SIGINT)
            run.wait(TIMEOUT)
    return log.read_text()


@pytest.fixture
def warm(tmp_path: Path) -> Path:
    need_tracing()
    run_until_ready(tmp_path)  # fills the cache
    return tmp_path


def test_warm_run_loads_no_heavy_module(warm: Path) -> None:
    loaded = imported(run_until_ready(warm))

    names = [*UNUSED, *HEAVY]
    found = {name for name in loaded for one in names if f"{name}.".startswith(f"{one}.")}
    assert found == set()


def test_warm_run_reads_no_long_list(warm: Path) -> None:
    trace = warm / "strace"
    run_until_ready(
        warm, tracer=("strace", "--follow-forks", "--trace=openat", f"--output={trace}")
    )

    opened = trace.read_text()
    assert "/sys/kernel/notes" in opened, "strace has no trace of it"
    assert [name for name in READ_ONCE if name in opened] == []


def cached_plans(folder: Path) -> dict[str, bytes]:
    """Map names to contents of this kernel's cached plans."""
    return {path.name: path.read_bytes() for path in (folder / "cache").glob("tracepoints-*")}


def attached(stderr: str) -> int:
    """Return the number of attached functions in a run's log."""
    (count,) = re.findall(r" attached=(\d+)", stderr)
    return int(count)


def test_cached_plan_serves_other_flags(warm: Path, tmp_path: Path) -> None:
    first, trace = cached_plans(warm), warm / "strace"
    assert len(first) == 1
    words = ("strace", "--trace=openat", f"--output={trace}")
    few = attached(run_until_ready(warm, "--priority", "1", tracer=words))

    assert [name for name in READ_ONCE if name in trace.read_text()] == []
    assert cached_plans(warm) == first
    (tmp_path / "cold").mkdir()
    assert few == attached(run_until_ready(tmp_path / "cold", "--priority", "1"))
    assert few < attached(run_until_ready(warm))


def test_damaged_plan_is_made_again(warm: Path) -> None:
    ((name, whole),) = cached_plans(warm).items()
    path = warm / "cache" / name
    for damaged in (b"", whole[:-1], whole.replace(b"kfree_skb", b"kfree_skc"), b"\0" * len(whole)):
        path.write_bytes(damaged)
        assert "Attached" in run_until_ready(warm)
        assert path.read_bytes() == whole
