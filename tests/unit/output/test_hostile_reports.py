"""Names that others chose, where they are summed up, listed and told of: statistics, --top, lists,
the log and errors obey and forge nothing either.
"""

from __future__ import annotations

import io
import json
import os
import unicodedata

import pytest
from rich.console import Console

from pypwru.cli import main as command
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
from tests.unit.statistics.test_summary import ACCOUNT, CONFIG, sight

FORMATS = ["%s%n%x", "{0.__class__}", "{name}", "\\N{BULLET}", "$(id)`id`", '","x":"', "x" * 70_000]
ALL = [*NAMES, *FORMATS]


def is_obeyed(text: str) -> list[str]:
    """What a terminal would obey in a report of lines."""
    return [one for one in text.replace("\n", "") if unicodedata.category(one) in {"Cc", "Cf"}]


@pytest.fixture(scope="module")
def summary() -> Summary:
    """Rules and chains of each name, as they come from the kernel and from nft."""
    named = records.names()._replace(
        chain=lambda netns, table, chain: (
            decode_name(os.fsencode(ALL[chain - 1])),
            decode_name(os.fsencode(ALL[-chain])),
        ),
        rule=lambda part, at: (sanitize_line(ALL[int.from_bytes(part[8:16], "little") - 1]), ""),
    )
    made = Statistics(CONFIG, named, records.FUNCTIONS, lambda: 10**18, lambda: 1)
    for number in range(1, len(ALL) + 1):
        part = records.nft(12, chain=number)
        made.show([sight(14, 1, nft=part, kind=records.NFT_RULE)])
    return made.summary(
        RunCounters(ACCOUNT, {}, {name: RunStats(1, 1) for name in ("trace_skb",)}), True
    )


def test_statistics(summary: Summary) -> None:
    assert len(summary.rules) > 10
    text = render_report(summary)
    assert not is_obeyed(text)
    assert not [line for line in text.splitlines() if line.startswith("0xffff")]
    written = statistics_document(summary)
    assert not is_obeyed(written)
    assert json.loads(written)


@pytest.mark.parametrize("width", [40, 200])
def test_the_live_table(summary: Summary, width: int) -> None:
    for key in "1234567890":
        view = TableView()
        view.handle_key(key)
        console = Console(file=io.StringIO(), width=width, height=60, color_system=None)
        with console.capture() as captured:
            console.print(render_screen(summary, view, 60))
        assert not is_obeyed(captured.get()), key
        assert len(captured.get().splitlines()) <= 60


def test_a_list() -> None:
    """Modules and signatures come from files, which --kernel-btf names, too."""
    entries = tuple(Entry(name, name, 1, "other", 3, name, None) for name in NAMES)
    text = table(Listing(entries, None, "6.12"))
    assert text.count("\n") == len(entries) + 1
    assert not is_obeyed(text)


def test_the_log() -> None:
    stream = io.StringIO()
    log = Log(stream, debug=True)
    for name in ALL:
        log.warn("Failed to read a name", name=name, why=PypwruError(name))
    text = stream.getvalue()
    assert text.count("\n") == len(ALL)
    assert not is_obeyed(text)


def test_errors(capfd: pytest.CaptureFixture[str]) -> None:
    """What a command line repeats."""
    for name in (name for name in ALL if "\0" not in name):
        for words in (["--backend", name], [f"--priority={name}"], [f"--{name}"]):
            status = command.main(words)
            out, err = capfd.readouterr()
            assert (status, out) == (2, ""), words
            assert err.count("\n") == 2 and not is_obeyed(err), words
            assert len(err) < 10_000
