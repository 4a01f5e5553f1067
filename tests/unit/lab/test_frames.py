"""Frames of the corpus: scapy parses them, and computes the same checksums."""

from __future__ import annotations

from tests.lab.truth import frames
from tests.support.need import need

try:
    from scapy.layers.l2 import Ether
except ImportError:
    Ether = None


def test_scapy_rebuilds_equal_frames() -> None:
    need(Ether, "scapy")
    for frame in frames.frames():
        packet = Ether(frame.data)
        for name in ("IP", "TCP", "UDP", "ICMP", "ICMPv6EchoRequest"):
            if layer := packet.getlayer(name):
                for field in ("chksum", "cksum"):
                    if field in layer.fields:
                        delattr(layer, field)
        assert bytes(packet) == frame.data, packet.summary()


def test_frames_have_all_ethertypes() -> None:
    kinds = {frame.data[12:14].hex() for frame in frames.frames()}
    assert kinds == {"0800", "86dd", "0806", "8100"}
    assert {frame.wire for frame in frames.frames()} == {"up", "down"}
