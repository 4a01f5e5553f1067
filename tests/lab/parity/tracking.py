"""Lines that only tracking prints: for each mode one that a run without it lacks."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.lab.net.topology import FAR, NEAR, ROUTER
from tests.lab.parity.invocations import INVOCATIONS, Invocation


class Scenario(NamedTuple):
    """One mode.

    Args:
        invocation: the one whose output has the line.
        line: a pattern of it, with the lines behind it.
        flags: the flags of the mode; the run without them is ``invocation`` less these.
    """

    invocation: str
    line: str
    flags: tuple[str, ...]


_OUTER = rf"{NEAR}:4790->{FAR}:4789\(udp\)"
_SKB = ("--filter-track-skb",)

SCENARIOS = {
    "nat": Scenario("tracked_nat", rf"{NEAR}:4201->{FAR}:80\(tcp\) +ip_output$", _SKB),
    "encapsulation": Scenario("tracked_tunnel", rf"{_OUTER} +ip_output$", _SKB),
    "clone": Scenario("tracked_clone", r" near1:3 .* dev_hard_start_xmit$", _SKB),
    "veth_xdp": Scenario("tracked_veth", r" far1:3 .* icmp_rcv$", _SKB),
    "segments": Scenario("tracked_segments", r" near1:3 .* 15\d\d .* dev_hard_start_xmit$", _SKB),
    "stack": Scenario(
        "tracked_stack",
        rf"{ROUTER}:0->{NEAR}:0\(icmp\) +ip_output$",
        ("--filter-track-skb-by-stackid",),
    ),
    "non_skb": Scenario(
        "tracked_non_skb", r" fib_table_lookup$", ("--filter-non-skb-funcs", "fib_table_lookup")
    ),
    "helpers": Scenario(
        "helpers",
        r" htab_map_update_elem\nmap_id: \d+\nmap_name: lab_seen",
        ("--filter-track-bpf-helpers", "--output-bpfmap"),
    ),
    "map": Scenario("helpers", r"\nmap_name: lab_seen", ("--output-bpfmap",)),
}


def shown(scenario: Scenario, text: str) -> bool:
    """Return whether the line is there."""
    return bool(re.search(scenario.line, text, re.MULTILINE))


def without(scenario: Scenario) -> Invocation:
    """Return the same run less the flags of the mode."""
    row = INVOCATIONS[scenario.invocation]
    words = list(row.words)
    for flag in scenario.flags:
        words.remove(flag)
    return row._replace(words=tuple(words), peer=False, cheap=False)


CONTROLS = {f"without_{name}": without(scenario) for name, scenario in SCENARIOS.items()}
