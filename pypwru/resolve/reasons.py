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
_MARK = "drop_reason"
_SUBSYSTEM_SHIFT = 16  # SKB_DROP_REASON_SUBSYS_SHIFT
_DONE = frozenset(("SKB_NOT_DROPPED_YET", "SKB_CONSUMED"))
# __kfree_skb() passes NOT_SPECIFIED also for packets that were consumed: alone it proves no drop.
_NO_DROPS = _DONE | {"SKB_DROP_REASON_NOT_SPECIFIED"}
_RESCAN_SECONDS = 1.0
_NONE = (1 << 64) - 1  # equal to no u32 reason


class Reasons:
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
        read = partial(_core, btf)
        if cache:
            key = package_digest(("btf", "resolve"), btf.identity)
            core = cache.remembered(f"reasons-{key}", read)
        else:
            core = read()
        self._words = reasons_of(core)
        self.no_drops = frozenset({0} | self._values(_NO_DROPS))
        """Reasons that don't mean a drop, by themselves."""
        self.done = frozenset(self._values(_DONE))
        """Reasons with which a function that only drops packets does not drop one."""
        self.netfilter_drop = min(self._values({"SKB_DROP_REASON_NETFILTER_DROP"}), default=_NONE)
        """SKB_DROP_REASON_NETFILTER_DROP: a netfilter hook dropped the packet. A value that equals
        no reason if the kernel has no such enumerator.
        """
        self.consumed = min(self._values({"SKB_CONSUMED"}), default=_NONE)
        """SKB_CONSUMED, likewise."""
        self._enums = enums or _Subsystems(btf)
        self._monotonic = monotonic
        self._look_after = float("-inf")
        self.known = bool(self._words)
        """Whether this kernel has drop reasons (since Linux 5.17)."""

    def constants(self) -> dict[str, int]:
        """Return the load-time constants of the BPF programs: name -> value."""
        return {"NETFILTER_DROP": self.netfilter_drop, "CONSUMED": self.consumed}

    def is_drop(self, reason: int) -> bool:
        """Return whether the reason by itself means a drop."""
        return reason not in self.no_drops

    def ends_badly(self, reason: int) -> bool:
        """Return whether a function that only drops packets drops one with this reason.

        Args:
            reason: NOT_SPECIFIED is a drop here; so is a 0 of a kernel without reasons.
        """
        return reason not in self.done

    def _values(self, words: Collection[str]) -> set[int]:
        return {value for value, word in self._words.items() if word in words}

    def word(self, reason: int) -> str:
        """Return the name of the enumerator; "" if no enum has this value.

        For an unknown reason of a subsystem, enums of modules are read, at most once a second.
        """
        word = self._words.get(reason, "")
        if not word and reason >> _SUBSYSTEM_SHIFT and self._monotonic() >= self._look_after:
            for enum in self._enums():
                self._add(reasons_of(enum))
            self._look_after = self._monotonic() + _RESCAN_SECONDS
            word = self._words.get(reason, "")
        return word

    def _add(self, words: Mapping[int, str]) -> None:
        for value, word in words.items():
            # mac80211 defines each twice: the internal enum prefixes the names with underscores.
            if value >> _SUBSYSTEM_SHIFT and self._words.get(value, "_").startswith("_"):
                self._words[value] = word


def reasons_of(enum: Mapping[str, int]) -> dict[int, str]:
    """Return value -> name of an enum of drop reasons.

    Args:
        enum: name -> value, in the order of BTF; empty for a kernel without reasons. That of the
            core begins with SKB_NOT_DROPPED_YET and SKB_CONSUMED, which are no drops, and ends with
            bounds (SKB_DROP_REASON_MAX). The first name of a value is taken, so that a bound
            hides no reason.
    """
    words: dict[int, str] = {}
    for name, value in enum.items():
        words.setdefault(value, name)
    return words


def drop_enums(types: BTF) -> Iterator[dict[str, int]]:
    """Yield the enums of drop reasons in ``types``, without those of its base BTF."""
    from pypwru.btf import carriers

    for kind in (Kind.ENUM, Kind.ENUM64):
        for own in carriers.indexes_of(types.blob, kind):
            found = types.type(own + types.blob.first_id)
            if _MARK in found.name:
                yield types.enumerators(found.id)


def _core(btf: BTF) -> dict[str, int]:
    try:
        return btf.enum(ENUM)
    except BTFError:  # no reasons before Linux 5.17
        return {}


class _Subsystems:
    """Enums of drop reasons of vmlinux and of loaded modules: each call yields those not yielded
    before.
    """

    def __init__(self, btf: BTF) -> None:
        self._btf = btf
        self._read: set[str] = set()

    def __call__(self) -> Iterator[dict[str, int]]:
        from pypwru.btf.load import module_names

        if not self._read:
            yield from drop_enums(self._btf)
        self._read.add("vmlinux")
        for name in module_names():
            if name not in self._read:
                self._read.add(name)
                yield from self._of_module(name)

    def _of_module(self, name: str) -> Iterator[dict[str, int]]:
        from pypwru.btf.load import SYSFS, file_content, load_module

        try:
            # Most modules have none: search the raw BTF for the name before parsing it.
            if _MARK.encode() in file_content(SYSFS / name):
                yield from drop_enums(load_module(name, self._btf))
        except BTFError:  # unloaded meanwhile, or --kernel-btf is another kernel's
            return
