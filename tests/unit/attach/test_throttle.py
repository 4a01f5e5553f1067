"""Functions that --max-hits held back are named once, and counted at the end."""

from __future__ import annotations

import io

import pytest

from pypwru.attach.throttle import ThrottleReport, open_throttle_report
from pypwru.kernel import bpf
from pypwru.log import Log
from tests.support.records import configured

NAMES = {0x1000: "ip_rcv", 0x2000: "tcp_v4_rcv", 0x2005: "tcp_v4_rcv"}


def test_they_are_named_once_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    hits, said = {0x1000: 3}, io.StringIO()
    keys = lambda fd, size: iter([key.to_bytes(8, "little") for key in hits])  # noqa: E731
    value = lambda fd, key, size: hits[int.from_bytes(key, "little")].to_bytes(8, "little")  # noqa: E731
    monkeypatch.setattr(bpf, "map_keys", keys)
    monkeypatch.setattr(bpf, "map_lookup", value)
    log = Log(said)
    with open_throttle_report(
        configured("--max-hits 7"), {"throttled": 5}, NAMES, log
    ) as throttled:
        throttled.log_new(log, 7)
        throttled.log_new(log, 7)
        assert said.getvalue().count("ip_rcv") == 1
        hits |= {0x1000: 10, 0x2000: 20, 0x2005: 1, 0x3000: 2}
        assert throttled.counts() == {"tcp_v4_rcv": 21, "ip_rcv": 10, "0x3000": 2}
    first, second, third = said.getvalue().splitlines()
    assert "WARN" in first and "most=7" in first and first.endswith("functions=ip_rcv")
    assert "tcp_v4_rcv" in second and "0x3000" in second and "ip_rcv" not in second
    assert "tcp_v4_rcv:21,ip_rcv:10,0x3000:2" in third


def test_the_log_names_only_some_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(
        bpf, "map_keys", lambda fd, size: (bytes([n]) + bytes(7) for n in range(30))
    )
    monkeypatch.setattr(bpf, "map_lookup", lambda fd, key, size: bytes([1]) + bytes(7))
    with open_throttle_report(configured("--max-hits 1"), {"throttled": 5}, {}, Log(said)):
        pass
    assert said.getvalue().count("and 20 more") == 2


def test_a_run_without_a_limit_says_nothing() -> None:
    said = io.StringIO()
    with open_throttle_report(configured(""), {}, NAMES, Log(said)) as throttled:
        throttled.log_new(Log(said), 0)
    assert said.getvalue() == "" and ThrottleReport(None, {}).counts() == {}
