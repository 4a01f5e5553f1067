"""Hostile names in statistics, --top, lists, the log and errors: no line is forged, and no control
character is printed.
"""

from __future__ import annotations

import io
import json
import os
import unicodedata

import pytest
from rich.console import Console

from pypwru.cli import main as command
from pypwru.discovery.targets import Targets
from pypwru.errors import PypwruError
from pypwru.kernel.bpf_info import RunStats
from pypwru.listing.entry import Entry, Listing
from pypwru.listing.text import table
from pypwru.log import Log
from pypwru.nft.ruleset import decode_name, sanitize_line
from pypwru.statistics.document import render_document as statistics_document
from pypwru.statistics.report import render_report
from pypwru.statistics.summary import RunCounters, Statistics, Summary
from pypwru.statistics.top.drawing import render_screen
from pypwru.statistics.top.view import TableView
from tests.support import records
from tests.unit.output.test_hostile_names import NAMES
from tests.unit.statistics.test_summary import COUNTERS, LAYOUT, make_event

FORMATS = ["%s%n%x", "{0.__class__}", "{name}", "\\N{BULLET}", "$(id)`id`", '","x":"', "x" * 70_000]
ALL = [*NAMES, *FORMATS]


def control_characters(text: str) -> list[str]:
    """Return the control and format characters of a text, but for newlines."""
    return [one for one in text.replace("\n", "") if unicodedata.category(one) in {"Cc", "Cf"}]


@pytest.fixture(scope="module")
def summary() -> Summary:
    """Return statistics with rules and chains of each name, decoded as from the kernel and nft."""
    resolver = records.names()._replace(
        chain=lambda netns, table, chain: (
            decode_name(os.fsencode(ALL[chain - 1])),
            decode_name(os.fsencode(ALL[-chain])),
        ),
        rule=lambda part, at: (sanitize_line(ALL[int.from_bytes(part[8:16], "little") - 1]), ""),
    )
    statistics = Statistics(LAYOUT, resolver, Targets(records.FUNCTIONS), lambda: 10**18, lambda: 1)
    for number in range(1, len(ALL) + 1):
        part = records.nft(12, chain=number)
        statistics.show([make_event(14, 1, nft=part, kind=records.NFT_RULE)])
    return statistics.summary(
        RunCounters(COUNTERS, {}, {name: RunStats(1, 1) for name in ("trace_skb",)}), True
    )


def test_statistics(summary: Summary) -> None:
    assert len(summary.rules) > 10
    text = render_report(summary)
    assert not control_characters(text)
    assert not [line for line in text.splitlines() if line.startswith("0xffff")]
    written = statistics_document(summary)
    assert not control_characters(written)
    assert json.loads(written)


@pytest.mark.parametrize("width", [40, 200])
def test_live_table(summary: Summary, width: int) -> None:
    for key in "1234567890":
        view = TableView()
        view.handle_key(key)
        console = Console(file=io.StringIO(), width=width, height=60, color_system=None)
        with console.capture() as captured:
            console.print(render_screen(summary, view, 60))
        assert not control_characters(captured.get()), key
        assert len(captured.get().splitlines()) <= 60


def test_function_list() -> None:
    """Modules and signatures come from files, such as that of --kernel-btf."""
    entries = tuple(Entry(name, name, 1, "other", 3, name, None) for name in NAMES)
    text = table(Listing(entries, None, "6.12"))
    assert text.count("\n") == len(entries) + 1
    assert not control_characters(text)


def test_log() -> None:
    stream = io.StringIO()
    log = Log(stream, debug=True)
    for name in ALL:
        log.warn("Failed to read a name", name=name, why=PypwruError(name))
    text = stream.getvalue()
    assert text.count("\n") == len(ALL)
    assert not control_characters(text)


def test_errors(capfd: pytest.CaptureFixture[str]) -> None:
    """Errors that repeat the command line."""
    for name in (name for name in ALL if "\0" not in name):
        for words in (["--backend", name], [f"--priority={name}"], [f"--{name}"]):
            status = command.main(words)
            out, err = capfd.readouterr()
            assert (status, out) == (2, ""), words
            assert err.count("\n") == 2 and not control_characters(err), words
            assert len(err) < 10_000
