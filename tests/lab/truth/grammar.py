"""Random rulesets as hypothesis strategies; pure.

The expressions of a family are in tables of texts. A chain jumps only to chains behind it in its
table, so there is no loop; a chain's expressions depend on its table's hooks alone, so that the
kernel accepts every ruleset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.lab.truth.grammar_iptables import iptables
from tests.lab.truth.rulesets import Ruleset
from tests.lab.truth.wires import FAR, FAR6, NEAR, NEAR6

# Matches on the network header, on the transport header, on both, and on neither: a rule has one of
# each kind at most, so that no rule needs two protocols at once.
_IP4 = (f"ip saddr {NEAR}", f"ip daddr {FAR}", "ip ttl 63-64")
_IP6 = (f"ip6 saddr {NEAR6}", f"ip6 daddr {FAR6}")
_ARP = ("arp operation request", "arp operation reply", f"arp saddr ip {NEAR}")
_TRANSPORT = (
    "udp dport {port}",
    "tcp dport {tcp}",
    "udp dport {{ {port}, 1002, 1007 }}",
    "meta l4proto {{ tcp, udp }} th dport 1001-1003",
    "meta l4proto {{ icmp, ipv6-icmp }}",
    "tcp flags & (syn | ack) == syn",
    "udp sport 1000",
)
_BOTH4 = (
    "icmp type echo-request",
    f"ip saddr . udp dport {{{{ {NEAR} . {{port}}, {NEAR} . 1005 }}}}",
    "ip protocol . th dport {{ udp . {port}, tcp . {tcp} }}",
)
_BOTH6 = ("icmpv6 type echo-reply", f"ip6 daddr . tcp dport {{{{ {FAR6} . {{tcp}} }}}}")
_META = ("meta mark 7", "numgen inc mod 3 0", "meta length 28-40")
_CT = (*_META, "ct state new", "ct state established,related", "ct direction reply")
_MAPS = (
    "udp dport vmap {{ {port} : {first}, 1002 : {second}, 1005-1006 : {first} }}",
    "tcp dport vmap {{ {tcp} : {first}, 2002 : {second} }}",
    "meta l4proto . th dport vmap {{ udp . {port} : {first}, tcp . {tcp} : {second} }}",
    "numgen inc mod 2 vmap {{ 0 : {first}, 1 : {second} }}",
    "udp dport vmap @known",
)
_CT_MAPS = (*_MAPS, "ct state vmap {{ new : {first}, established : {second} }}")
_ARP_MAPS = ("arp operation vmap {{ request : {first}, reply : {second} }}",)
_KNOWN = (
    "map known {{ type inet_service : verdict; elements = {{ 1003 : {first}, 1004 : {second} }}; }}"
)
_STATEMENTS = (
    'log prefix "random " level debug',
    "limit rate 1/day burst {few} packets",
    "limit rate over 1/day burst {few} packets",
    "quota until 90 bytes",
    "quota over 60 bytes",
    "meta mark set 7",
)
_REJECTS = (
    "reject",
    "reject with icmpx type admin-prohibited",
    "meta l4proto tcp reject with tcp reset",
)
_QUEUE = "queue num {few} bypass"
_BEFORE = f"ip daddr {FAR}"
_NAT = {
    "prerouting": (
        f"ip daddr 203.0.113.1 tcp dport {{tcp}} counter dnat to {FAR}",
        f"{_BEFORE} tcp dport {{tcp}} counter redirect to :2001",
        f"{_BEFORE} udp dport {{port}} counter redirect",
    ),
    "postrouting": (
        'oifname "rtr1" udp dport {port} counter masquerade',
        'oifname "rtr1" tcp dport {tcp} counter snat to 198.51.100.254',
        "ct status dnat counter masquerade",
    ),
}


class Kind(NamedTuple):
    """Tables of one kind: the hooks of its chains, and the expressions of its rules."""

    family: str
    hooks: Sequence[str]
    network: Sequence[str]
    transport: Sequence[str]
    both: Sequence[str]
    other: Sequence[str]
    maps: Sequence[str]
    ends: Sequence[str] = ()
    policies: Sequence[str] = ("accept", "accept", "accept", "drop")


_FILTER = ("forward", "forward", "input", "output")
_AROUND = ("prerouting", "postrouting", "forward")
_INGRESS = tuple(f'ingress device "{device}"' for device in ("rtr0", "rtr1", "port0"))
_FOUR = (_IP4, _TRANSPORT, _BOTH4)
_SIX = (_IP6, _TRANSPORT, _BOTH6)
_INET = (_IP4 + _IP6, _TRANSPORT, _BOTH4 + _BOTH6)
_PLAIN_REJECTS = ("reject", "meta l4proto tcp reject with tcp reset")
_KINDS = (
    Kind("inet", _FILTER, *_INET, _CT, _CT_MAPS, (*_REJECTS, _QUEUE)),
    Kind("inet", _AROUND, *_INET, _CT, _CT_MAPS, (_QUEUE,)),
    Kind("ip", _FILTER, *_FOUR, _CT, _CT_MAPS, (*_PLAIN_REJECTS, _QUEUE)),
    Kind("ip6", _FILTER, *_SIX, _CT, _CT_MAPS, (*_PLAIN_REJECTS, _QUEUE)),
    Kind("arp", ("input", "output"), _ARP, (), (), ("meta mark 7",), _ARP_MAPS),
    Kind("bridge", ("prerouting",), *_FOUR, _META, _MAPS, _REJECTS),
    Kind("bridge", _AROUND, *_FOUR, _META, _MAPS),
    Kind("netdev", _INGRESS, *_INET, _META, _MAPS, policies=("accept",)),
)
# Not those in a set or a map anyway.
_PORTS, _TCP_PORTS = ("1001", "1003", "1004", "1008"), ("2001", "2003", "2005", "2007")
_MAX_CHAINS, _MAX_RULES, _FILLERS = 4, 6, 40


def _filled(texts: Sequence[str], **more: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Draw one of ``texts``, with its fields filled in."""
    places = {
        "port": st.sampled_from(_PORTS),
        "tcp": st.sampled_from(_TCP_PORTS),
        "few": st.integers(1, 4).map(str),
        **more,
    }
    return st.builds(str.format, st.sampled_from(texts), **places)


