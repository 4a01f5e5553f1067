"""``struct part_nft`` of ``bpf/event.h``: an nft event, or the last verdict on a packet."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from pypwru.wire.record import header_constants

NFT = struct.Struct("<4Q4QIiiBBBB")
NFT_TIME = struct.Struct("<Q")
EMPTY_NFT = bytes(NFT.size)
"""The part of a record without nft event and verdict."""

# NFT_TRACETYPE_* of linux/netfilter/nf_tables.h, and LEGACY of bpf/event.h.
POLICY, RETURN, RULE, LEGACY = 1, 2, 3, 4
NO_RULE = header_constants()["NFT_NO_RULE"]
_HANDLES_STRUCT = struct.Struct("<QQQ40xI")
_HANDLE_MASK = (1 << header_constants()["CHAIN_HANDLE_BITS"]) - 1
_KIND_SIZE = 2
_TEXT_OFFSET = NFT.size + _KIND_SIZE


class NftPart(NamedTuple):
    """An nft event, or, in an event of another kind, the last final verdict on its packet.

    Args:
        table: handle; of iptables-legacy the ``struct xt_table *``.
        chain: handle, and above CHAIN_HANDLE_BITS a hash of the chain's name, which a rename
            changes; of iptables-legacy 0.
        rule: handle; 0: a policy, or the end of a chain.
        target: chain of a jump or goto, as ``chain``; 0 if there is none.
        path: chains from the base chain to ``chain``, as ``chain``; 0 after the last.
        netns: inode of the network namespace.
        verdict: NF_*, or negative NFT_*.
        priority: of the base chain.
        family: NFPROTO_* of the table.
        hook: NF_*_* number of the base chain's hook.
        type: NFT_TRACETYPE_*, or LEGACY of iptables-legacy; 0: entry or exit of a chain. NO_RULE: a
            hook function that is neither nftables' nor iptables' dropped the packet, and the rest
            of the part is 0.
        depth: number of jumps from the base chain.
        kind: EVENT_* of bpf/event.h.
        text: of the rule; empty if no program could list it, None if it is unknown or there is no
            rule.
        comment: of the rule; empty if it has none.
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


RuleKey = tuple[int, int, int, int]
"""Key of a rule: inode of the network namespace, handles of table, chain and rule."""


def decode_nft(part: bytes) -> NftPart | None:
    """Decode ``struct part_nft``; None if it is empty.

    Args:
        part: the struct, then the record's kind, then the rule's text as ``append_text`` appends
            it.
    """
    if part.startswith(EMPTY_NFT):
        return None
    numbers = NFT.unpack_from(part)
    kind = int.from_bytes(part[NFT.size : _TEXT_OFFSET], "little")
    return NftPart._make(
        (*numbers[:4], numbers[4:8], *numbers[8:], kind, *_decode_text(part[_TEXT_OFFSET:]))
    )


def decode_rule_key(part: bytes) -> RuleKey:
    """Return the key of a part's rule; the last handle is 0 if the part is of no rule.

    Args:
        part: ``struct part_nft``, and anything after it.
    """
    table, chain, rule, netns = _HANDLES_STRUCT.unpack_from(part)
    return netns, table, chain_handle(chain), rule


def chain_handle(chain: int) -> int:
    """Return the handle of a chain as records have it, without the hash of its name."""
    return chain & _HANDLE_MASK


def append_text(part: bytes, text: str, comment: str) -> bytes:
    """Append text and comment of the rule to a part; without them the part stands for unknown text.

    Args:
        part: ``struct part_nft``, then the record's kind.
        text: of the rule.
        comment: of the rule; empty if it has none.
    """
    return b"%b%b\0%b" % (part, os.fsencode(text), os.fsencode(comment))


def _decode_text(data: bytes) -> tuple[str | None, str]:
    """Return text and comment; text is None if nothing was appended."""
    if not data:
        return None, ""
    text, comment = data.split(b"\0")
    return os.fsdecode(text), os.fsdecode(comment)
