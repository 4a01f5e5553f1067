"""The kinds of events: one row for each EVENT_* of bpf/event.h that is an event."""

from __future__ import annotations

from typing import NamedTuple

from pypwru.wire.record import EVENT_MEMBERS, header_constants


class EventKind(NamedTuple):
    """A kind of event.

    Args:
        name: its constant in bpf/event.h, without ``EVENT_``.
        json_type: ``type`` in JSON; of a function that drops the packet it is ``drop``.
        suffix: behind the name of the function in text.
        is_nft: whether it is an nft event.
        may_follow_free: whether it may arrive after the free record of its packet: fwd, synproxy
            and drops with a reason free the sk_buff inside the expression, before the rule and the
            chain's return are traced.
    """

    name: str
    json_type: str
    suffix: str = ""
    is_nft: bool = False
    may_follow_free: bool = False

    @property
    def number(self) -> int:
        """The constant."""
        return header_constants()[f"EVENT_{self.name}"]


def encode_kind(name: str) -> bytes:
    """Return the bytes of a record's member ``kind``.

    Args:
        name: of a constant in bpf/event.h, without ``EVENT_``.
    """
    return header_constants()[f"EVENT_{name}"].to_bytes(EVENT_MEMBERS["kind"].size, "little")


FUNCTION = EventKind("FUNCTION", "function_call")
XDP = EventKind("XDP", "xdp", suffix="(xdp)")
NFT_RULE = EventKind("NFT_RULE", "nft_rule", is_nft=True, may_follow_free=True)
NFT_CHAIN_ENTRY = EventKind("NFT_CHAIN_ENTRY", "nft_chain", is_nft=True)
NFT_CHAIN_EXIT = EventKind("NFT_CHAIN_EXIT", "nft_chain", is_nft=True, may_follow_free=True)
KINDS = {
    kind.number: kind
    for kind in (
        FUNCTION,
        EventKind("TC", "tc", suffix="(tc)"),
        XDP,
        EventKind("MAP", "map"),
        NFT_RULE,
        NFT_CHAIN_ENTRY,
        NFT_CHAIN_EXIT,
    )
}
DROP_TYPE = "drop"
"""``type`` in JSON of a function that drops the packet."""
