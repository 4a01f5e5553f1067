"""Advice for expressions that libpcap rejects, by its error message and by the expression's text.

Imported only after an error. The language is pcap-filter(7), its grammar libpcap's grammar.y.
"""

from __future__ import annotations

import re

MANUAL = "see man 7 pcap-filter"

CURES = {
    "unknown host": "give the address, or see that the name resolves",
    "netmask not known": "an skb has no netmask: write 'dst host ADDRESS' or 'ip multicast'",
    "'gateway' not supported": "write 'ether host MAC and not host ADDRESS' instead",
    "supported only on PF": "choose by address (host, net) or port instead",
    "Mask syntax": "write net before an address with a mask",
    "non-network bits": "write zeros after the prefix, or host for one address",
    "in the link layer header": "write ip[...] or ip6[...]",
    "did not finish": "write portrange and net in place of many ports and hosts",
}
"""Part of an error message of libpcap, or of pcap.py -> what the user can do."""

# Common fields of Wireshark's display filters -> their equivalents in pcap-filter(7).
_FIELDS = {
    "tcp.port": "tcp port N", "tcp.srcport": "tcp src port N", "tcp.dstport": "tcp dst port N",
    "udp.port": "udp port N", "udp.srcport": "udp src port N", "udp.dstport": "udp dst port N",
    "ip.addr": "host ADDRESS", "ip.src": "src host ADDRESS", "ip.dst": "dst host ADDRESS",
    "ipv6.addr": "host ADDRESS", "ipv6.src": "src host ADDRESS", "ipv6.dst": "dst host ADDRESS",
    "eth.addr": "ether host MAC", "eth.src": "ether src MAC", "eth.dst": "ether dst MAC",
    "ip.proto": "ip proto N", "ip.ttl": "ip[8] = N", "vlan.id": "vlan N", "frame.len": "len = N",
    "tcp.flags.syn": "tcp[tcpflags] & tcp-syn != 0",
    "tcp.flags.ack": "tcp[tcpflags] & tcp-ack != 0",
    "tcp.flags.fin": "tcp[tcpflags] & tcp-fin != 0",
    "tcp.flags.reset": "tcp[tcpflags] & tcp-rst != 0",
}  # fmt: skip
_FIELD = re.compile(
    r"\b(?:arp|dns|eth|frame|http|icmp|icmpv6|ip|ipv6|sctp|tcp|tls|udp|vlan)\.[a-z]\w*(?:\.\w+)*"
)
_WORD = re.compile(r"&&|\|\||[()!]|\[[^]]*\]?|[^\s()!&|[]+")
_BINARY = ("and", "or", "&&", "||")
_OPERATORS = (*_BINARY, "not", "!")
_ADDRESS = re.compile(r"(?:\d+(?:\.\d+){3}|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*)(?:/\d+)?")
_PROTOCOLS = frozenset(("arp", "ether", "icmp", "icmp6", "ip", "ip6", "sctp", "tcp", "udp", "vlan"))
_SERVICES = {"http": 80, "https": 443, "dns": 53, "ssh": 22, "ntp": 123, "smtp": 25, "bgp": 179}
_SHORT = {"sport": "src port", "dport": "dst port", "saddr": "src host", "daddr": "dst host"}

_PART = re.compile(r"\b(tcp|udp|sctp)\s*\[\s*(\w{1,9})")
_OFFSETS = {"tcpflags": 13}
_IPV6 = re.compile(r"\b(?:ip6|icmp6)\b|::")
_IPV6_HEADER = 40


def cure(expression: str, words: str) -> str:
    """Return the advice for ``expression``, which was rejected with the message ``words``."""
    if "rejects all packets" in words:
        return _contradiction(expression)
    if "syntax error" in words:
        return _syntax(expression)
    return next((cure for known, cure in CURES.items() if known in words), MANUAL)


def _contradiction(expression: str) -> str:
    if _IPV6.search(expression):
        if part := _PART.search(expression):
            name, offset = part.groups()
            number = _OFFSETS.get(offset, int(offset) if offset.isdecimal() else None)
            if number is not None:
                there = f"ip6[{_IPV6_HEADER + number}]"
                return f"{name}[...] looks at IPv4 only: write {there} for {name}[{offset}]"
            return f"{name}[...] looks at IPv4 only: write ip6[40 + N] for {name}[N]"
        if re.search(r"\bicmp\b", expression):
            return "icmp is for IPv4 only: write icmp6"
    return f"no packet can satisfy it; {MANUAL}"


def _syntax(expression: str) -> str:
    if field := _FIELD.search(expression):
        name = field.group()
        ours = f": write {_FIELDS[name]}" if name in _FIELDS else f"; {MANUAL}"
        return (
            f"{name} is a field of Wireshark's display filters, and this is a capture filter{ours}"
        )
    if missing := expression.count("(") - expression.count(")"):
        sign, verb = ("(", "closed") if missing > 0 else (")", "opened")
        return f"{abs(missing)} '{sign}' not {verb}"
    words = ["(", *_WORD.findall(expression), ")"]
    for before, word, behind in zip(words, words[1:], words[2:], strict=False):
        if advice := _about(before, word, behind):
            return advice
    return MANUAL


def _about(before: str, word: str, behind: str) -> str:
    """Return advice about a token of an expression with a syntax error.

    Args:
        before, word, behind: the token and its neighbours.

    Returns:
        Empty if no known mistake is found.
    """
    begins = before == "(" or before in _OPERATORS
    if word in _OPERATORS and (behind == ")" or behind in _BINARY):
        return f"a condition is missing after '{word}'"
    if word in _BINARY and begins:
        return f"a condition is missing before '{word}'"
    if word != word.lower() and word.lower() in (*_PROTOCOLS, *_OPERATORS):
        return f"keywords are lower case: write {word.lower()}"
    if word in _SHORT:
        return f"write {_SHORT[word]} for {word}"
    if not begins:
        return f"write port {word.replace(',', ' or port ')}" if _is_list(before, word) else ""
    if _ADDRESS.fullmatch(word):
        return f"write {'net' if '/' in word else 'host'} {word}"
    return f"write port {_SERVICES[word]} for {word}" if word in _SERVICES else ""


def _is_list(before: str, word: str) -> bool:
    return before == "port" and re.fullmatch(r"\w+(,\w+)+", word) is not None
