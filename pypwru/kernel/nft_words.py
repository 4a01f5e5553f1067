"""Words for the numbers of netfilter and nf_tables: nft's own, and iptables' for its chains."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# NFPROTO_*
FAMILIES: Mapping[int, str] = {
    1: "inet",
    2: "ip",
    3: "arp",
    5: "netdev",
    7: "bridge",
    10: "ip6",
}
# NF_INET_*, NF_ARP_*, NF_NETDEV_*, NF_BR_*
_INET_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_HOOKS = {
    "arp": ("input", "output", "forward"),
    "netdev": ("ingress", "egress"),
    "bridge": (*_INET_HOOKS[:5], "brouting"),
}

# NF_* of linux/netfilter.h, of the low byte, and NFT_* of linux/netfilter/nf_tables.h; 6 is
# VERDICT_ROUTE of bpf/event.h.
VERDICTS: Mapping[int, str] = {
    0: "drop",
    1: "accept",
    2: "stolen",
    3: "queue",
    4: "repeat",
    5: "stop",
    6: "route",
    -1: "continue",
    -2: "break",
    -3: "jump",
    -4: "goto",
    -5: "return",
}
REJECT = "reject"
"""What a rule does that drops a packet and tells its sender; to the kernel that is no verdict."""
_VERDICT_MASK = 0xFF  # above it NF_QUEUE has a queue's number, and NF_DROP an errno


def family_word(number: int) -> str:
    """As nft has it."""
    return FAMILIES.get(number, str(number))


def hook_word(family: str, number: int) -> str:
    """As nft has it.

    Args:
        family: of the table, in nft's word.
        number: NF_*.
    """
    words = _HOOKS.get(family, _INET_HOOKS)
    return words[number] if number < len(words) else str(number)


def verdict_word(verdict: int) -> str:
    """As nft has it.

    Args:
        verdict: signed.
    """
    return VERDICTS.get(verdict if verdict < 0 else verdict & _VERDICT_MASK, str(verdict))
