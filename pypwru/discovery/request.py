"""Turn a Config into a TraceRequest: the functions to select, and the BTF to find them in."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf.load import load_module, load_vmlinux, module_names
from pypwru.btf.members import has_member
from pypwru.config import Backend, Config
from pypwru.discovery import function_tables
from pypwru.discovery.auxiliary_probes import Tracking
from pypwru.discovery.selection import Selection
from pypwru.discovery.skb_lifetime import CONSUME_TARGETS, OUTCOME_TARGETS
from pypwru.needs import Needs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache
    from pypwru.discovery.function_list import NameList
    from pypwru.discovery.functions import Function
    from pypwru.discovery.plan import AttachPlan
    from pypwru.discovery.tracepoints import Tracepoint
    from pypwru.kernel.kallsyms import Symbols
    from pypwru.log import Log

# Linux commit eedade12f4cb ("net: kfree_skb_list use kmem_cache_free_bulk") (in v6.3): a kernel
# that has this member frees lists of sk_buffs in bulk.
_BULK_FREE_MEMBER = "skb_free_array", "skb_count"


class TraceRequest(NamedTuple):
    """What to trace, and the types to find it in.

    Args:
        btf: of vmlinux.
        modules: module name -> its BTF, of the modules whose functions are traced.
        selection: of functions and tracepoints, by name, category and priority.
        tracking: how packets are tracked beyond the filters.
        may_be_empty: True if finding no function is no error, because BPF programs are traced.
        is_running_kernel: True if ``btf`` is the running kernel's own; False with --kernel-btf.
    """

    btf: BTF
    modules: dict[str, BTF]
    selection: Selection
    tracking: Tracking
    may_be_empty: bool = False
    is_running_kernel: bool = True


def resolve_request(config: Config, cache: Cache, names: NameList | None = None) -> TraceRequest:
    """Load the BTF of vmlinux and of the selected modules, and build the selection.

    Args:
        config: of the run.
        cache: of parsed BTF.
        names: the only functions to trace (--functions); None for no such list.

    Raises:
        BTFError: BTF is missing or malformed.
        UsageError, FilterError: an unknown category, or an invalid pattern.
    """
    selection = make_selection(config)
    btf = load_vmlinux(config.kernel_btf, cache)
    module_list = module_names() if config.all_kmods else config.kmods
    modules = {name: load_module(name, btf) for name in module_list}
    if names is not None:
        from pypwru.discovery.listed_functions import resolve_names

        load = partial(load_module, base=btf)
        modules, only = resolve_names(names, btf, modules, load, module_names())
        selection = selection._replace(only=only)
    # Of all options, and made again once the plan, which follows from them, shows what is lacking.
    needs = Needs.of(config)
    return TraceRequest(
        btf,
        modules,
        selection,
        _make_tracking(config, needs, btf),
        may_be_empty=needs.programs,
        is_running_kernel=config.kernel_btf is None,
    )


def make_selection(config: Config) -> Selection:
    """Return the selection by the flags, without the names of --functions.

    Raises:
        UsageError, FilterError: an unknown category, or an invalid pattern.
    """
    categories = frozenset(config.category)
    return Selection(
        config.filter_func, config.priority, categories, implicit=_outcome_targets(config)
    )


def _outcome_targets(config: Config) -> frozenset[str]:
    """Return the functions that report the outcome of packets, if the run needs it."""
    if config.output_journey:
        journey_functions = (
            name for row in function_tables.load_table("ends") for name in row.names
        )
        return OUTCOME_TARGETS.union(journey_functions)
    # A later consuming function overrides a drop: kfree_skb() only dropped one of several
    # references.
    return OUTCOME_TARGETS | CONSUME_TARGETS if config.drops else frozenset()


def log_implicit(request: TraceRequest, plan: AttachPlan, log: Log) -> None:
    """Log the functions that are traced although no flag selects them.

    Args:
        request: its selection has the flags' criteria.
        plan: what will be attached.
        log: gets one line, if there are any.
    """
    selection = request.selection
    targets: list[Function | Tracepoint] = [*plan.functions, *plan.tracepoints]
    implicit = [
        target.display
        for target in targets
        if not selection.implicit.isdisjoint((target.name, target.display))
        and not selection.matches(target.name, target.display, target.category, target.priority)
    ]
    if implicit:
        log.info("Also tracing the outcome of packets", functions=", ".join(sorted(implicit)))


def log_missing(request: TraceRequest, plan: AttachPlan, log: Log) -> None:
    """Log the names of --functions that are neither planned nor refused, and why.

    Args:
        request: its selection has the names.
        plan: what will be attached.
        log: gets one line for each reason.
    """
    only = request.selection.only
    if only is None:
        return
    from pypwru.discovery.listed_functions import LookupScope, explain_missing

    planned = {target.display for target in plan.functions} | {
        target.display for target in plan.tracepoints
    }
    missing = only.difference(planned, (refused.function.display for refused in plan.unattachable))
    by_tracepoints = plan.backend is Backend.TRACEPOINT
    scope = LookupScope(request.btf, request.modules, by_tracepoints)
    for reason, names in explain_missing(missing, scope).items() if missing else ():
        log.warn("Not traced", functions=", ".join(names), why=reason)


def log_unattachable(request: TraceRequest, plan: AttachPlan, log: Log) -> None:
    """Log the functions of --functions that can't be attached to, and why.

    Args:
        request: its selection has the names.
        plan: what will be attached, and what can't be.
        log: gets one line for each reason.
    """
    reasons: dict[str, list[str]] = {}
    for function, reason in plan.unattachable if request.selection.only is not None else ():
        reasons.setdefault(reason, []).append(function.display)
    for reason, names in reasons.items():
        log.warn("Not traced", functions=", ".join(names), why=reason)


def _make_tracking(config: Config, needs: Needs, btf: BTF) -> Tracking:
    def find_functions(symbols: Symbols) -> Collection[str]:
        from pypwru.discovery.bpf_prog_names import called_kernel_functions

        helpers = called_kernel_functions(symbols) if config.filter_track_bpf_helpers else set()
        return helpers.union(config.filter_non_skb_funcs)

    has_functions = config.filter_track_bpf_helpers or config.filter_non_skb_funcs
    finder: Callable[[Symbols], Collection[str]] | None = find_functions if has_functions else None
    return Tracking(
        needs.tracked_packets,
        needs.tracked_stacks,
        finder,
        needs.map_calls,
        keeps_verdicts=needs.verdicts,
        uses_seen_map=needs.seen_map,
        has_bulk_free=needs.packet_ids and has_member(btf, *_BULK_FREE_MEMBER),
    )
