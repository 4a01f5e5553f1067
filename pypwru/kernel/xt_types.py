"""Where iptables-legacy keeps what is read of it: the structs and functions of its modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.load import SYSFS, load_module
from pypwru.btf.types import Field, Kind
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.btf.query import BTF

# A struct ebt_table has been a list_head, then its name, since Linux 2.6. The others are Linux
# 5.10's, where modules have no BTF, as in the data of Debian's iptable_filter.ko (require_types of
# nft_types.py).
_REMEMBERED: Mapping[tuple[str, str], int] = {
    ("ebt_table", "name"): 16,
    ("xt_table", "priority"): 44,
    ("xt_table", "name"): 56,
}


class XtTypes:
    """The structs of iptables-legacy in a kernel, and how its functions are called.

    Args:
        btf: of vmlinux.
        module: that ``function`` is of; empty where it is built in.
        function: one of ``ipt_do_table`` and its likes, which are all called alike.

    Raises:
        BTFError: the module's BTF is malformed.
    """

    def __init__(self, btf: BTF, module: str, function: str) -> None:
        has_own = module and (SYSFS / module).exists()
        self._btf = load_module(module, btf) if has_own else btf
        table = "ebt_table" if function == "ebt_do_table" else "xt_table"
        self.are_known = bool(self._btf.find(table, Kind.STRUCT))
        """Whether the kernel tells of them."""
        self.macros = {"XT_SKB_FIRST": str(int(skb_is_first(self._btf, function)))}

    def member(self, struct: str, path: str) -> Field | None:
        """Where a member is; None if it is none of iptables-legacy's."""
        try:
            return self._btf.member(struct, path)
        except BTFError:
            offset = _REMEMBERED.get((struct, path))
            return None if offset is None else Field(offset, 0, 0, 8, 0)


def skb_is_first(btf: BTF, function: str) -> bool:
    """Whether the packet is the first argument, as it was until Linux 5.15, or the second."""
    found = btf.find(function, Kind.FUNC)
    if not found:  # a module before Linux 5.11 has no types
        return True
    first = btf.pointee(btf.params(btf.type(found[0]).type)[0].type)
    return first is not None and btf.type(first).name == "sk_buff"
