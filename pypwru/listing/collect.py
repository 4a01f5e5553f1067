"""Build the list of what would be traced on this kernel, or on the kernel of --kernel-btf."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.backend import choose
from pypwru.attach.judges import verdict_functions
from pypwru.btf.load import is_foreign
from pypwru.cache import Cache
from pypwru.config import Backend, Config
from pypwru.discovery.functions import Discovery, discover_functions
from pypwru.discovery.plan import AttachPlan, plan_functions, plan_tracepoints
from pypwru.discovery.tracepoints import discover_tracepoints
from pypwru.discovery.unmatched import no_function, no_tracepoint
from pypwru.errors import KernelError, ListError, NoBTF
from pypwru.filter.compiler import EMPTY
from pypwru.filter.wanted import Inner, compile_wanted
from pypwru.kernel.capabilities import missing_capabilities
from pypwru.kernel.ftrace import Traceable, traceable_functions
from pypwru.kernel.kallsyms import function_names
from pypwru.kernel.place import Place
from pypwru.listing import bare
from pypwru.listing.entry import Listing, ordered
from pypwru.listing.planned import UNKNOWN, YES, Verdict, entries
from pypwru.search import Search, search, selected, tell_missing

if TYPE_CHECKING:
    from pypwru.discovery.names import NameList
    from pypwru.log import Log


class _Outlook(NamedTuple):
    """A plan, and whether what it plans can be attached.

    Args:
        plan: of functions or tracepoints.
        backend: None if it is unknown which one a trace would use.
        verdict: whether the planned functions can be attached.
        note: of the Listing.
    """

    plan: AttachPlan
    backend: Backend | None
    verdict: Verdict
    note: str = ""


def collect(config: Config, names: NameList | None, log: Log) -> Listing:
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
        wish = search(config, cache, names)
    except NoBTF as error:
        return _without_types(config, names, log, error)
    compile_wanted(
        config, EMPTY, Inner(None, None), Place(0, ""), wish.btf
    )  # fail as a trace would, if a filter does not compile
    outlook = _unasked(config, wish, foreign) or _asked(config, wish, cache, log)
    tell_missing(wish, outlook.plan, log)
    found = ordered(entries(outlook.plan, wish.btf, wish.modules, outlook.verdict))
    if not found:
        raise _nothing(wish, outlook.plan)
    kernel = "" if foreign else os.uname().release
    return Listing(found, outlook.backend, kernel, outlook.note)


def _is_foreign(config: Config, cache: Cache) -> bool:
    """Return whether --kernel-btf is of another kernel than the running one.

    Raises:
        ListError: it is, and modules of this machine are selected.
    """
    foreign = config.kernel_btf is not None and is_foreign(config.kernel_btf, cache)
    if foreign and (config.kmods or config.all_kmods):
        raise ListError(
            f"--kernel-btf {config.kernel_btf} is another kernel's, and has no modules of this "
            "machine: leave out --kmods and --all-kmods"
        )
    return foreign


def _unasked(config: Config, wish: Search, foreign: bool) -> _Outlook | None:
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
    return _Outlook(_by_types(config.backend, wish), config.backend, UNKNOWN, note)


def _by_types(backend: Backend | None, wish: Search) -> AttachPlan:
    """Plan by BTF alone."""
    only_tracepoints = backend is None and wish.selection.is_of_tracepoints
    if backend is Backend.TRACEPOINT or only_tracepoints:
        return plan_tracepoints(discover_tracepoints(wish.btf, wish.selection, wish.modules))
    found = discover_functions(wish.btf, wish.modules, None, None, wish.selection)
    return plan_functions(backend or Backend.KPROBE, found)


def _asked(config: Config, wish: Search, cache: Cache, log: Log) -> _Outlook:
    """Plan with the trials that a trace does on this kernel."""
    try:
        # Optional: list functions even if none of them can be attached.
        choice = choose(config.backend, wish._replace(optional=True), cache, verdict_functions)
    except KernelError as error:
        if config.backend is None:
            raise
        verdict = Verdict(False, str(error).partition("; ")[0])
        return _Outlook(_by_types(config.backend, wish), config.backend, verdict, str(error))
    backend = choice.plan.backend
    if choice.why:
        log.info("Chose backend", backend=backend.value)
        log.debug("Chose backend", why=choice.why)
    return _Outlook(choice.plan, backend, YES)


def _nothing(wish: Search, plan: AttachPlan) -> KernelError:
    if plan.backend is Backend.TRACEPOINT:
        return no_tracepoint(wish.selection, wish.btf)
    return no_function(wish.selection, wish.btf, wish.modules, Discovery((), plan.refused))


def _without_types(config: Config, names: NameList | None, log: Log, error: NoBTF) -> Listing:
    """List by names alone.

    Raises:
        NoBTF: no function or tracepoint is found by its name either; this is ``error``.
    """
    selection = selected(config)._replace(only=None if names is None else frozenset(names))
    symbols = function_names()
    if config.backend is Backend.TRACEPOINT or selection.is_of_tracepoints:
        found = ordered(bare.tracepoints(symbols, selection))
    else:
        modules = None if config.all_kmods else config.kmods
        found = ordered(bare.functions(symbols, modules, _traceable(), selection))
    if names is not None and (missing := bare.missing(names, found)):
        log.warn("Not known without BTF", functions=", ".join(missing))
    if not found:
        raise error
    note = f"{error}: only names in pypwru's tables are listed, without checking their arguments"
    return Listing(found, config.backend, os.uname().release, note)


def _traceable() -> Traceable | None:
    with suppress(KernelError):
        return traceable_functions()
    return None
