"""Turn a Config into a Search: the functions to select and the BTF in which to look for them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

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

# Linux commit eedade12f4cb ("net: kfree_skb_list use kmem_cache_free_bulk") (in v6.3): a kernel
# that has this member frees lists of sk_buffs in bulk.
_FREED_IN_BULK = "skb_free_array", "skb_count"


class Search(NamedTuple):
    """What to trace, and the types to find it in.

    Args:
        btf: of vmlinux.
        modules: module name -> its BTF, of the modules whose functions are traced.
        selection: of functions and tracepoints, by name, category and priority.
        tracking: how packets are tracked beyond the filters.
        optional: True if finding no function is no error, because BPF programs are traced.
        running: True if ``btf`` is the running kernel's own; False with --kernel-btf.
    """

    btf: BTF
    modules: dict[str, BTF]
    selection: Selection
    tracking: Tracking
    optional: bool = False
    running: bool = True


def search(config: Config, cache: Cache, names: NameList | None = None) -> Search:
    """Load the BTF of vmlinux and of the selected modules, and build the selection.

    Args:
        config: of the run.
        cache: of parsed BTF.
        names: the only functions to trace (--functions); None for no such list.

    Raises:
        BTFError: BTF is missing or malformed.
        UsageError, FilterError: an unknown category, or an invalid pattern.
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
    """Return the selection by the flags, without the names of --functions.

    Raises:
        UsageError, FilterError: an unknown category, or an invalid pattern.
    """
    categories = frozenset(config.category)
    return Selection(config.filter_func, config.priority, categories, also=_telling(config))


def _telling(config: Config) -> frozenset[str]:
    """Return the functions that report the outcome of packets, if the run needs it."""
    if config.output_journey:
        ends = (name for row in tables.rows("ends") for name in row.words)
        return TELLING.union(ends)
    # A later consuming function overrides a drop: kfree_skb() only dropped one of several
    # references.
    return TELLING | CONSUMING if config.drops else frozenset()


def tell_added(search: Search, plan: AttachPlan, log: Log) -> None:
    """Log the functions that are traced although no flag selects them.

    Args:
        search: its selection has the flags' criteria.
        plan: what will be attached.
        log: gets one line, if there are any.
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
        log.info("Also tracing the outcome of packets", functions=", ".join(sorted(added)))


def tell_missing(search: Search, plan: AttachPlan, log: Log) -> None:
    """Log the names of --functions that are neither planned nor refused, and why.

    Args:
        search: its selection has the names.
        plan: what will be attached.
        log: gets one line for each reason.
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
    """Log the functions of --functions that can't be attached to, and why.

    Args:
        search: its selection has the names.
        plan: what will be attached, and what can't be.
        log: gets one line for each reason.
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
