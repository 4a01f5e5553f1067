"""Functions that --max-hits throttled are named once, and counted at the end."""

from __future__ import annotations

import io

import pytest

from pypwru.attach.throttle import ThrottleReport, open_throttle_report
from pypwru.kernel import bpf
from pypwru.log import Log

NAMES = {0x1000: "ip_rcv", 0x2000: "tcp_v4_rcv", 0x2005: "tcp_v4_rcv"}


def test_throttled_functions_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hits, stream = {0x1000: 3}, io.StringIO()
    keys = lambda fd, size: iter([key.to_bytes(8, "little") for key in hits])  # noqa: E731
    value = lambda fd, key, size: hits[int.from_bytes(key, "little")].to_bytes(8, "little")  # noqa: E731
    monkeypatch.setattr(bpf, "map_keys", keys)
    monkeypatch.setattr(bpf, "map_lookup", value)
    log = Log(stream)
    with open_throttle_report({"throttled": 5}, NAMES, log, max_hits=7) as throttled:
        throttled.log_new(log, 7)
        throttled.log_new(log, 7)
        assert stream.getvalue().count("ip_rcv") == 1
        hits |= {0x1000: 10, 0x2000: 20, 0x2005: 1, 0x3000: 2}
        assert throttled.counts() == {"tcp_v4_rcv": 21, "ip_rcv": 10, "0x3000": 2}
    first, second, third = stream.getvalue().splitlines()
    assert "WARN" in first and "most=7" in first and first.endswith("functions=ip_rcv")
    assert "tcp_v4_rcv" in second and "0x3000" in second and "ip_rcv" not in second
    assert "tcp_v4_rcv:21,ip_rcv:10,0x3000:2" in third


def test_log_names_at_most_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(
        bpf, "map_keys", lambda fd, size: (bytes([n]) + bytes(7) for n in range(30))
    )
    monkeypatch.setattr(bpf, "map_lookup", lambda fd, key, size: bytes([1]) + bytes(7))
    with open_throttle_report({"throttled": 5}, {}, Log(stream), max_hits=1):
        pass
    assert stream.getvalue().count("and 20 more") == 2


def test_without_limit_nothing_is_logged() -> None:
    stream = io.StringIO()
    with open_throttle_report({}, NAMES, Log(stream), max_hits=0) as throttled:
        throttled.log_new(Log(stream), 0)
    assert stream.getvalue() == "" and ThrottleReport(None, {}).counts() == {}