def _targets(below: Sequence[str]) -> st.SearchStrategy[str]:
    words = [f"{verb} {name}" for name in below for verb in ("jump", "jump", "goto")]
    return st.sampled_from(words + ["accept", "return", "continue"] + ["drop"] * (not words))


@st.composite
def _matches(draw: st.DrawFn, kind: Kind, of_transport: bool) -> list[str]:
    """Draw none to three; none on the transport header if another part of the rule has one."""
    groups = [kind.network, kind.other]
    if of_transport and kind.both:
        groups = draw(
            st.sampled_from(([kind.both, kind.other], [*groups, kind.transport], [kind.transport]))
        )
    return [draw(_filled(texts)) for texts in groups if draw(st.booleans())]


@st.composite
def _rule(draw: st.DrawFn, kind: Kind, below: Sequence[str], known: bool) -> str:
    """Draw a rule, in a chain that may jump to ``below``."""
    shape = draw(st.sampled_from(("says", "says", "says", "ends", "looks up", "goes on")))
    words = draw(_matches(kind, shape in ("says", "goes on")))
    if shape == "looks up":
        to = _targets(below)
        maps = [text for text in kind.maps if known or "@known" not in text]
        return " ".join([*words, "counter", draw(_filled(maps, first=to, second=to))])
    end = draw(_filled(kind.ends)) if shape == "ends" and kind.ends else ""
    if draw(st.booleans()):
        words.append(draw(_filled(_STATEMENTS)))
    if shape == "says":
        end = draw(_targets(below))
    match, refused, how = end.partition("reject")  # a match may stand before it
    return " ".join(
        [*words, match, "counter", refused + how] if refused else [*words, "counter", end]
    )


@st.composite
def _table(draw: st.DrawFn, kind: Kind, name: str) -> str:
    users = [f"to{number}" for number in range(draw(st.integers(1, _MAX_CHAINS)))]
    known = kind.family != "arp" and draw(st.booleans())
    parts = []
    if known:
        to = _targets(users[-1:])
        parts.append(draw(_filled([_KNOWN], first=to, second=to)))
    for number, user in enumerate(users):
        # A jump by the map must not loop: only the last chain is in it.
        rule = _rule(kind, users[number + 1 :], known and number + 1 < len(users))
        parts.append(_chain(user, draw(st.lists(rule, max_size=_MAX_RULES))))
    for number, hook in enumerate(
        draw(st.lists(st.sampled_from(kind.hooks), min_size=1, max_size=3))
    ):
        priority = draw(st.sampled_from((-300, -150, -10, 0, 0, 10)))
        policy = draw(st.sampled_from(kind.policies))
        head = f"type filter hook {hook} priority {priority}; policy {policy};"
        rules = st.lists(_rule(kind, users, known), min_size=1, max_size=_MAX_RULES)
        parts.append(_chain(f"base{number}", [*draw(_filler(kind)), *draw(rules)], head))
    return _block(f"table {kind.family} {name}", parts)


@st.composite
def _nat(draw: st.DrawFn, name: str) -> str:
    parts = [_chain("counted", ["counter", "udp dport 1001 counter return"])]
    for hook, priority in (("prerouting", -100), ("postrouting", 100)):
        rules = st.lists(_filled(_NAT[hook]) | st.just("counter jump counted"), max_size=4)
        head = f"type nat hook {hook} priority {priority}; policy accept;"
        parts.append(_chain(hook, draw(rules), head))
    return _block(f"table ip {name}", parts)


def _filler(kind: Kind) -> st.SearchStrategy[list[str]]:
    rules = [f"udp dport {20000 + number} drop" for number in range(_FILLERS)]
    return st.sampled_from(([], rules)) if kind.family != "arp" else st.just([])


def _chain(name: str, rules: Sequence[str], head: str = "") -> str:
    return _block(f"chain {name}", [head, *rules] if head else rules)


def _block(head: str, lines: Sequence[str]) -> str:
    inner = "\n".join(lines).replace("\n", "\n\t")
    return f"{head} {{\n\t{inner}\n}}"


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    """Draw three to six tables for the router, and rules of iptables-nft for far."""
    kinds = draw(st.lists(st.sampled_from(_KINDS), min_size=3, max_size=6))
    tables = [draw(_table(kind, f"random{number}")) for number, kind in enumerate(kinds)]
    if draw(st.booleans()):
        tables.append(draw(_nat("translated")))
    return Ruleset({"router": "\n".join(tables)}, draw(iptables()))


def derived(number: int, start: int) -> list[Ruleset]:
    """Return ``number`` rulesets, the same for the same ``start``."""
    return [_derived(start + each) for each in range(number)]


def _derived(start: int) -> Ruleset:
    """Return the longest of three: the first of a run is the smallest possible."""
    found: list[Ruleset] = []

    @seed(start)
    @settings(
        max_examples=3,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(rulesets())
    def keep(ruleset: Ruleset) -> None:
        found.append(ruleset)

    keep()
    return max(found, key=lambda ruleset: len(ruleset.nft["router"]))
