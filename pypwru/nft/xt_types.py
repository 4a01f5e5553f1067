"""Struct members and function arguments of iptables-legacy, from the BTF of its modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.load import SYSFS, load_module
from pypwru.btf.members import find_member
from pypwru.btf.types import Field, Kind
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pypwru.btf.query import BTF

# Byte offsets for kernels whose modules have no BTF. struct ebt_table is a list_head and then the
# name since Linux 2.6. Those of xt_table are of Debian's 5.10 (nft_types.require_types), taken from
# the data section of its iptable_filter.ko.
_OFFSETS_WITHOUT_BTF: Mapping[tuple[str, str], int] = {
    ("ebt_table", "name"): 16,
    ("xt_table", "priority"): 44,
    ("xt_table", "name"): 56,
}


class XtTypes:
    """The structs of iptables-legacy in the running kernel, and the arguments of its functions.

    Args:
        btf: of vmlinux.
        module: of ``function``; empty if built in.
        function: ``ipt_do_table`` or one of its siblings, which all have the same arguments.
        folder: directory with the BTF of modules.

    Raises:
        BTFError: the module's BTF is malformed.
    """

    def __init__(self, btf: BTF, module: str, function: str, folder: Path = SYSFS) -> None:
        has_module_btf = module and (folder / module).exists()
        self._btf = load_module(module, btf, folder) if has_module_btf else btf
        table = "ebt_table" if function == "ebt_do_table" else "xt_table"
        self.has_btf = bool(self._btf.find(table, Kind.STRUCT))
        """Whether BTF has these structs."""
        self.macros = {"XT_SKB_FIRST": str(int(is_skb_first(self._btf, function)))}

    def member(self, struct: str, path: str) -> Field | None:
        """Return the location of a member; None if it is neither in BTF nor built in above.

        Args:
            struct: its name, without ``struct``.
            path: member names joined by dots.
        """
        try:
            return find_member(self._btf, struct, path)
        except BTFError:
            offset = _OFFSETS_WITHOUT_BTF.get((struct, path))
            return None if offset is None else Field(offset, 0, 0, 8, 0)


def is_skb_first(btf: BTF, function: str) -> bool:
    """Return whether the skb is the first argument (until Linux 5.15), not the second."""
    found = btf.find(function, Kind.FUNC)
    if not found:  # a module before Linux 5.11 has no types
        return True
    first = btf.pointee(btf.params(btf.type(found[0]).type)[0].type)
    return first is not None and btf.type(first).name == "sk_buff"
