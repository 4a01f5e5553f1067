"""Facts about the running kernel's functions, the same for all requests; cached until reboot.

They depend on BTF, on the functions that ftrace can hook and on addresses; reading all of these is
most of a cold start. The cache key covers what they depend on, so that a warm start reads neither
BTF nor /proc/kallsyms nor available_filter_functions.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pypwru.cache import package_digest
from pypwru.discovery.functions import DiscoveryResult, Function, Unattachable
from pypwru.kernel.build_id import addresses_identity
from pypwru.kernel.ftrace import TraceableFunctions
from pypwru.kernel.kallsyms import Symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache

Fact = TypeVar("Fact")
# Packages and tables that determine the facts: a change in them invalidates the cache.
_CODE_FOLDERS = ("attach", "btf", "data", "discovery", "kernel", "nft", "regexp")


class FunctionFacts(NamedTuple):
    """The facts that a plan is made of.

    Args:
        discovery: every function that takes an sk_buff.
        symbols: kallsyms of the functions that are looked up by name.
        traceable: which of those ftrace can hook.
    """

    discovery: DiscoveryResult
    symbols: Symbols
    traceable: TraceableFunctions

    def to_json(self) -> list[Any]:
        """Return the facts as a JSON value."""
        return [
            self.discovery.functions,
            self.discovery.unattachable,
            self.symbols.displays,
            self.symbols.values.tolist(),
            self.traceable.lines,
        ]


def function_facts_from_json(value: list[Any]) -> FunctionFacts:
    """Return the facts from the JSON value of ``to_json``."""
    functions, unattachable, displays, values, lines = value
    return FunctionFacts(
        DiscoveryResult(
            tuple(map(_function_from_json, functions)),
            tuple(
                Unattachable(_function_from_json(function), why) for function, why in unattachable
            ),
        ),
        Symbols(displays, array("Q", values)),
        TraceableFunctions(lines),
    )


def _function_from_json(fields: list[Any]) -> Function:
    name, module, skb_arg, reason_arg, addresses, *rest = fields
    return Function(name, module, skb_arg, reason_arg, tuple(addresses), *rest)


def make_function_facts(
    discovery: DiscoveryResult,
    symbols: Symbols,
    traceable: TraceableFunctions,
    names: Collection[str],
) -> FunctionFacts:
    """Return the facts to keep from everything that was read.

    Args:
        discovery: every function that takes an sk_buff.
        symbols: all of kallsyms.
        traceable: all functions that ftrace can hook.
        names: of the functions that are looked up by name.
    """
    return FunctionFacts(discovery, symbols.with_names(names), traceable.with_names(names))


class FactCache:
    """A cache of facts that hold for this boot, its modules, and this process's privileges.

    Args:
        cache: the store; None computes each fact.
        btf: of vmlinux.
        modules: names of the modules whose functions are traced.
    """

    def __init__(self, cache: Cache | None, btf: BTF, modules: Iterable[str]) -> None:
        self._cache = cache
        addresses = addresses_identity() if cache else None
        if addresses is None:
            self._cache = None
        else:
            self._key = package_digest(_CODE_FOLDERS, addresses, btf.identity, *sorted(modules))

    def get(self, name: str, make: Callable[[], Fact]) -> Fact:
        """Return the fact called ``name``, computed by ``make`` if it isn't cached.

        Args:
            name: unique among the facts.
            make: returns a JSON value; an error is raised and not cached.
        """
        return self._cache.get_or_make(f"{name}-{self._key}", make) if self._cache else make()
