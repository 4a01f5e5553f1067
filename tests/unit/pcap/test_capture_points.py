"""Addresses at which packet data is captured, for words of --pcap-when."""

from __future__ import annotations

import io

import pytest

from pypwru.config import Backend
from pypwru.discovery.plan import AttachPlan
from pypwru.discovery.targets import Targets
from pypwru.errors import UsageError
from pypwru.kernel import bpf
from pypwru.log import Log
from pypwru.names.drop_reasons import DropReasons
from pypwru.pcap.capture_points import CapturePoints, open_capture_points
from tests.support.records import btf_of

REASONS = {
    "SKB_NOT_DROPPED_YET": 0,
    "SKB_CONSUMED": 1,
    "SKB_DROP_REASON_NOT_SPECIFIED": 2,
    "SKB_DROP_REASON_NO_SOCKET": 3,
}
NAMES = {
    0x10: "ip_rcv",
    0x20: "kfree_skb_reason",
    0x30: "veth_xmit[veth]",
    0x40: "tcp_drop_reason",
    1: "tp:kfree_skb",
}


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Entries of the map: address -> mask of reasons that are not captured."""
    entries: dict[int, int] = {}

    def update(fd: int, key: bytes, value: bytes) -> None:
        assert fd == 7 and len(key) == len(value) == 8
        entries[int.from_bytes(key, "little")] = int.from_bytes(value, "little")

    monkeypatch.setattr(bpf, "map_update", update)
    return entries


def make_points(
    words: str,
    targets: Targets | None = None,
    has_reasons: bool = True,
    may_match_later: bool = False,
    log: Log | None = None,
) -> CapturePoints:
    reasons = DropReasons(btf_of(*([("skb_drop_reason", REASONS)] if has_reasons else [])), list)
    targets = Targets(NAMES) if targets is None else targets
    points = CapturePoints(7, words.split(","), targets, reasons, may_match_later)
    points.report_unmatched(log or Log(None))
    return points


def test_function_after_data_is_freed_is_refused() -> None:
    when, reasons = ["drop", "napi_skb_cache_put"], DropReasons(btf_of(), list)
    with pytest.raises(UsageError, match=r"--pcap-when napi_skb_cache_put: packet data is"):
        open_capture_points(7, when, AttachPlan(Backend.KPROBE), Targets(), reasons, Log(None),
                            traces_programs=False, traces_nft=True)  # fmt: skip


def test_functions_capture_for_any_reason(entries: dict[int, int]) -> None:
    points = make_points("first,ip_rcv,veth_xmit,nosuch")
    assert entries == {0x10: 0, 0x30: 0}
    assert points.unmatched == {"nosuch"}


def test_module_selects_function(entries: dict[int, int]) -> None:
    assert make_points("veth_xmit[veth],ip_rcv[veth]").unmatched == {"ip_rcv[veth]"}
    assert entries == {0x30: 0}


def test_drop_excludes_other_reasons(entries: dict[int, int]) -> None:
    make_points("drop")
    assert entries == {0: 0b111, 0x20: 0b11, 1: 0b11}


def test_without_reasons_every_free_captures(entries: dict[int, int]) -> None:
    make_points("drop", Targets({0x10: "ip_rcv", 0x20: "kfree_skb"}), has_reasons=False)
    assert entries == {0: 0b1, 0x20: 0}


def test_function_name_precedes_drop(entries: dict[int, int]) -> None:
    make_points("drop,kfree_skb_reason")
    assert entries[0x20] == 0


def test_later_targets_are_entered(entries: dict[int, int]) -> None:
    targets = Targets(NAMES)
    points = make_points("nft_do_chain,ip_rcv", targets, may_match_later=True)
    assert entries == {0x10: 0}
    entries.clear()
    targets.add({0x50: "nft_do_chain[nf_tables]"})
    assert entries == {0x50: 0}, "and no other again"
    assert not points.unmatched


def test_unmatched_names_are_refused(entries: dict[int, int]) -> None:
    with pytest.raises(UsageError, match=r"pcap-when: ip_rcvv; did you mean ip_rcv\?$"):
        make_points("ip_rcvv")
    assert not entries


def test_unmatched_name_of_several_is_a_warning(entries: dict[int, int]) -> None:
    for words in ("ip_rcv,veth_xmitt", "drop,veth_xmitt"):
        stream = io.StringIO()
        make_points(words, log=Log(stream))
        assert "WARN" in stream.getvalue()
        assert 'name="veth_xmitt; did you mean veth_xmit?"' in stream.getvalue()


@pytest.mark.parametrize(
    ("name", "traces_programs", "traces_nft", "may_match_later"),
    [
        ("nft_do_chain", False, True, True),
        ("ip_rcv", False, True, False),
        ("nft_do_chain", False, False, False),
        ("ip_rcv", True, False, True),
    ],
)
@pytest.mark.usefixtures("entries")
def test_functions_that_are_loaded_later_may_match(
    name: str, traces_programs: bool, traces_nft: bool, may_match_later: bool
) -> None:
    plan, reasons = AttachPlan(Backend.KPROBE), DropReasons(btf_of(), list)
    arguments = 7, [name], plan, Targets(), reasons, Log(None)
    report_unmatched = open_capture_points(
        *arguments, traces_programs=traces_programs, traces_nft=traces_nft
    )
    if may_match_later:
        report_unmatched()
    else:
        with pytest.raises(UsageError, match="No traced function has this name"):
            report_unmatched()
