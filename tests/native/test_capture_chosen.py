"""Addresses at which handlers capture packet data: the contents of the map capture_points."""

from __future__ import annotations

import io
from contextlib import ExitStack

import pytest

from pypwru.btf.load import load_vmlinux
from pypwru.config import Backend
from pypwru.discovery.functions import Function
from pypwru.discovery.plan import AttachPlan, Handler
from pypwru.discovery.targets import Targets
from pypwru.discovery.tracepoints import Tracepoint
from pypwru.errors import UsageError
from pypwru.kernel import bpf
from pypwru.log import Log
from pypwru.names.drop_reasons import DropReasons
from pypwru.needs import Needs
from pypwru.pcap.capture_points import open_capture_points
from pypwru.program import maps
from tests.support.records import configured

pytestmark = pytest.mark.native

KFREE, FORWARD, RCV = (
    Function("kfree_skb_reason", "", 1, 2, (0x1000,), "kfree_skb_reason", "drop", 0),
    Function("br_forward", "bridge", 1, 0, (0x2000, 0x3000), "br_forward[bridge]", "bridge", 0),
    Function("ip_rcv", "", 1, 0, (0x4000,), "ip_rcv", "ip", 0),
)
PLAN = AttachPlan(
    Backend.KPROBE,
    {Handler("trace_skb", 1): (KFREE, FORWARD, RCV)},
    tracepoints=(
        Tracepoint("netif_rx", 0, None, "netdev", 0),
        Tracepoint("kfree_skb", 0, 2, "drop", 0),
    ),
)


def capture_points_of(words: str, names: dict[int, str], log: Log) -> dict[int, int]:
    """Map addresses to masks of reasons that are no drops, once all of ``names`` is attached."""
    config = configured(f"--output-pcap x.pcapng --pcap-when {words}")
    with ExitStack() as stack:
        made = maps.create_maps(Needs.of(config), config.buffer_size, stack)
        reasons = DropReasons(load_vmlinux())
        open_capture_points(
            made["capture_points"],
            config.capture_when,
            PLAN,
            Targets(names),
            reasons,
            log,
            traces_programs=False,
            traces_nft=config.traces_nft,
        )()
        keys = [int.from_bytes(key, "little") for key in bpf.map_keys(made["capture_points"], 8)]
        found = {
            key: bpf.map_lookup(made["capture_points"], key.to_bytes(8, "little"), 8)
            for key in keys
        }
    return {key: int.from_bytes(mask, "little") for key, mask in found.items()}


def test_function_has_all_addresses_of_probes() -> None:
    log_text = io.StringIO()
    found = capture_points_of(
        "br_forward", {0x2005: "br_forward[bridge]", 7: "br_forward[other]"}, Log(log_text)
    )
    assert found == dict.fromkeys(
        [7, *(at + offset for at in (0x2000, 0x3000) for offset in (0, 4, 5, 9))], 0
    )
    assert log_text.getvalue() == ""


def test_drop_selects_functions_that_free() -> None:
    found = capture_points_of("drop", {}, Log(io.StringIO()))
    assert found.keys() == {0, 2, 0x1000, 0x1004, 0x1005, 0x1009}
    not_specified = 1 << 2  # SKB_DROP_REASON_NOT_SPECIFIED: a drop where a function frees it
    assert found[0] & not_specified
    assert not found[2] & not_specified
    assert found[0] & found[2] & 0b11 == 0b11  # SKB_NOT_DROPPED_YET, SKB_CONSUMED


def test_unmatched_name_is_logged() -> None:
    log_text = io.StringIO()
    assert capture_points_of("ip_recv,netif_rx", {1: "tp:netif_rx"}, Log(log_text)).keys() == {1}
    assert "name=ip_recv" in log_text.getvalue()
    with pytest.raises(UsageError, match=r"ip_recv$"):
        capture_points_of("ip_recv", {1: "tp:netif_rx"}, Log(log_text))
