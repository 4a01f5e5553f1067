"""Advice for expressions that libpcap rejects, by its error message and by the expression's text.

Imported only after an error. The language is pcap-filter(7), its grammar libpcap's grammar.y.
"""

from __future__ import annotations

import re

MANUAL = "see man 7 pcap-filter"

ADVICE = {
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
_DISPLAY_FIELDS = {
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
_DISPLAY_FIELD = re.compile(
    r"\b(?:arp|dns|eth|frame|http|icmp|icmpv6|ip|ipv6|sctp|tcp|tls|udp|vlan)\.[a-z]\w*(?:\.\w+)*"
)
_TOKEN = re.compile(r"&&|\|\||[()!]|\[[^]]*\]?|[^\s()!&|[]+")
_BINARY = ("and", "or", "&&", "||")
_OPERATORS = (*_BINARY, "not", "!")
_ADDRESS = re.compile(r"(?:\d+(?:\.\d+){3}|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*)(?:/\d+)?")
_PROTOCOLS = frozenset(("arp", "ether", "icmp", "icmp6", "ip", "ip6", "sctp", "tcp", "udp", "vlan"))
_SERVICES = {"http": 80, "https": 443, "dns": 53, "ssh": 22, "ntp": 123, "smtp": 25, "bgp": 179}
_ABBREVIATIONS = {
    "sport": "src port",
    "dport": "dst port",
    "saddr": "src host",
    "daddr": "dst host",
}

_HEADER_ACCESS = re.compile(r"\b(tcp|udp|sctp)\s*\[\s*(\w{1,9})")
_NAMED_OFFSETS = {"tcpflags": 13}
_IPV6 = re.compile(r"\b(?:ip6|icmp6)\b|::")
_IPV6_HEADER = 40


def advise(expression: str, message: str) -> str:
    """Return the advice for ``expression``, which was rejected with the message ``message``."""
    if "rejects all packets" in message:
        return _contradiction_advice(expression)
    if "syntax error" in message:
        return _syntax_advice(expression)
    return next((advice for fragment, advice in ADVICE.items() if fragment in message), MANUAL)


def _contradiction_advice(expression: str) -> str:
    if _IPV6.search(expression):
        if part := _HEADER_ACCESS.search(expression):
            name, offset = part.groups()
            number = _NAMED_OFFSETS.get(offset, int(offset) if offset.isdecimal() else None)
            if number is not None:
                replacement = f"ip6[{_IPV6_HEADER + number}]"
                return f"{name}[...] looks at IPv4 only: write {replacement} for {name}[{offset}]"
            return f"{name}[...] looks at IPv4 only: write ip6[40 + N] for {name}[N]"
        if re.search(r"\bicmp\b", expression):
            return "icmp is for IPv4 only: write icmp6"
    return f"no packet can satisfy it; {MANUAL}"


def _syntax_advice(expression: str) -> str:
    if field := _DISPLAY_FIELD.search(expression):
        name = field.group()
        equivalent = (
            f": write {_DISPLAY_FIELDS[name]}" if name in _DISPLAY_FIELDS else f"; {MANUAL}"
        )
        return (
            f"{name} is a field of Wireshark's display filters, and this is a capture filter"
            f"{equivalent}"
        )
    if missing := expression.count("(") - expression.count(")"):
        sign, verb = ("(", "closed") if missing > 0 else (")", "opened")
        return f"{abs(missing)} '{sign}' not {verb}"
    tokens = ["(", *_TOKEN.findall(expression), ")"]
    for previous, token, following in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if advice := _token_advice(previous, token, following):
            return advice
    return MANUAL


def _token_advice(previous: str, token: str, following: str) -> str:
    """Return advice about a token of an expression with a syntax error.

    Args:
        previous: the token before it.
        token: the token.
        following: the token after it.

    Returns:
        Empty if no known mistake is found.
    """
    begins_condition = previous == "(" or previous in _OPERATORS
    if token in _OPERATORS and (following == ")" or following in _BINARY):
        return f"a condition is missing after '{token}'"
    if token in _BINARY and begins_condition:
        return f"a condition is missing before '{token}'"
    if token != token.lower() and token.lower() in (*_PROTOCOLS, *_OPERATORS):
        return f"keywords are lower case: write {token.lower()}"
    if token in _ABBREVIATIONS:
        return f"write {_ABBREVIATIONS[token]} for {token}"
    if not begins_condition:
        return f"write port {token.replace(',', ' or port ')}" if _is_list(previous, token) else ""
    if _ADDRESS.fullmatch(token):
        return f"write {'net' if '/' in token else 'host'} {token}"
    return f"write port {_SERVICES[token]} for {token}" if token in _SERVICES else ""


def _is_list(previous: str, token: str) -> bool:
    return previous == "port" and re.fullmatch(r"\w+(,\w+)+", token) is not None
