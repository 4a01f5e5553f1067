"""Frames of a link type, made from packet data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.pcap.frame import ETHERNET, RAW, make_frame
from tests.support.pcaps import ARP, FRAME, IP, IP6, IPV4, IPV6, MACS, REQUEST, captured

SNAPLEN = 65535
NO_MACS = bytes(12)


@pytest.mark.parametrize(
    ("octets", "protocol", "linktype", "expected"),
    [
        (IP, IPV4, RAW, IP),
        (IP6, IPV6, RAW, IP6),
        (IP, 0, RAW, IP),  # on output, before skb->protocol is set
        (IP6, 0, RAW, IP6),
        (REQUEST, ARP, ETHERNET, NO_MACS + b"\x08\x06" + REQUEST),
        (b"\x00\x01", 0, ETHERNET, NO_MACS + b"\0\0\x00\x01"),
        (IP6, IPV4, ETHERNET, NO_MACS + b"\x08\0" + IP6),  # skb->protocol is wrong
        (b"", IPV4, ETHERNET, NO_MACS + b"\x08\0"),
    ],
)
def test_frame_without_ethernet_header(
    octets: bytes, protocol: int, linktype: int, expected: bytes
) -> None:
    frame = make_frame(captured(octets, len(octets) + 5, layer=3), protocol, SNAPLEN)
    assert frame == (linktype, expected, len(expected) + 5)


@pytest.mark.parametrize(
    ("octets", "protocol", "ethertype"),
    [(IP, IPV4, b"\x08\0"), (IP6, 0, b"\x86\xdd"), (REQUEST, ARP, b"\x08\x06")],
)
def test_always_ethernet_adds_header(octets: bytes, protocol: int, ethertype: bytes) -> None:
    frame = make_frame(captured(octets, layer=3), protocol, SNAPLEN, always_ethernet=True)
    assert frame == (ETHERNET, NO_MACS + ethertype + octets, len(octets) + 14)
    assert make_frame(captured(), IPV4, SNAPLEN, always_ethernet=True) == (
        ETHERNET,
        FRAME,
        len(FRAME),
    )


@pytest.mark.parametrize(
    ("tag", "tag_bytes"), [(0x81000005, b"\x81\0\0\5"), (0x88A8EFFF, b"\x88\xa8\xef\xff")]
)
def test_vlan_tag_is_inserted(tag: int, tag_bytes: bytes) -> None:
    frame = make_frame(captured(FRAME, 100, tag=tag), IPV4, SNAPLEN)
    assert frame == (ETHERNET, MACS + tag_bytes + FRAME[12:], 104)


@given(
    octets=st.binary(max_size=40),
    missing=st.integers(0, 40),
    tag=st.sampled_from((0, 0x81000005)),
    layer=st.sampled_from((2, 3)),
    protocol=st.sampled_from((0, IPV4, IPV6, ARP)),
    snaplen=st.integers(1, 50),
    always=st.booleans(),
)
def test_frame_is_prefix_of_whole_frame(
    octets: bytes, missing: int, tag: int, layer: int, protocol: int, snaplen: int, always: bool
) -> None:
    """However few bytes were captured, each has its offset in the whole frame."""
    capture = captured(octets, len(octets) + missing, tag=tag, layer=layer)
    cut = make_frame(capture, protocol, snaplen, always)
    whole = make_frame(capture._replace(data=octets + bytes(missing)), protocol, SNAPLEN, always)
    assert len(cut.data) <= min(snaplen, cut.length)
    if octets:  # the first one has the IP version
        assert (cut.linktype, cut.length) == (whole.linktype, whole.length)
        assert whole.data.startswith(cut.data)
    assert len(whole.data) == whole.length
