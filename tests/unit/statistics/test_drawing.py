"""The live table on terminals that are too narrow for it, as rich draws it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pypwru.statistics.format import format_count
from pypwru.statistics.top.drawing import render_screen
from pypwru.statistics.top.view import TableView
from tests.unit.statistics.test_summary import RECEIVED, SENT, make_event, summarize


def drawn(width: int, table: str) -> list[str]:
    """The lines below the tabs."""
    batch = [make_event(SENT, at) for at in range(1, 1_200)] + [make_event(RECEIVED, 123_456_789)]
    view = TableView()
    view.handle_key(table)
    console = Console(file=io.StringIO(), width=width, height=24)
    with console.capture() as captured:
        console.print(render_screen(summarize(batch), view, 24))
    lines = captured.get().splitlines()
    assert all(len(line) <= width for line in lines)
    return [line for line in lines[3:] if line.strip()]


@pytest.mark.parametrize("width", [30, 40, 60, 120])
def test_numbers_keep_all_digits_and_units(width: int) -> None:
    head, *rows, _ = drawn(width, "1")
    assert head.split()[:2] == ["HITS", "v"]
    assert rows[0].split()[0] == format_count(1_199)
    assert all("\u2026" not in row.split()[number] for row in rows for number in (0, 1))
    assert len(rows) == 2, "a row is a line"
    hops = drawn(width, "4")[1]
    assert hops.split()[1] in {"ns", "us", "ms", "s"} and hops.split()[3] in {"ns", "us", "ms", "s"}
