"""What is known of the functions of a running kernel, whatever a run asks for; kept for a boot.

It depends on the types, on what ftrace can hook and on addresses: reading all of them takes most of
a cold start. A key of what they depend on finds the answers again, so that a warm start reads
neither BTF nor /proc/kallsyms nor available_filter_functions.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pypwru.cache import package_digest
from pypwru.discovery.functions import Discovery, Function, Refused
from pypwru.kernel.ftrace import Traceable
from pypwru.kernel.identity import addresses_identity
from pypwru.kernel.kallsyms import Symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache

Answer = TypeVar("Answer")
# A change of this code, or of these tables, makes kept answers stale.
_CODE = ("attach", "btf", "data", "discovery", "kernel")


class KnownFunctions(NamedTuple):
    """What a plan is made of.

    Args:
        discovery: every function that takes a packet.
        symbols: of the functions that are looked up by name.
        traceable: which of these ftrace can hook.
    """

    discovery: Discovery
    symbols: Symbols
    traceable: Traceable

    def packed(self) -> list[Any]:
        """As JSON can hold it."""
        return [
            self.discovery.functions,
            self.discovery.refused,
            self.symbols.displays,
            self.symbols.values.tolist(),
            self.traceable.lines,
        ]


def unpacked(kept: list[Any]) -> KnownFunctions:
    """What ``packed`` made."""
    functions, refused, displays, values, lines = kept
    return KnownFunctions(
        Discovery(
            tuple(map(_function, functions)),
            tuple(Refused(_function(function), why) for function, why in refused),
        ),
        Symbols(displays, array("Q", values)),
        Traceable(lines),
    )


def _function(fields: list[Any]) -> Function:
    name, module, position, reason, addresses, *rest = fields
    return Function(name, module, position, reason, tuple(addresses), *rest)


def known_functions(
    discovery: Discovery, symbols: Symbols, traceable: Traceable, names: Collection[str]
) -> KnownFunctions:
    """What is kept of all that was read.

    Args:
        names: of the functions that are looked up by name.
    """
    return KnownFunctions(discovery, symbols.named(names), traceable.named(names))


class Answers:
    """Answers that hold for this boot, its modules, and this process's rights.

    Args:
        cache: keeps them; None has each worked out.
        btf: of vmlinux.
        modules: names of those whose functions are traced.
    """

    def __init__(self, cache: Cache | None, btf: BTF, modules: Iterable[str]) -> None:
        self._cache = cache
        addresses = addresses_identity() if cache else None
        if addresses is None:
            self._cache = None
        else:
            self._key = package_digest(_CODE, addresses, btf.identity, *sorted(modules))

    def get(self, name: str, make: Callable[[], Answer]) -> Answer:
        """The answer called ``name``, made if it isn't kept; JSON must be able to hold it.

        Raises:
            PypwruError: as ``make``; that is not kept.
        """
        return self._cache.remembered(f"{name}-{self._key}", make) if self._cache else make()
