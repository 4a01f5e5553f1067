"""hypothesis strategies: classic BPF programs, packets, and pcap-filter expressions."""

from __future__ import annotations

from hypothesis import strategies as st

from pypwru.asm.cbpf import ClassicInstruction

OFFSETS = st.one_of(st.integers(0, 70), st.integers(0, 400), st.sampled_from((0x7FFFFFF0, 1 << 31)))
WORDS = st.one_of(
    st.integers(0, 20),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from((0xFFFFFFFF, 0x80000000, 0x8100)),
)
SCRATCH = st.integers(0, 15)
LOADS = st.sampled_from((0x20, 0x28, 0x30))
INDIRECT = st.sampled_from((0x40, 0x48, 0x50))
PLAIN_ALU = st.sampled_from((0x04, 0x14, 0x24, 0x44, 0x54, 0xA4))
BRANCHES = st.sampled_from((0x15, 0x25, 0x35, 0x45, 0x1D, 0x2D, 0x3D, 0x4D))
X_ALU = st.sampled_from((0x0C, 0x1C, 0x2C, 0x3C, 0x4C, 0x5C, 0x6C, 0x7C, 0x9C, 0xAC))


def _plain(
    codes: st.SearchStrategy[int], k: st.SearchStrategy[int]
) -> st.SearchStrategy[ClassicInstruction]:
    return st.builds(ClassicInstruction, codes, st.just(0), st.just(0), k)


STRAIGHT = st.one_of(
    _plain(LOADS, OFFSETS),
    _plain(INDIRECT, OFFSETS),
    _plain(st.just(0xB1), OFFSETS),
    _plain(st.sampled_from((0x00, 0x01)), WORDS),
    _plain(st.sampled_from((0x80, 0x81)), st.just(0)),
    _plain(st.sampled_from((0x60, 0x61, 0x02, 0x03)), SCRATCH),
    _plain(PLAIN_ALU, WORDS),
    _plain(st.sampled_from((0x34, 0x94)), st.integers(1, 0xFFFFFFFF)),
    # libpcap's interpreter leaves shifts by a constant beyond 31 to its C compiler.
    _plain(st.sampled_from((0x64, 0x74)), st.integers(0, 31)),
    _plain(X_ALU, st.just(0)),
    _plain(st.sampled_from((0x84, 0x07, 0x87)), st.just(0)),
)
RETURNS = st.one_of(
    _plain(st.just(0x06), st.sampled_from((0, 1, 262144, 0xFFFFFFFF))),
    _plain(st.just(0x16), st.just(0)),
)


@st.composite
def programs(draw: st.DrawFn) -> list[ClassicInstruction]:
    """Valid programs without backward jumps, so that they end."""
    length = draw(st.integers(0, 30))
    code: list[ClassicInstruction] = []
    for position in range(length):
        left = st.integers(0, length - position - 1)
        kind = draw(st.integers(0, 9))
        if kind == 0:
            code.append(draw(RETURNS))
        elif kind <= 3:
            code.append(ClassicInstruction(draw(BRANCHES), draw(left), draw(left), draw(WORDS)))
        elif kind == 4:
            code.append(ClassicInstruction(0x05, 0, 0, draw(left)))
        else:
            code.append(draw(STRAIGHT))
    return [*code, draw(RETURNS)]


PRIMITIVES = st.sampled_from(
    (
        "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "host 10.0.0.1", "net 10.0.0.0/8",
        "src host 2001:db8::1", "port 443", "tcp dst port 80", "portrange 1-1023", "len > 100",
        "greater 60", "vlan", "vlan 10", "mpls", "pppoes", "ether multicast", "geneve",
        "ether host 02:00:00:00:00:01", "ip6 protochain 58", "ip protochain 6", "ip[8] < 65",
        "tcp[tcpflags] & tcp-syn != 0", "ip[2:2] - ((ip[0] & 0xf) << 2) > 100", "ip[9] = 6",
        "ether[12:2] = 0x8100", "udp[udp[4:2] - 1] = 0", "ether[130] & 1 = 0", "ip[0] % 7 = 6",
        "tcp[((tcp[12] & 0xf0) >> 2):2] = 0x4745", "icmp[icmptype] = icmp-echo",
    )
)  # fmt: skip
EXPRESSIONS = st.recursive(
    PRIMITIVES,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not {}".format, inner),
    ),
    max_leaves=6,
)
