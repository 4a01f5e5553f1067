"""What would be traced here, or on the kernel whose types were given: as far as can be known."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.backend import Search, choose
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
from pypwru.search import search, selected, tell_missing

if TYPE_CHECKING:
    from pypwru.discovery.names import NameList
    from pypwru.log import Log


class _Outlook(NamedTuple):
    """What is planned, and how sure that is.

    Args:
        plan: of functions or tracepoints.
        backend: None where nothing tells which it would be.
        verdict: on what is planned.
        note: of a Listing.
    """

    plan: AttachPlan
    backend: Backend | None
    verdict: Verdict
    note: str = ""


def collect(config: Config, names: NameList | None, log: Log) -> Listing:
    """What ``config`` would trace, and what of it can't be attached.

    Args:
        names: of --functions; None for everything.
        log: told which backend was chosen, and what of ``names`` is missing.

    Raises:
        PypwruError: nothing is to be listed, the types are malformed, or --functions, --kmods,
            --category, --filter-func have what can't be meant.
    """
    cache = Cache(log=log)
    foreign = _is_foreign(config, cache)
    try:
        wish = search(config, cache, names)
    except NoBTF as error:
        return _without_types(config, names, log, error)
    compile_wanted(
        config, EMPTY, Inner(None, None), Place(0, ""), wish.btf
    )  # it has to be possible
    outlook = _unasked(config, wish, foreign) or _asked(config, wish, cache, log)
    tell_missing(wish, outlook.plan, log)
    found = ordered(entries(outlook.plan, wish.btf, wish.modules, outlook.verdict))
    if not found:
        raise _nothing(wish, outlook.plan)
    kernel = "" if foreign else os.uname().release
    return Listing(found, outlook.backend, kernel, outlook.note)


def _is_foreign(config: Config, cache: Cache) -> bool:
    """Whether --kernel-btf has the types of another kernel than the running one."""
    foreign = config.kernel_btf is not None and is_foreign(config.kernel_btf, cache)
    if foreign and (config.kmods or config.all_kmods):
        raise ListError(
            f"--kernel-btf {config.kernel_btf} is another kernel's, and has no modules of this "
            "machine: leave out --kmods and --all-kmods"
        )
    return foreign


def _unasked(config: Config, wish: Search, foreign: bool) -> _Outlook | None:
    """What is planned where this kernel is not to be asked, or would not answer."""
    lacking = missing_capabilities()
    if foreign:
        note = f"{config.kernel_btf} is not of this kernel, which is not asked what it can attach"
    elif lacking:
        note = f"what can be attached is not known without {', '.join(lacking)}: run it as root"
    else:
        return None
    return _Outlook(_by_types(config.backend, wish), config.backend, UNKNOWN, note)


def _by_types(backend: Backend | None, wish: Search) -> AttachPlan:
    """What the types alone tell."""
    only_tracepoints = backend is None and wish.selection.is_of_tracepoints
    if backend is Backend.TRACEPOINT or only_tracepoints:
        return plan_tracepoints(discover_tracepoints(wish.btf, wish.selection, wish.modules))
    found = discover_functions(wish.btf, wish.modules, None, None, wish.selection)
    return plan_functions(backend or Backend.KPROBE, found)


def _asked(config: Config, wish: Search, cache: Cache, log: Log) -> _Outlook:
    """What this kernel says: the trials of a run."""
    try:
        # Optional: what none of can be attached is what one wants to look at.
        choice = choose(config.backend, wish._replace(optional=True), cache)
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
    """By names alone.

    Raises:
        NoBTF: not even these tell of one.
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
    note = f"{error}: only names of pypwru's tables are listed, and no argument is verified"
    return Listing(found, config.backend, os.uname().release, note)


def _traceable() -> Traceable | None:
    with suppress(KernelError):
        return traceable_functions()
    return None
