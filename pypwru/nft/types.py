"""Struct members of nf_tables that the BPF programs read, from the BTF of its module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.load import SYSFS, load_module
from pypwru.btf.members import find_member
from pypwru.btf.types import Field, Kind
from pypwru.errors import BTFError
from pypwru.kernel.build_id import is_debian_5_10

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pypwru.btf.query import BTF

MODULE = "nf_tables"

# Byte offsets for Debian's 5.10 only (require_types), since modules have no BTF before Linux 5.11.
# Taken from the disassembly of nft_do_chain(), nf_tables_fill_chain_info(), nft_trace_notify() and
# nft_immediate_eval().
_DEBIAN_5_10_OFFSETS: Mapping[tuple[str, str], int] = {
    ("nft_pktinfo", "skb"): 0,
    ("nft_pktinfo", "xt.state"): 32,
    ("nft_traceinfo", "pkt"): 0,
    ("nft_traceinfo", "rule"): 24,
    ("nft_traceinfo", "verdict"): 32,
    ("nft_verdict", "code"): 0,
    ("nft_verdict", "chain"): 8,
    ("nft_chain", "rules_gen_0"): 0,
    ("nft_chain", "rules_gen_1"): 8,
    ("nft_chain", "table"): 64,
    ("nft_chain", "handle"): 72,
    ("nft_chain", "name"): 88,
    ("nft_base_chain", "ops"): 0,
    ("nft_base_chain", "policy"): 0x40,
    ("nft_base_chain", "chain"): 0x50,
    ("nft_expr", "data"): 8,
    ("nft_immediate_expr", "data"): 0,
    ("nft_immediate_expr", "dreg"): 16,
    ("nft_regs", "verdict"): 0,
}
# struct nft_table: byte offsets from the end of chains_ht; offset of chains_ht, after a list_head.
_NFT_TABLE_OFFSETS: Mapping[str, int] = {"handle": 72, "family": 84, "name": 88}
_CHAINS_HT_OFFSET = 16
_FAMILY_BITS = 6


class NftTypes:
    """The structs of nf_tables in the running kernel.

    Args:
        btf: of vmlinux.
        folder: directory with the BTF of modules.

    Raises:
        BTFError: the module's BTF is malformed.
    """

    def __init__(self, btf: BTF, folder: Path = SYSFS) -> None:
        self._btf = load_module(MODULE, btf, folder) if (folder / MODULE).exists() else btf
        self.has_btf = bool(self._btf.find("nft_chain", Kind.STRUCT))
        """Whether BTF has these structs; if not, members are those of Debian's 5.10."""

    def member(self, struct: str, path: str) -> Field | None:
        """Return the location of a member; None if this kernel has no such member.

        Args:
            struct: its name, without ``struct``.
            path: member names joined by dots.
        """
        try:
            return find_member(self._btf, struct, path)
        except BTFError:
            return None if self.has_btf else self._field_without_btf(struct, path)

    def _field_without_btf(self, struct: str, path: str) -> Field | None:
        offset = _DEBIAN_5_10_OFFSETS.get((struct, path))
        if struct == "nft_table" and path in _NFT_TABLE_OFFSETS:
            rhltable_id = self._btf.find("rhltable", Kind.STRUCT)[0]
            offset = _CHAINS_HT_OFFSET + self._btf.size(rhltable_id) + _NFT_TABLE_OFFSETS[path]
        if offset is None:
            return None
        return Field(offset, 0, _FAMILY_BITS if path == "family" else 0, 8, 0)


def require_types(module: str, has_btf: bool) -> None:
    """Raise if the layout of a module's structs is unknown.

    Args:
        module: its name, for the message.
        has_btf: whether BTF has the structs.

    Raises:
        BTFError: it hasn't, and the running kernel isn't Debian's 5.10, whose offsets are built in.
    """
    if not (has_btf or is_debian_5_10()):
        raise BTFError(
            f"module {module} has no BTF, and without it only Debian's 5.10 is supported: boot a "
            "kernel with CONFIG_DEBUG_INFO_BTF_MODULES=y"
        )
