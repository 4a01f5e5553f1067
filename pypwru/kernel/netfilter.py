"""Names of the constants of netfilter and nf_tables, as nft(8) spells them."""

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

# NF_* of linux/netfilter.h (the low byte of a verdict) and NFT_* of linux/netfilter/nf_tables.h; 6
# is VERDICT_ROUTE of bpf/event.h.
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
"""Name for a rule that drops a packet and notifies its sender; the kernel's verdict is drop."""
_VERDICT_MASK = 0xFF  # upper bits: queue number of NF_QUEUE, errno of NF_DROP


def family_name(number: int) -> str:
    """Return the name of an ``NFPROTO_*``, or the number."""
    return FAMILIES.get(number, str(number))


def hook_name(family: str, number: int) -> str:
    """Return the name of a hook, or the number.

    Args:
        family: name of the table's family.
        number: ``NF_INET_*``, ``NF_ARP_*``, ``NF_NETDEV_*`` or ``NF_BR_*``.
    """
    names = _HOOKS.get(family, _INET_HOOKS)
    return names[number] if number < len(names) else str(number)


def verdict_name(verdict: int) -> str:
    """Return the name of a verdict, or the number.

    Args:
        verdict: s32: ``NFT_*`` (negative), or ``NF_*`` with its upper bits.
    """
    return VERDICTS.get(verdict if verdict < 0 else verdict & _VERDICT_MASK, str(verdict))
