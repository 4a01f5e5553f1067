"""From a packet's bytes to a frame of a link type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.pcap.frame import ETHERNET, RAW, make_frame
from tests.support.pcaps import ARP, FRAME, IP, IP6, IPV4, IPV6, MACS, REQUEST, captured

SNAPLEN = 65535
NOBODY = bytes(12)


@pytest.mark.parametrize(
    ("octets", "protocol", "linktype", "written"),
    [
        (IP, IPV4, RAW, IP),
        (IP6, IPV6, RAW, IP6),
        (IP, 0, RAW, IP),  # on its way out, before anybody has said what it is
        (IP6, 0, RAW, IP6),
        (REQUEST, ARP, ETHERNET, NOBODY + b"\x08\x06" + REQUEST),
        (b"\x00\x01", 0, ETHERNET, NOBODY + b"\0\0\x00\x01"),
        (IP6, IPV4, ETHERNET, NOBODY + b"\x08\0" + IP6),  # it isn't what it is said to be
        (b"", IPV4, ETHERNET, NOBODY + b"\x08\0"),
    ],
)
def test_without_an_ethernet_header(
    octets: bytes, protocol: int, linktype: int, written: bytes
) -> None:
    made = make_frame(captured(octets, len(octets) + 5, layer=3), protocol, SNAPLEN)
    assert made == (linktype, written, len(written) + 5)


@pytest.mark.parametrize(
    ("octets", "protocol", "kind"),
    [(IP, IPV4, b"\x08\0"), (IP6, 0, b"\x86\xdd"), (REQUEST, ARP, b"\x08\x06")],
)
def test_in_a_file_of_one_link_type(octets: bytes, protocol: int, kind: bytes) -> None:
    made = make_frame(captured(octets, layer=3), protocol, SNAPLEN, always_ethernet=True)
    assert made == (ETHERNET, NOBODY + kind + octets, len(octets) + 14)
    assert make_frame(captured(), IPV4, SNAPLEN, always_ethernet=True) == (
        ETHERNET,
        FRAME,
        len(FRAME),
    )


@pytest.mark.parametrize(
    ("tag", "four"), [(0x81000005, b"\x81\0\0\5"), (0x88A8EFFF, b"\x88\xa8\xef\xff")]
)
def test_a_tag_is_put_back(tag: int, four: bytes) -> None:
    made = make_frame(captured(FRAME, 100, tag=tag), IPV4, SNAPLEN)
    assert made == (ETHERNET, MACS + four + FRAME[12:], 104)


@given(
    octets=st.binary(max_size=40),
    beyond=st.integers(0, 40),
    tag=st.sampled_from((0, 0x81000005)),
    layer=st.sampled_from((2, 3)),
    protocol=st.sampled_from((0, IPV4, IPV6, ARP)),
    snaplen=st.integers(1, 50),
    always=st.booleans(),
)
def test_what_is_written_begins_what_there_is(
    octets: bytes, beyond: int, tag: int, layer: int, protocol: int, snaplen: int, always: bool
) -> None:
    """However little is told, every octet stands where it stands in the whole frame."""
    told = captured(octets, len(octets) + beyond, tag=tag, layer=layer)
    cut = make_frame(told, protocol, snaplen, always)
    whole = make_frame(told._replace(data=octets + bytes(beyond)), protocol, SNAPLEN, always)
    assert len(cut.data) <= min(snaplen, cut.length)
    if octets:  # else nobody can tell IPv4 from others
        assert (cut.linktype, cut.length) == (whole.linktype, whole.length)
        assert whole.data.startswith(cut.data)
    assert len(whole.data) == whole.length
