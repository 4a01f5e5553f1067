"""Schedule, file and live table of statistics."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from pypwru.errors import OutputError
from pypwru.log import Log
from pypwru.signals import blocked_signals
from pypwru.statistics.file import StatsFile
from pypwru.statistics.format import format_count, format_duration
from pypwru.statistics.schedule import ReportSchedule
from pypwru.statistics.summary import Summary
from pypwru.statistics.tables import TABLES
from pypwru.statistics.top.view import TableView
from tests.unit.statistics.test_summary import RECEIVED, SENT, make_event, summarize


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0 ns"), (999, "999 ns"), (1_000, "1.00 us"), (12_345, "12.3 us"), (4_560_000, "4.56 ms"),
     (999_499, "999 us"), (999_500, "1.00 ms"), (999_950, "1.00 ms"), (9_995_000, "10.0 ms"),
     (999_500_000, "1.00 s"), (1_200_000_000_000, "1,200 s")],
)  # fmt: skip
def test_durations_have_three_digits(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


def test_thousands_are_grouped() -> None:
    assert format_count(1234567) == "1,234,567"


def test_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    path, link = tmp_path / "stats.json", tmp_path / "link"
    link.symlink_to(path)
    path.write_text("old")
    path.chmod(0o640)
    reader = path.open()
    file = StatsFile(link)
    assert path.read_text() == "old", "it is kept until the first write"
    file.write("new")
    assert (reader.read(), path.read_text()) == ("old", "new")
    reader.close()
    assert path.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "stats.json"]


@pytest.mark.parametrize("path", ["/dev/null", ".", "none/stats.json"])
def test_irreplaceable_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="choose another --stats-file"):
        StatsFile(Path(path))
    assert os.listdir(tmp_path) == []


def test_late_reports_are_not_repeated() -> None:
    now = [0.0]
    emitted: list[bool] = []

    def summary(is_final: bool) -> Summary:
        emitted.append(is_final)
        return summarize([make_event(SENT, 1)])

    log = io.StringIO()
    reports = ReportSchedule(summary, None, True, 10, Log(log), lambda: now[0])
    for now[0], count in ((9, 0), (10, 1), (11, 1), (45, 2), (49, 2), (50, 3)):
        reports.emit_if_due()
        assert len(emitted) == count
    reports.emit(is_final=True)
    assert emitted == [False] * 3 + [True]
    assert log.getvalue().count("Statistics at") == 4


@pytest.mark.parametrize("has_text", [True, False])
def test_emit_writes_file_and_report(tmp_path: Path, has_text: bool) -> None:
    path, log = tmp_path / "stats.json", io.StringIO()
    ReportSchedule(
        lambda _: summarize([make_event(SENT, 1)]), StatsFile(path), has_text, 0, Log(log)
    ).emit()
    assert json.loads(path.read_text())["events"] == 1
    assert log.getvalue().count("Statistics at") == has_text


def test_blocked_signal_is_fetched() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        with blocked_signals(signal.SIGUSR1) as take:
            assert take() is None
            signal.raise_signal(signal.SIGUSR1)  # to this thread: another doesn't block it
            assert take() is signal.SIGUSR1
            assert take() is None
            signal.raise_signal(signal.SIGUSR1)
        assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_keys_select_table_and_order() -> None:
    summary = summarize([make_event(SENT, 1), make_event(RECEIVED, 2), make_event(RECEIVED, 3)])
    view = TableView()
    assert [row.function for row in view.rows(summary)] == ["ip_rcv", "ip_output"]
    assert all(map(view.handle_key, "n"))
    assert [row.function for row in view.rows(summary)] == ["ip_output", "ip_rcv"]
    assert view.handle_key("v")
    assert [row.function for row in view.rows(summary)] == ["ip_rcv", "ip_output"]
    assert view.handle_key("4")
    assert view.table.title == "hops"
    assert view.handle_key("9") and view.handle_key("\x1b")
    assert view.table.title == "hops", "9 is no table"
    assert not view.handle_key("q")


def test_every_character_is_handled() -> None:
    """Also digits that int() does not parse, such as superscripts."""
    view = TableView()
    for code in range(sys.maxunicode + 1):
        assert view.handle_key(chr(code)) == (chr(code) != "q")
        assert view.table in TABLES
    assert view.handle_key("2") and view.handle_key("\u00b2") and view.handle_key("\u0663")
    assert view.table is TABLES[1]


def test_sort_keys_are_unique() -> None:
    for table in TABLES:
        keys = [column.key for column in table.columns if column.key]
        assert len(set(keys)) == len(keys)
        assert not set(keys) & set("qhv0123456789")
