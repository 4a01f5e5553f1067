"""Words for drop reasons, those of subsystems such as mac80211 and openvswitch included.

The upper half of an ``enum skb_drop_reason`` is the subsystem, 0 for the core (Linux 6.4,
include/net/dropreason.h). Each subsystem numbers its own reasons in an enum of its own, in vmlinux
or in its module: all are called something like ``drop_reason``, and their values carry the
subsystem.
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
# What __kfree_skb() says of packets that did their work, too, is no word of a drop by itself.
_NO_DROPS = _DONE | {"SKB_DROP_REASON_NOT_SPECIFIED"}
_RESCAN_SECONDS = 1.0
_NONE = (1 << 64) - 1  # no reason of 32 bits


class Reasons:
    """Words of drop reasons.

    Args:
        btf: the kernel's.
        enums: the enums of subsystems that were not read yet, each name to value.
        monotonic: seconds.
        cache: keeps the core's reasons for the next start.
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
        """Reasons with which a packet was not thrown away."""
        self.done = frozenset(self._values(_DONE))
        """The same where a packet ends."""
        self.netfilter_drop = min(self._values({"SKB_DROP_REASON_NETFILTER_DROP"}), default=_NONE)
        """Of what a hook's function dropped; one that nothing has where there is none."""
        self.consumed = min(self._values({"SKB_CONSUMED"}), default=_NONE)
        """Of what did its work, likewise."""
        self._enums = enums or _Subsystems(btf)
        self._monotonic = monotonic
        self._look_after = float("-inf")
        self.known = bool(self._words)
        """Whether this kernel has reasons at all."""

    def constants(self) -> dict[str, int]:
        """Name of program/constants.py -> value."""
        return {"NETFILTER_DROP": self.netfilter_drop, "CONSUMED": self.consumed}

    def is_drop(self, reason: int) -> bool:
        """Whether a packet with this reason was thrown away."""
        return reason not in self.no_drops

    def ends_badly(self, reason: int) -> bool:
        """Whether a function that frees packets throws one away for this reason, given or not."""
        return reason not in self.done

    def _values(self, words: Collection[str]) -> set[int]:
        return {value for value, word in self._words.items() if word in words}

    def word(self, reason: int) -> str:
        """The enumerator; empty when nobody has one of this value."""
        word = self._words.get(reason, "")
        if not word and reason >> _SUBSYSTEM_SHIFT and self._monotonic() >= self._look_after:
            for enum in self._enums():
                self._add(reasons_of(enum))
            self._look_after = self._monotonic() + _RESCAN_SECONDS
            word = self._words.get(reason, "")
        return word

    def _add(self, words: Mapping[int, str]) -> None:
        for value, word in words.items():
            # mac80211 has each twice, in an enum of its own use with underscores.
            if value >> _SUBSYSTEM_SHIFT and self._words.get(value, "_").startswith("_"):
                self._words[value] = word


def reasons_of(enum: Mapping[str, int]) -> dict[int, str]:
    """Value to word of an enum of drop reasons.

    Args:
        enum: name to value, from BTF, in its order; empty for a kernel without it. That of the core
            begins with SKB_NOT_DROPPED_YET and SKB_CONSUMED, which are no drops, and ends with
            bounds; a bound never hides a reason of the same value.
    """
    words: dict[int, str] = {}
    for name, value in enum.items():
        words.setdefault(value, name)
    return words


def drop_enums(types: BTF) -> Iterator[dict[str, int]]:
    """The enums of drop reasons among ``types``, without those of their base."""
    from pypwru.btf import carriers

    for kind in (Kind.ENUM, Kind.ENUM64):
        for own in carriers.indexes_of(types.blob, kind):
            found = types.type(own + types.blob.first_id)
            if _MARK in found.name:
                yield types.enumerators(found.id)


def _core(btf: BTF) -> dict[str, int]:
    try:
        return btf.enum(ENUM)
    except BTFError:  # before Linux 5.17 nothing carries a reason
        return {}


class _Subsystems:
    """Enums of the kernel and of its modules, each given once."""

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
            # Most modules have none, and their strings say so before anything is parsed.
            if _MARK.encode() in file_content(SYSFS / name):
                yield from drop_enums(load_module(name, self._btf))
        except BTFError:  # unloaded meanwhile, or --kernel-btf is another kernel's
            return
