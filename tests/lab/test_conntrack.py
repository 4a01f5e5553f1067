"""--output-ct on real kernels, with DNAT, SNAT, marks and zones: what conntrack(8) lists."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.lab.kernels import names
from tests.lab.parity.conntrack_row import MARK, NAME, ZONE
from tests.lab.parity.results import row_result
from tests.oracles.conntrack import entry, mismatches

pytestmark = pytest.mark.lab
SUITE = "parity"
KERNELS = names(SUITE)


def events(kernel: str) -> list[dict[str, Any]]:
    ran = row_result(kernel, NAME)
    assert ran["pypwru"]["status"] == 0
    return [json.loads(line) for line in ran["pypwru"]["out"].splitlines()]


def tracked(kernel: str) -> list[dict[str, Any]]:
    return [one["ct"] for one in events(kernel) if "original" in one.get("ct", {})]


@pytest.mark.parametrize("kernel", KERNELS)
def test_events_equal_list_of_conntrack(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = mismatches(events(kernel), row_result(kernel, NAME)["listed"])
    with capsys.disabled():
        print(f"\n{kernel}: {len(tracked(kernel))} events of connections, {len(wrong)} mismatches")
    assert not wrong, "\n".join(wrong[:10])


@pytest.mark.parametrize("kernel", KERNELS)
def test_events_have_all_kinds_of_connections(kernel: str) -> None:
    """Otherwise the comparison would prove nothing."""
    objects = tracked(kernel)
    states = Counter((one["state"], one["direction"]) for one in objects)
    assert set(states) == {
        ("new", "original"),
        ("established", "original"),
        ("established", "reply"),
    }
    assert {word for one in objects for word in one["status"]} >= {"snat", "dnat", "confirmed"}
    assert {one["original"]["proto"] for one in objects} >= {1, 6, 17, 58}
    assert {one["zone"] for one in objects} == {0, ZONE}
    assert {one["mark"] for one in objects} == {0, MARK}


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_sent_connection_has_events(kernel: str) -> None:
    """Tunnels have connections too, which need no event."""
    originals = [one["original"] for one in tracked(kernel)]
    listed = [entry(line).original for line in row_result(kernel, NAME)["listed"]]
    sent = [one for one in listed if "icmp" in one or one["sport"] in (4001, 4201, 4202)]
    assert {(one["proto"], one["sport"]) for one in sent} == {
        (1, 0), (58, 0), (17, 4001), (6, 4201), (6, 4202)
    }  # fmt: skip
    assert all(one in originals for one in sent)


@pytest.mark.parametrize("kernel", KERNELS)
def test_untracked_packet_has_state_untracked(kernel: str) -> None:
    untracked = [one for one in events(kernel) if one.get("ct") == {"state": "untracked"}]
    assert {one["tuple"]["dport"] for one in untracked} == {4004}
