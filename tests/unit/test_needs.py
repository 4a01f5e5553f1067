"""What a run needs, by its options."""

from __future__ import annotations

import re

import pytest

from pypwru.needs import Needs
from tests.support.paths import TREE
from tests.support.records import configured

PACKAGE = TREE / "pypwru"


def needs_of(flags: str) -> Needs:
    return Needs.of(configured(flags))


def enabled(flags: str) -> set[str]:
    """Return the names of what the run needs beyond a run without flags."""
    default, found = needs_of("")._asdict(), needs_of(flags)._asdict()
    return {name for name, value in found.items() if value and value != default[name]}


LOCATED = {"callers", "drop_locations", "free_events", "packet_ids", "symbols"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--drops", {"drop_filter"} | LOCATED),
        ("--output-journey", LOCATED),
        ("--stats", {"run_counts", "rule_texts"} | LOCATED),
        ("--filter-nft-handle 1", {"free_events", "packet_ids"}),
        ("--filter-nft-text x", {"free_events", "packet_ids", "rule_texts"}),
        ("--output-json", {"packet_ids", "rule_texts"}),
        ("--output-json --output-text=false --output-pcap a.pcap --output-nft=false",
         {"first_flag", "netns_names", "packet_data"}),
        ("--timestamp relative", {"packet_ids"}),
        ("--sample-rate 2", {"packet_ids", "packet_samples"}),
        ("--sample-flow 2", {"packet_ids", "flow_samples"}),
        ("--output-pcap a.pcap", {"first_flag", "netns_names", "packet_data"}),
        ("--output-pcap a.pcap --pcap-when last",
         {"capture_every", "free_events", "netns_names", "packet_data", "packet_ids"}),
        ("--output-pcap a.pcap --pcap-when ip_rcv",
         {"capture_points", "free_events", "netns_names", "packet_data", "packet_ids"}),
        ("--filter-non-skb-funcs x", {"tracked_stacks"}),
        ("--output-caller", {"callers", "symbols"}),
        ("--output-skb --set-percpu-buf 1004", {"skb_text_size"}),
    ],
)  # fmt: skip
def test_needs(flags: str, expected: set[str]) -> None:
    assert enabled(flags) == expected


def test_size_of_text_is_without_its_length() -> None:
    found = needs_of("--output-skb-shared-info --set-percpu-buf 1004")
    assert (found.skb_text_size, found.shared_info_text_size) == (0, 1000)


def test_tracking_from_frames_takes_both() -> None:
    assert not needs_of("--filter-track-skb").tracked_frames
    assert not needs_of("--filter-trace-xdp").tracked_frames
    assert needs_of("--filter-track-skb --filter-trace-xdp").tracked_frames


def test_seen_map_is_kept_for_ids_and_first_events() -> None:
    assert not needs_of("").seen_map
    assert needs_of("--output-json").seen_map
    assert needs_of("--output-pcap a.pcap").seen_map


@pytest.mark.parametrize("name", Needs._fields)
def test_every_need_has_a_user(name: str) -> None:
    texts = (path.read_text() for path in PACKAGE.rglob("*.py"))
    assert any(re.search(rf"\b(needs|self)\.{name}\b", text) for text in texts)
