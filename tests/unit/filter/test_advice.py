"""Errors of filters name what to write instead, and libpcap accepts it."""

from __future__ import annotations

import pytest

from pypwru.errors import FilterError
from pypwru.filter.compiler import compile_filter

DISPLAY = "is a field of Wireshark's display filters, and this is a capture filter"


@pytest.mark.parametrize(
    ("expression", "advice", "corrected"),
    [
        (
            "ip6 and tcp[tcpflags] & tcp-syn != 0",
            "tcp[...] looks at IPv4 only: write ip6[53] for tcp[tcpflags]",
            "ip6 and ip6[53] & tcp-syn != 0",
        ),
        ("udp[8:2] = 1 and host 2001:db8::1", "write ip6[48] for udp[8]", "ip6[48:2] = 1"),
        ("tcp[tcp[12] / 4] = 1 and ip6", "write ip6[40 + N] for tcp[N]", "ip6[40 + 12] = 1"),
        ("ip6 and icmp", "icmp is for IPv4 only: write icmp6", "ip6 and icmp6"),
        ("tcp.port == 80", f"tcp.port {DISPLAY}: write tcp port N", "tcp port 80"),
        ("ip.addr==10.0.0.1", f"ip.addr {DISPLAY}: write host ADDRESS", "host 10.0.0.1"),
        ("http.request", f"http.request {DISPLAY}; see man 7 pcap-filter", "tcp port 80"),
        (
            "tcp.flags.syn == 1",
            "write tcp[tcpflags] & tcp-syn != 0",
            "tcp[tcpflags] & tcp-syn != 0",
        ),
        ("tcp and", "a condition is missing after 'and'", "tcp and udp or icmp"),
        ("tcp or (udp &&)", "a condition is missing after '&&'", "tcp or (udp && ip)"),
        ("not", "a condition is missing after 'not'", "not tcp"),
        ("or tcp", "a condition is missing before 'or'", "tcp"),
        ("tcp and or udp", "a condition is missing after 'and'", "tcp or udp"),
        ("(tcp or udp", "1 '(' not closed", "(tcp or udp)"),
        ("tcp))", "2 ')' not opened", "tcp"),
        ("10.0.0.1 and tcp", "write host 10.0.0.1", "host 10.0.0.1 and tcp"),
        ("tcp and 10.0.0.0/8", "write net before an address with a mask", "tcp and net 10.0.0.0/8"),
        ("10.0.0.0/8", "write net 10.0.0.0/8", "net 10.0.0.0/8"),
        (
            "net 10.0.0.1/8",
            "write zeros after the prefix, or host for one address",
            "net 10.0.0.0/8",
        ),
        ("2001:db8::1", "write host 2001:db8::1", "host 2001:db8::1"),
        ("tcp dport 80", "write dst port for dport", "tcp dst port 80"),
        ("TCP", "keywords are lower case: write tcp", "tcp"),
        ("dns", "write port 53 for dns", "port 53"),
        ("tcp port 80,443", "write port 80 or port 443", "port 80 or port 443"),
        ("foo bar", "see man 7 pcap-filter", "tcp"),
    ],
)
def test_error_names_the_correction(expression: str, advice: str, corrected: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(expression)
    assert str(caught.value).endswith(advice)
    assert compile_filter(corrected).l2.constant_result is None
