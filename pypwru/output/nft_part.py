"""What nftables said of a packet, as named fields: ``struct part_nft`` of ``bpf/event.h``."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from pypwru.events.record import constants

NFT = struct.Struct("<4Q4QIiiBBBB")
NFT_AT = struct.Struct("<Q")
NOTHING = bytes(NFT.size)
"""The part where nothing was said."""

# NFT_TRACETYPE_* of linux/netfilter/nf_tables.h, and event.h's own
POLICY, RETURN, RULE, LEGACY = 1, 2, 3, 4
NO_RULE = constants()["NFT_NO_RULE"]
_HANDLES = struct.Struct("<QQQ40xI")
_HANDLE = (1 << constants()["CHAIN_HANDLE_BITS"]) - 1
_KIND_SIZE = 2
_WORDS = NFT.size + _KIND_SIZE


class Nft(NamedTuple):
    """What nftables said, now or last: handles, and NF_*, NFPROTO_* and NFT_* numbers.

    Args:
        table: handle; of iptables-legacy the address of its struct xt_table.
        chain: by which its name is found; of iptables-legacy 0.
        rule: handle; 0: the policy, or the end of a chain.
        target: likewise, the chain that is jumped to; 0 for none.
        path: likewise, chains on the way to ``chain``, the base chain first; 0 behind the last.
        netns: inode of the network namespace.
        verdict: signed.
        priority: of the base chain.
        family: of the table.
        hook: that the base chain is on.
        type: NFT_TRACETYPE_*, or of iptables-legacy; 0 for the entry or exit of a chain. NO_RULE: a
            hook's function drops the packet, and nothing of it is known.
        depth: how many jumps deep.
        kind: EVENT_* of bpf/event.h.
        text: the rule's; empty for none, None where it isn't known.
        comment: the rule's.
    """

    table: int
    chain: int
    rule: int
    target: int
    path: tuple[int, ...]
    netns: int
    verdict: int
    priority: int
    family: int
    hook: int
    type: int
    depth: int
    kind: int
    text: str | None
    comment: str


Handles = tuple[int, int, int, int]
"""Which rule spoke: inode of the network namespace, handles of table, chain and rule."""


def nft(part: bytes) -> Nft | None:
    """The part, behind it the record's kind, and what ``with_text`` made of both.

    None where nothing was said.
    """
    if part.startswith(NOTHING):
        return None
    numbers = NFT.unpack_from(part)
    kind = int.from_bytes(part[NFT.size : _WORDS], "little")
    return Nft._make((*numbers[:4], numbers[4:8], *numbers[8:], kind, *_text(part[_WORDS:])))


def handles(part: bytes) -> Handles:
    """Those of a part; the last is 0 where no rule spoke.

    Args:
        part: may have anything behind it.
    """
    table, chain, rule, netns = _HANDLES.unpack_from(part)
    return netns, table, chain_handle(chain), rule


def chain_handle(chain: int) -> int:
    """A chain's handle: above it stands which name it had (``struct part_nft``)."""
    return chain & _HANDLE


def with_text(part: bytes, text: str, comment: str) -> bytes:
    """A part and its kind, and behind them what is known of the rule; without it, nothing is."""
    return b"%b%b\0%b" % (part, os.fsencode(text), os.fsencode(comment))


def _text(octets: bytes) -> tuple[str | None, str]:
    """Text and comment."""
    if not octets:
        return None, ""
    text, comment = octets.split(b"\0")
    return os.fsdecode(text), os.fsdecode(comment)
