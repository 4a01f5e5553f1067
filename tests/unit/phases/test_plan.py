"""The log of the compiled filter with --debug."""

from __future__ import annotations

import io
import re

from pypwru.asm.ebpf import LD_IMM64
from pypwru.cli.flags import parse
from pypwru.config import Config
from pypwru.log import Log
from pypwru.phases.plan import compile_filters


def compile_log(*words: str) -> str:
    config = parse(words)
    assert isinstance(config, Config)
    stream = io.StringIO()
    compile_filters(config, Log(stream, config.debug))
    return stream.getvalue()


def test_debug_logs_both_views_of_the_filter() -> None:
    config = parse(["tcp port 443"])
    assert isinstance(config, Config)
    packet = compile_filters(config, Log(None)).packet
    text = compile_log("--debug", "tcp port 443")
    _, *parts = re.split(r"^.* DEBUG eBPF of the filter view=(.*)\n", text, flags=re.MULTILINE)
    titles, listings = parts[::2], parts[1::2]
    assert titles == ['"L2 (Ethernet)"', '"L3 (IP)"']
    for view, listing in zip((packet.l2, packet.l3), listings, strict=True):
        body = view.body(0)
        second_slots = sum(insn.code == LD_IMM64 for insn in body)
        lines = listing.splitlines()
        assert len(lines) == len(body) - second_slots
        assert all(re.match(r"\(\d{3}\) \S", line) for line in lines)
        targets = [int(number) for number in re.findall(r"(?:jt|jf|goto) (\d+)", listing)]
        assert targets and max(targets) <= len(body)
        assert "if w0 != 0x6 " in listing and "0x1bb" in listing


def test_other_runs_log_nothing() -> None:
    assert compile_log("tcp port 443") == ""
