"""Names of drop reasons, including those of subsystems such as mac80211 and openvswitch.

The upper 16 bits of an ``enum skb_drop_reason`` are the subsystem, 0 for the core (since Linux 6.4,
include/net/dropreason.h). Each subsystem defines its reasons in an enum of its own, in vmlinux or
in its module. The names of these enums contain ``drop_reason``; their values include the subsystem.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from pypwru.btf.types import Kind
from pypwru.cache import package_digest
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache

ENUM = "skb_drop_reason"  # of include/net/dropreason-core.h; since Linux 5.17
_ENUM_NAME_PART = "drop_reason"
_SUBSYSTEM_SHIFT = 16  # SKB_DROP_REASON_SUBSYS_SHIFT
_CONSUMED_NAMES = frozenset(("SKB_NOT_DROPPED_YET", "SKB_CONSUMED"))
# __kfree_skb() passes NOT_SPECIFIED also for packets that were consumed: alone it proves no drop.
_NON_DROP_NAMES = _CONSUMED_NAMES | {"SKB_DROP_REASON_NOT_SPECIFIED"}
_RESCAN_SECONDS = 1.0
_NO_REASON = (1 << 64) - 1  # equal to no u32 reason


class DropReasons:
    """Names of drop reasons.

    Args:
        btf: types of the kernel.
        enums: returns the enums of subsystems that no earlier call returned, each name -> value.
        monotonic: clock in seconds.
        cache: stores the reasons of the core for the next start.
    """

    def __init__(
        self,
        btf: BTF,
        enums: Callable[[], Iterable[Mapping[str, int]]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        cache: Cache | None = None,
    ) -> None:
        read = partial(_core_reasons, btf)
        if cache:
            key = package_digest(("btf", "names"), btf.identity)
            core = cache.get_or_make(f"reasons-{key}", read)
        else:
            core = read()
        self._name_by_value = invert_enum(core)
        self.non_drops = frozenset({0} | self._values(_NON_DROP_NAMES))
        """Reasons that don't mean a drop, by themselves."""
        self.non_drops_on_free = frozenset(self._values(_CONSUMED_NAMES))
        """Reasons with which a function that only drops packets does not drop one."""
        self.netfilter_drop = min(
            self._values({"SKB_DROP_REASON_NETFILTER_DROP"}), default=_NO_REASON
        )
        """SKB_DROP_REASON_NETFILTER_DROP: a netfilter hook dropped the packet. A value that equals
        no reason if the kernel has no such enumerator.
        """
        self.consumed = min(self._values({"SKB_CONSUMED"}), default=_NO_REASON)
        """SKB_CONSUMED, likewise."""
        self._enums = enums or _SubsystemEnums(btf)
        self._monotonic = monotonic
        self._next_rescan = float("-inf")
        self.has_reasons = bool(self._name_by_value)
        """Whether this kernel has drop reasons (since Linux 5.17)."""

    def constants(self) -> dict[str, int]:
        """Return the load-time constants of the BPF programs: name -> value."""
        return {"REASON_NETFILTER_DROP": self.netfilter_drop, "REASON_CONSUMED": self.consumed}

    def is_drop_reason(self, reason: int) -> bool:
        """Return whether the reason by itself means a drop."""
        return reason not in self.non_drops

    def is_drop_on_free(self, reason: int) -> bool:
        """Return whether a function that only drops packets drops one with this reason.

        Args:
            reason: NOT_SPECIFIED is a drop here; so is a 0 of a kernel without reasons.
        """
        return reason not in self.non_drops_on_free

    def _values(self, names: Collection[str]) -> set[int]:
        return {value for value, name in self._name_by_value.items() if name in names}

    def reason_name(self, reason: int) -> str:
        """Return the name of the enumerator; "" if no enum has this value.

        For an unknown reason of a subsystem, enums of modules are read, at most once a second.
        """
        name = self._name_by_value.get(reason, "")
        if not name and reason >> _SUBSYSTEM_SHIFT and self._monotonic() >= self._next_rescan:
            for enum in self._enums():
                self._add(invert_enum(enum))
            self._next_rescan = self._monotonic() + _RESCAN_SECONDS
            name = self._name_by_value.get(reason, "")
        return name

    def _add(self, names: Mapping[int, str]) -> None:
        for value, name in names.items():
            # mac80211 defines each twice: the internal enum prefixes the names with underscores.
            if value >> _SUBSYSTEM_SHIFT and self._name_by_value.get(value, "_").startswith("_"):
                self._name_by_value[value] = name


def invert_enum(enum: Mapping[str, int]) -> dict[int, str]:
    """Return value -> name of an enum of drop reasons.

    Args:
        enum: name -> value, in the order of BTF; empty for a kernel without reasons. That of the
            core begins with SKB_NOT_DROPPED_YET and SKB_CONSUMED, which are no drops, and ends with
            bounds (SKB_DROP_REASON_MAX). The first name of a value is taken, so that a bound
            hides no reason.
    """
    names: dict[int, str] = {}
    for name, value in enum.items():
        names.setdefault(value, name)
    return names


def find_drop_enums(types: BTF) -> Iterator[dict[str, int]]:
    """Yield the enums of drop reasons in ``types``, without those of its base BTF."""
    from pypwru.btf import argument_index

    for kind in (Kind.ENUM, Kind.ENUM64):
        for index in argument_index.indexes_of(types.blob, kind):
            found = types.type(index + types.blob.first_id)
            if _ENUM_NAME_PART in found.name:
                yield types.enumerators(found.id)


def _core_reasons(btf: BTF) -> dict[str, int]:
    from pypwru.btf.enums import find_enum

    try:
        return find_enum(btf, ENUM)
    except BTFError:  # no reasons before Linux 5.17
        return {}


class _SubsystemEnums:
    """Enums of drop reasons of vmlinux and of loaded modules.

    Each call yields those not yielded before.
    """

    def __init__(self, btf: BTF) -> None:
        self._btf = btf
        self._modules_read: set[str] = set()

    def __call__(self) -> Iterator[dict[str, int]]:
        from pypwru.btf.load import module_names

        if not self._modules_read:
            yield from find_drop_enums(self._btf)
        self._modules_read.add("vmlinux")
        for name in module_names():
            if name not in self._modules_read:
                self._modules_read.add(name)
                yield from self._module_enums(name)

    def _module_enums(self, name: str) -> Iterator[dict[str, int]]:
        from pypwru.btf.load import SYSFS, load_module, read_btf_file

        try:
            # Most modules have none: search the raw BTF for the name before parsing it.
            if _ENUM_NAME_PART.encode() in read_btf_file(SYSFS / name):
                yield from find_drop_enums(load_module(name, self._btf))
        except BTFError:  # unloaded meanwhile, or --kernel-btf is another kernel's
            return
