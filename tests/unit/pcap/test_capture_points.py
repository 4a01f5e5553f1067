"""Which addresses packets are told at, for words of --pcap-when."""

from __future__ import annotations

import io

import pytest

from pypwru.config import Backend
from pypwru.discovery.plan import AttachPlan
from pypwru.errors import UsageError
from pypwru.kernel import bpf
from pypwru.log import Log
from pypwru.names.drop_reasons import DropReasons
from pypwru.pcap.capture_points import CapturePoints, _names_verdict_function, open_capture_points
from tests.support.records import btf_of, configured

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
def put(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """What is in the map: address -> the reasons that are no drops."""
    found: dict[int, int] = {}

    def update(fd: int, key: bytes, value: bytes) -> None:
        assert fd == 7 and len(key) == len(value) == 8
        found[int.from_bytes(key, "little")] = int.from_bytes(value, "little")

    monkeypatch.setattr(bpf, "map_update", update)
    return found


def chosen(
    words: str,
    names: dict[int, str] = NAMES,
    has_reasons: bool = True,
    may_come: bool = False,
    log: Log | None = None,
) -> CapturePoints:
    reasons = DropReasons(btf_of(*([("skb_drop_reason", REASONS)] if has_reasons else [])), list)
    made = CapturePoints(7, words.split(","), names, reasons, may_come)
    made.refresh(log or Log(None))
    return made


def test_where_a_packet_has_no_bytes_any_more_is_refused() -> None:
    config = configured("--output-pcap - --pcap-when drop,napi_skb_cache_put")
    with pytest.raises(UsageError, match=r"--pcap-when napi_skb_cache_put: packet data is"):
        open_capture_points(config, {}, AttachPlan(Backend.KPROBE), {}, DropReasons(btf_of(), list),
                           Log(None))  # fmt: skip


def test_functions_by_name_are_told_whatever_the_reason(put: dict[int, int]) -> None:
    made = chosen("first,ip_rcv,veth_xmit,nosuch")
    assert put == {0x10: 0, 0x30: 0}
    assert made.unmatched == {"nosuch"}


def test_a_function_of_a_module_with_it(put: dict[int, int]) -> None:
    assert chosen("veth_xmit[veth],ip_rcv[veth]").unmatched == {"ip_rcv[veth]"}
    assert put == {0x30: 0}


def test_drops_where_packets_end_and_wherever_a_reason_is_given(put: dict[int, int]) -> None:
    chosen("drop")
    assert put == {0: 0b111, 0x20: 0b11, 1: 0b11}


def test_before_there_were_reasons_whatever_ends_there_is_dropped(put: dict[int, int]) -> None:
    chosen("drop", {0x10: "ip_rcv", 0x20: "kfree_skb"}, has_reasons=False)
    assert put == {0: 0b1, 0x20: 0}


def test_a_name_goes_before_a_drop(put: dict[int, int]) -> None:
    chosen("drop,kfree_skb_reason")
    assert put[0x20] == 0


def test_names_that_come_later(put: dict[int, int]) -> None:
    names = dict(NAMES)
    made = chosen("nft_do_chain", names, may_come=True)
    assert not put
    names[0x50] = "nft_do_chain[nf_tables]"
    made.refresh(Log(None))
    assert put == {0x50: 0} and not made.unmatched
    put.clear()
    made.refresh(Log(None))
    assert not put, "nothing has come"


def test_names_that_nothing_has_and_nothing_can_come_to_have(put: dict[int, int]) -> None:
    with pytest.raises(UsageError, match=r"pcap-when: ip_rcvv; did you mean ip_rcv\?$"):
        chosen("ip_rcvv")
    assert not put


def test_one_of_several_names_is_a_warning(put: dict[int, int]) -> None:
    for words in ("ip_rcv,veth_xmitt", "drop,veth_xmitt"):
        said = io.StringIO()
        chosen(words, log=Log(said))
        assert "WARN" in said.getvalue()
        assert 'name="veth_xmitt; did you mean veth_xmit?"' in said.getvalue()


@pytest.mark.parametrize(
    ("flags", "may_come"),
    [
        ("--pcap-when nft_do_chain", True),
        ("--pcap-when ip_rcv", False),
        ("--pcap-when nft_do_chain --output-nft=false", False),
    ],
)
def test_nftables_may_come_later(flags: str, may_come: bool) -> None:
    assert _names_verdict_function(configured(f"--output-pcap - {flags}")) is may_come
