"""What a real run loads by the time that it is ready; a warm one reads no types and no symbols."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.native.tracing import PATIENCE, need_tracing
from tests.support.imports import COMMAND, HEAVY, imported

# What a run loads only if its flags ask for it, or if nothing of its plan is kept.
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


def started(tmp_path: Path, *flags: str, tracer: Sequence[str] = ()) -> str:
    """Standard error of a run that is stopped once it is ready.

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
            end = time.monotonic() + PATIENCE
            while not ready.exists():
                assert run.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
                time.sleep(0.01)
        finally:
            os.killpg(run.pid, signal.SIGINT)
            run.wait(PATIENCE)
    return log.read_text()


@pytest.fixture
def warm(tmp_path: Path) -> Path:
    need_tracing()
    started(tmp_path)  # fills the cache
    return tmp_path


def test_modules_of_a_warm_run(warm: Path) -> None:
    loaded = imported(started(warm))

    names = [*UNUSED, *HEAVY]
    found = {name for name in loaded for one in names if f"{name}.".startswith(f"{one}.")}
    assert found == set()


def test_a_warm_run_reads_no_long_list(warm: Path) -> None:
    trace = warm / "strace"
    started(warm, tracer=("strace", "--follow-forks", "--trace=openat", f"--output={trace}"))

    opened = trace.read_text()
    assert "/sys/kernel/notes" in opened, "strace saw nothing of it"
    assert [name for name in READ_ONCE if name in opened] == []


def answers(folder: Path) -> dict[str, bytes]:
    """What is kept of this kernel, by name."""
    return {path.name: path.read_bytes() for path in (folder / "cache").glob("tracepoints-*")}


def attached(stderr: str) -> int:
    """How many functions a run says that it attached to."""
    (count,) = re.findall(r" attached=(\d+)", stderr)
    return int(count)


def test_other_flags_are_served_by_the_same_answers(warm: Path, tmp_path: Path) -> None:
    first, trace = answers(warm), warm / "strace"
    assert len(first) == 1
    words = ("strace", "--trace=openat", f"--output={trace}")
    few = attached(started(warm, "--priority", "1", tracer=words))

    assert [name for name in READ_ONCE if name in trace.read_text()] == []
    assert answers(warm) == first
    (tmp_path / "cold").mkdir()
    assert few == attached(started(tmp_path / "cold", "--priority", "1"))
    assert few < attached(started(warm))


def test_a_damaged_answer_is_made_anew(warm: Path) -> None:
    ((name, whole),) = answers(warm).items()
    path = warm / "cache" / name
    for damaged in (b"", whole[:-1], whole.replace(b"kfree_skb", b"kfree_skc"), b"\0" * len(whole)):
        path.write_bytes(damaged)
        assert "Attached" in started(warm)
        assert path.read_bytes() == whole
