"""Build the list of what would be traced on this kernel, or on the kernel of --kernel-btf."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.select import select_backend
from pypwru.btf.load import is_other_kernel
from pypwru.cache import Cache
from pypwru.config import Backend, Config
from pypwru.discovery.functions import DiscoveryResult, discover_functions
from pypwru.discovery.no_match import no_function_error, no_tracepoint_error
from pypwru.discovery.plan import AttachPlan, plan_functions, plan_tracepoints
from pypwru.discovery.request import TraceRequest, log_missing, make_selection, resolve_request
from pypwru.discovery.tracepoints import discover_tracepoints
from pypwru.errors import KernelError, ListError, NoBTF
from pypwru.filter.compiler import MATCH_ALL
from pypwru.filter.criteria import ExpressionTexts, InnerFilters, compile_criteria
from pypwru.kernel.capabilities import missing_capabilities
from pypwru.kernel.ftrace import TraceableFunctions, traceable_functions
from pypwru.kernel.kallsyms import function_names
from pypwru.kernel.netns_filter import NetnsFilter
from pypwru.listing import without_btf
from pypwru.listing.entry import Listing, sort_entries
from pypwru.listing.from_plan import ATTACHABLE, UNKNOWN, Attachability, entries
from pypwru.nft.verdict_sources import verdict_functions

if TYPE_CHECKING:
    from pypwru.discovery.function_list import NameList
    from pypwru.log import Log


class _AttachOutcome(NamedTuple):
    """A plan, and whether what it plans can be attached.

    Args:
        plan: of functions or tracepoints.
        backend: None if it is unknown which one a trace would use.
        attachability: whether the planned functions can be attached.
        note: of the Listing.
    """

    plan: AttachPlan
    backend: Backend | None
    attachability: Attachability
    note: str = ""


def build_listing(config: Config, names: NameList | None, log: Log) -> Listing:
    """Return the functions that ``config`` would trace, and those that can't be attached.

    Args:
        config: of the run.
        names: of --functions; None for no such list.
        log: gets the selected backend, and the ``names`` that are missing.

    Raises:
        PypwruError: there is nothing to list, BTF is malformed, or a value of --functions,
            --kmods, --category or --filter-func is invalid.
    """
    cache = Cache(log=log)
    foreign = _is_foreign(config, cache)
    try:
        request = resolve_request(config, cache, names)
    except NoBTF as error:
        return _without_btf(config, names, log, error)
    _check_expressions(config, request)
    outcome = _without_trial(config, request, foreign) or _with_trial(config, request, cache, log)
    log_missing(request, outcome.plan, log)
    found = sort_entries(entries(outcome.plan, request.btf, request.modules, outcome.attachability))
    if not found:
        raise _nothing_found_error(request, outcome.plan)
    kernel = "" if foreign else os.uname().release
    return Listing(found, outcome.backend, kernel, outcome.note)


def _check_expressions(config: Config, request: TraceRequest) -> None:
    """Raise the FilterError or BTFError with which a trace with these expressions would fail."""
    texts = ExpressionTexts(
        config.filter_skb_expr,
        config.filter_xdp_expr,
        config.output_skb_metadata,
        config.output_xdp_metadata,
    )
    inner, place = InnerFilters(None, None), NetnsFilter(0, "")
    compile_criteria(MATCH_ALL, inner, place, config.filter_mark, texts, request.btf)


def _is_foreign(config: Config, cache: Cache) -> bool:
    """Return whether --kernel-btf is of another kernel than the running one.

    Raises:
        ListError: it is, and modules of this machine are selected.
    """
    foreign = config.kernel_btf is not None and is_other_kernel(config.kernel_btf, cache)
    if foreign and (config.kmods or config.all_kmods):
        raise ListError(
            f"--kernel-btf {config.kernel_btf} is another kernel's, and has no modules of this "
            "machine: leave out --kmods and --all-kmods"
        )
    return foreign


def _without_trial(config: Config, request: TraceRequest, foreign: bool) -> _AttachOutcome | None:
    """Plan without trials, if the running kernel is not the subject or capabilities are missing.

    Returns:
        None if trials are possible.
    """
    lacking = missing_capabilities()
    if foreign:
        note = f"{config.kernel_btf} is of another kernel: what can be attached there is unknown"
    elif lacking:
        note = f"what can be attached is unknown without {', '.join(lacking)}: run it as root"
    else:
        return None
    return _AttachOutcome(_plan_by_btf(config.backend, request), config.backend, UNKNOWN, note)


def _plan_by_btf(backend: Backend | None, request: TraceRequest) -> AttachPlan:
    """Plan by BTF alone."""
    only_tracepoints = backend is None and request.selection.has_only_tracepoints
    if backend is Backend.TRACEPOINT or only_tracepoints:
        return plan_tracepoints(
            discover_tracepoints(request.btf, request.selection, request.modules)
        )
    found = discover_functions(request.btf, request.modules, None, None, request.selection)
    return plan_functions(backend or Backend.KPROBE, found)


def _with_trial(config: Config, request: TraceRequest, cache: Cache, log: Log) -> _AttachOutcome:
    """Plan with the trials that a trace does on this kernel."""
    try:
        # Optional: list functions even if none of them can be attached.
        choice = select_backend(
            config.backend, request._replace(may_be_empty=True), cache, verdict_functions
        )
    except KernelError as error:
        if config.backend is None:
            raise
        attachability = Attachability(False, error.cause)
        return _AttachOutcome(
            _plan_by_btf(config.backend, request), config.backend, attachability, str(error)
        )
    backend = choice.plan.backend
    if choice.why:
        log.info("Chose backend", backend=backend.value)
        log.debug("Chose backend", why=choice.why)
    return _AttachOutcome(choice.plan, backend, ATTACHABLE)


def _nothing_found_error(request: TraceRequest, plan: AttachPlan) -> KernelError:
    if plan.backend is Backend.TRACEPOINT:
        return no_tracepoint_error(request.selection, request.btf, request.modules)
    return no_function_error(
        request.selection, request.btf, request.modules, DiscoveryResult((), plan.unattachable)
    )


def _without_btf(config: Config, names: NameList | None, log: Log, error: NoBTF) -> Listing:
    """List by names alone.

    Raises:
        NoBTF: no function or tracepoint is found by its name either; this is ``error``.
    """
    selection = make_selection(config)._replace(only=None if names is None else frozenset(names))
    symbols = function_names()
    if config.backend is Backend.TRACEPOINT or selection.has_only_tracepoints:
        found = sort_entries(without_btf.tracepoints(symbols, selection))
    else:
        modules = None if config.all_kmods else config.kmods
        found = sort_entries(without_btf.functions(symbols, modules, _traceable(), selection))
    if names is not None and (missing := without_btf.missing(names, found)):
        log.warn("Not known without BTF", functions=", ".join(missing))
    if not found:
        raise error
    note = f"{error}: only names in pypwru's tables are listed, without checking their arguments"
    return Listing(found, config.backend, os.uname().release, note)


def _traceable() -> TraceableFunctions | None:
    with suppress(KernelError):
        return traceable_functions()
    return None
