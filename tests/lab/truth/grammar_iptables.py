"""Random rules of iptables-nft and ip6tables-nft, as iptables-restore reads them; pure."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

_MATCHES = (
    "-p udp --dport 1001",
    "-p udp -m multiport --dports 1002,1003,1004",
    "-p tcp --dport 2001:2003",
    "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN",
    "-m conntrack --ctstate NEW",
    "-m conntrack --ctstate RELATED,ESTABLISHED",
    "-m mark --mark 4",
    '-p udp -m comment --comment "of any port"',
    "-m limit --limit 1/day --limit-burst 3",
)
_TARGETS = (
    "-j ACCEPT",
    "-j DROP",
    "-j RETURN",
    "-j REJECT",
    "",
    "-j LOG --log-prefix random --log-level 7",
)
_USERS = ("WEB", "SLOW", "LAST")


@st.composite
def _rules(draw: st.DrawFn) -> str:
    """Draw the table filter: INPUT, and chains that jump to later ones."""
    names = ["INPUT", *_USERS]
    lines = ["*filter", ":INPUT ACCEPT [0:0]", *(f":{name} - [0:0]" for name in _USERS)]
    for number, name in enumerate(names):
        to = [f"{verb} {below}" for below in names[number + 1 :] for verb in ("-j", "-g")]
        rule = st.tuples(st.sampled_from(_MATCHES), st.sampled_from((*_TARGETS, *to, *to)))
        rules = draw(st.lists(rule, min_size=number == 0, max_size=4))
        lines += [f"-A {name} {match} {target}".rstrip() for match, target in rules]
    return "\n".join([*lines, "COMMIT", ""])


def iptables() -> st.SearchStrategy[Mapping[str, str]]:
    """Draw a map from program to text, for neither, one or both."""
    mangle = (
        "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -j MARK --set-mark 4\nCOMMIT\n"
    )
    text = st.builds(str.__add__, st.sampled_from(("", mangle)), _rules())
    return st.fixed_dictionaries({}, optional={"iptables": text, "ip6tables": text})
