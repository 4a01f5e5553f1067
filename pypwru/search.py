"""What a Config asks to trace, with the types of the kernel in which it is looked for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pypwru.attach.backend import Search
from pypwru.btf.load import load_module, load_vmlinux, module_names
from pypwru.config import Backend, Config
from pypwru.discovery import tables
from pypwru.discovery.lifetime import CONSUMING, TELLING
from pypwru.discovery.others import Tracking
from pypwru.discovery.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache
    from pypwru.discovery.functions import Function
    from pypwru.discovery.names import NameList
    from pypwru.discovery.plan import AttachPlan
    from pypwru.discovery.tracepoints import Tracepoint
    from pypwru.kernel.kallsyms import Symbols
    from pypwru.log import Log

# Since Linux 6.3 (commit eedade12f4cb) lists of sk_buffs are freed so.
_FREED_IN_BULK = "skb_free_array", "skb_count"


def search(config: Config, cache: Cache, names: NameList | None = None) -> Search:
    """Read the types, and note what is wanted.

    Args:
        names: what alone is traced; None for everything.

    Raises:
        BTFError: the types can't be had.
        UsageError, FilterError: there is nothing of such a name, category or pattern.
    """
    selection = selected(config)
    btf = load_vmlinux(config.kernel_btf, cache)
    asked = module_names() if config.all_kmods else config.kmods
    modules = {name: load_module(name, btf) for name in asked}
    if names is not None:
        from pypwru.discovery.listed import locate

        load = partial(load_module, base=btf)
        modules, listed = locate(names, btf, modules, load, module_names())
        selection = selection._replace(only=listed)
    return Search(
        btf,
        modules,
        selection,
        _tracking(config, btf),
        optional=config.filter_trace_tc or config.filter_trace_xdp,
        running=config.kernel_btf is None,
    )


def selected(config: Config) -> Selection:
    """What the flags ask for, but for a list of names.

    Raises:
        UsageError, FilterError: there is no such category or pattern.
    """
    categories = frozenset(config.category)
    return Selection(config.filter_func, config.priority, categories, also=_telling(config))


def _telling(config: Config) -> frozenset[str]:
    """What tells how packets end, where somebody wants to know."""
    if config.output_journey:
        ends = (name for row in tables.rows("ends") for name in row.words)
        return TELLING.union(ends)
    # A drop is taken back by who frees the packet: it was a reference that others had, too.
    return TELLING | CONSUMING if config.drops else frozenset()


def tell_added(search: Search, plan: AttachPlan, log: Log) -> None:
    """Say what is traced without having been asked for.

    Args:
        log: told in one line.
    """
    selection = search.selection
    targets: list[Function | Tracepoint] = [*plan.functions, *plan.tracepoints]
    added = [
        one.display
        for one in targets
        if not selection.also.isdisjoint((one.name, one.display))
        and not selection.asks(one.name, one.display, one.category, one.priority)
    ]
    if added:
        log.info("Traced, too: how packets end", functions=", ".join(sorted(added)))


def tell_missing(search: Search, plan: AttachPlan, log: Log) -> None:
    """Name what is listed by --functions and neither planned nor refused.

    Args:
        log: told, a line for each reason.
    """
    only = search.selection.only
    if only is None:
        return
    from pypwru.discovery.listed import Sought, why_missing

    there = {one.display for one in plan.functions} | {one.display for one in plan.tracepoints}
    missing = only.difference(there, (refused.function.display for refused in plan.refused))
    by_tracepoints = plan.backend is Backend.TRACEPOINT
    sought = Sought(search.btf, search.modules, by_tracepoints)
    for why, names in why_missing(missing, sought).items() if missing else ():
        log.warn("Not traced", functions=", ".join(names), why=why)


def tell_refused(search: Search, plan: AttachPlan, log: Log) -> None:
    """Name what is listed by --functions and can't be traced.

    Args:
        log: told, a line for each reason.
    """
    reasons: dict[str, list[str]] = {}
    for function, why in plan.refused if search.selection.only is not None else ():
        reasons.setdefault(why, []).append(function.display)
    for why, names in reasons.items():
        log.warn("Not traced", functions=", ".join(names), why=why)


def _tracking(config: Config, btf: BTF) -> Tracking:
    def functions(symbols: Symbols) -> Collection[str]:
        from pypwru.kernel.programs import helper_targets

        called = helper_targets(symbols) if config.filter_track_bpf_helpers else set()
        return called.union(config.filter_non_skb_funcs)

    asked = config.filter_track_bpf_helpers or config.filter_non_skb_funcs
    wanted: Callable[[Symbols], Collection[str]] | None = functions if asked else None
    return Tracking(
        config.filter_track_skb,
        config.tracks_stacks,
        wanted,
        config.output_bpfmap,
        by_verdict=config.asks_nft,
        by_sight=config.remembers,
        in_bulk=config.identifies and btf.has_member(*_FREED_IN_BULK),
    )
