"""Select the backend: the first that this kernel supports, with the reasons against the others."""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.attach.allowed import TRIED, require
from pypwru.btf.types import Kind
from pypwru.config import Backend, Config, Nft
from pypwru.discovery import lifetime
from pypwru.discovery.functions import Discovery, all_functions, select
from pypwru.discovery.known import Answers, known_functions, unpacked
from pypwru.discovery.others import life_probes, stack_probes, verdict_probes
from pypwru.discovery.plan import (
    AttachPlan,
    Groups,
    grouped,
    plan_fentry,
    plan_functions,
    plan_tracepoints,
)
from pypwru.errors import KernelError
from pypwru.kernel.ftrace import Traceable, traceable_functions
from pypwru.kernel.kallsyms import Symbols, read_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pypwru.cache import Cache
    from pypwru.discovery.fentry import TypeIds
    from pypwru.discovery.functions import Refused
    from pypwru.discovery.known import KnownFunctions
    from pypwru.discovery.others import Probe
    from pypwru.discovery.tracepoints import Tracepoint
    from pypwru.log import Log
    from pypwru.search import Search

# An acceptable delay: before Linux 7.2 each function takes 0.13 s to detach from fentry (6.1, 6.12)
# or 0.25 s to attach to it (5.10), on any machine (synchronize_rcu_tasks()).
FEW = 8
_BY_TYPE = (Backend.FENTRY_MULTI, Backend.FENTRY)


class Choice(NamedTuple):
    """The selected backend and what it will attach.

    Args:
        plan: the backend, and the functions or tracepoints to attach.
        symbols: kallsyms of the functions that are looked up by name; None for the tracepoint
            backend, which needs none.
        why: the reason for this backend, for the log; '' when --backend names it.
        verdict_hooks: skb lifetime hooks that are attached with the first verdict source.
    """

    plan: AttachPlan
    symbols: Symbols | None
    why: str
    verdict_hooks: Groups = MappingProxyType({})

    @property
    def probes(self) -> Backend | None:
        """The backend that attaches kprobes in this run; None if kprobes are unavailable."""
        if self.plan.backend in _BY_TYPE:
            return self.plan.probes.backend if self.plan.probes else None
        return None if self.plan.backend is Backend.TRACEPOINT else self.plan.backend


def choose(
    wanted: Backend | None,
    search: Search,
    cache: Cache | None = None,
    verdict_functions: Callable[[], Collection[str]] = frozenset,
) -> Choice:
    """Return the plan of the requested backend, or of the first that this kernel supports.

    Args:
        wanted: of --backend; None selects in the order of ``Backend``.
        search: what to trace.
        cache: keeps the list of traceable functions for the next start; None keeps nothing.
        verdict_functions: names of the functions that netfilter verdicts are hooked by; the same
            in every call with one cache, which keeps their addresses, too.

    Raises:
        KernelError: the kernel refuses the requested backend, or kprobes that the request needs; or
        nothing matches the selection.
    """
    kernel = _Kernel(search, cache, verdict_functions)
    if wanted is not None:
        require(wanted, kernel)
        return _plan(wanted, search, kernel, "")
    refusals: list[str] = []
    for backend in Backend:
        cause = _refusal(backend, search, kernel)
        if cause:
            refusals.append(f"no {backend.value}: {cause}")
        else:
            why = "; ".join(refusals) or "the fastest, and this kernel has it"
            try:
                return _plan(backend, search, kernel, why)
            except KernelError as error:
                raise KernelError(f"{error} (backend {backend.value}: {why})") from error
    raise AssertionError("tracepoint, the last one, is never refused")


def _looked_up(verdict_functions: Collection[str]) -> set[str]:
    """Return the names of all functions that are looked up to plan or to attach."""
    from pypwru.attach.kprobe import ANCHOR

    return {ANCHOR, *lifetime.NAMES, *verdict_functions}


class _Kernel:
    """Facts of the running kernel that the function backends need, each read once.

    Args:
        search: its types and its selection.
        cache: keeps the facts for the next start.
        verdict_functions: as in ``choose``.
    """

    def __init__(
        self, search: Search, cache: Cache | None, verdict_functions: Callable[[], Collection[str]]
    ) -> None:
        self._search = search
        self._verdict_functions = verdict_functions
        self._answers = Answers(cache, search.btf, search.modules)

    @cached_property
    def _trial(self) -> Sequence[Any]:
        def make() -> Sequence[Any]:
            types = self._search.btf.find(TRIED, Kind.FUNC)
            return self.symbols.addresses(TRIED), types[0] if types else 0

        return self._answers.get("trial", make)

    @property
    def trial_addresses(self) -> tuple[int, ...]:
        """Addresses of TRIED."""
        return tuple(self._trial[0])

    @property
    def trial_type(self) -> int:
        """BTF type id of TRIED; 0 where the kernel's BTF has no functions."""
        return int(self._trial[1])

    @cached_property
    def symbols(self) -> Symbols:
        """All of /proc/kallsyms."""
        return read_symbols()

    @cached_property
    def traceable(self) -> Traceable:
        """The functions that ftrace can hook."""
        return traceable_functions()

    @cached_property
    def known(self) -> KnownFunctions:
        """All functions that take an sk_buff, and the symbols that are looked up by name."""

        def make() -> list[Any]:
            search = self._search
            found = all_functions(search.btf, search.modules, self.traceable, self.symbols)
            return known_functions(
                found, self.symbols, self.traceable, _looked_up(self._verdict_functions())
            ).packed()

        return unpacked(self._answers.get("functions", make))

    @cached_property
    def discovery(self) -> Discovery:
        """The functions that match the selection."""
        return select(self.known.discovery, self._search.selection)

    def type_ids(self) -> TypeIds:
        """Return display name -> BTF type id, of every function that fentry can attach to."""

        def make() -> dict[str, int]:
            from pypwru.discovery.fentry import type_ids

            types = {"": self._search.btf, **self._search.modules}
            return type_ids(self.known.discovery.functions, types, self.symbols)

        return self._answers.get("type-ids", make)

    def tracepoints(self) -> tuple[Tracepoint, ...]:
        """Return the tracepoints that match the selection."""

        def make() -> Sequence[Any]:
            from pypwru.discovery.tracepoints import all_tracepoints

            return all_tracepoints(self._search.btf, self._search.modules)

        from pypwru.discovery.tracepoints import Tracepoint
        from pypwru.discovery.tracepoints import select as select_tracepoints

        found = (Tracepoint(*fields) for fields in self._answers.get("tracepoints", make))
        return select_tracepoints(found, self._search.selection)


def _refusal(backend: Backend, search: Search, kernel: _Kernel) -> str:
    """Return why the kernel or the request rules a backend out; '' if nothing does."""
    if backend is not Backend.TRACEPOINT and search.selection.is_of_tracepoints:
        return "--functions lists only tracepoints"
    if backend is not Backend.TRACEPOINT and not kernel.trial_type:
        return "the kernel's BTF has types but no functions"
    try:
        require(backend, kernel)
        functions = 0 if backend is Backend.TRACEPOINT else len(kernel.discovery.functions)
    except KernelError as error:
        return str(error).partition("; ")[0]  # without the advice, which is for --backend
    return misfit(backend, functions, search.running)


def misfit(backend: Backend, functions: int, running: bool) -> str:
    """Return why automatic selection skips a backend that the kernel supports; '' if it doesn't.

    Args:
        backend: the candidate.
        functions: number of functions to trace.
        running: whether the BTF at hand is the running kernel's own.
    """
    if backend in _BY_TYPE and not running:
        return "it uses the running kernel's BTF, not --kernel-btf"
    if backend is Backend.FENTRY and functions > FEW:
        return f"{functions} functions would be detached one by one, which is slow for over {FEW}"
    return ""


def _plan(backend: Backend, search: Search, kernel: _Kernel, why: str) -> Choice:
    """Return the plan of a backend that the kernel supports.

    Args:
        backend: to plan for.
        search: what to trace.
        kernel: facts of the running kernel.
        why: the reason for this backend, for the log.

    Raises:
        KernelError: nothing matches the selection, or kprobes are needed and unavailable.
    """
    if backend is Backend.TRACEPOINT:
        return _plan_tracepoints(search, kernel, why)
    tracking, discovery = search.tracking, kernel.discovery
    if not discovery.functions and not search.optional:
        from pypwru.discovery.unmatched import no_function

        raise no_function(search.selection, search.btf, search.modules, discovery)
    names = {function.name for function in discovery.functions}
    _, symbols, traceable = kernel.known
    others: Sequence[Probe] = ()
    refused: Sequence[Refused] = ()
    if tracking.functions is not None:  # of any name, so all symbols are read
        others, refused = stack_probes(
            tracking, search.btf, kernel.traceable, kernel.symbols, names
        )
    hooks = life_probes(tracking, traceable, symbols, names)
    verdict_hooks = verdict_probes(tracking, traceable, symbols, names)
    discovery = discovery._replace(refused=(*discovery.refused, *refused))
    plan = plan_functions(backend, discovery, others, hooks, tracking.follows)
    if backend in _BY_TYPE:
        known = kernel.type_ids()
        there = (function.display for function in discovery.functions)
        ids = {display: known[display] for display in there if display in known}
        plan = plan_fentry(plan, ids, _probes(kernel, bool(others or hooks)))
    return Choice(plan, symbols, why, grouped(verdict_hooks))


def plan_module(module: str, choice: Choice, search: Search) -> Choice:
    """Plan the functions of a single module, as it is loaded now.

    Args:
        module: its name.
        choice: how the other functions are attached; not by tracepoints.
        search: what to trace.

    Raises:
        BTFError: the module's types can't be read.
        KernelError: symbols, or the functions that ftrace can hook, can't be read.
    """
    from pypwru.btf.load import load_module
    from pypwru.discovery.functions import functions_of

    types, symbols = load_module(module, search.btf), read_symbols()
    found = functions_of({module: types}, traceable_functions(), symbols)
    discovery = select(found, search.selection)
    plan = plan_functions(choice.plan.backend, discovery, follows=search.tracking.follows)
    if plan.backend in _BY_TYPE:
        from pypwru.discovery.fentry import type_ids

        ids = type_ids(discovery.functions, {module: types}, symbols)
        plan = plan_fentry(plan, ids, choice.probes)
    return Choice(plan, symbols, choice.why)


def _probes(kernel: _Kernel, needed: bool) -> Backend | None:
    """Return the backend for what fentry can't do; None if the kernel has none.

    Args:
        kernel: facts of the running kernel.
        needed: whether the plan contains probes that only kprobes can be.

    Raises:
        KernelError: kprobes are needed, and unavailable.
    """
    for backend in (Backend.KPROBE_MULTI, Backend.KPROBE):
        try:
            require(backend, kernel)
        except KernelError as error:
            refusal = error
        else:
            return backend
    if needed:
        raise KernelError(f"tracking packets needs kprobes, and {refusal}")
    return None


def _plan_tracepoints(search: Search, kernel: _Kernel, why: str) -> Choice:
    if search.tracking.functions is not None:
        raise KernelError(
            "functions without an sk_buff argument need kprobes, and the backend is tracepoint; "
            "omit --filter-non-skb-funcs and --filter-track-bpf-helpers"
        )
    tracepoints = kernel.tracepoints()
    if not tracepoints and not search.optional:
        from pypwru.discovery.unmatched import no_tracepoint

        raise no_tracepoint(search.selection, search.btf)
    return Choice(plan_tracepoints(tracepoints, search.tracking.follows), None, why)


def nft_where_possible(config: Config, choice: Choice, log: Log) -> Config:
    """Return ``config``, without --output-nft where there are no kprobes for it, and log that.

    Args:
        config: of the run.
        choice: the selected backend.
        log: gets a warning, or a debug line if --output-nft is only the default.

    Raises:
        KernelError: --filter-nft-* needs the nftables events.
    """
    if not config.asks_nft or choice.probes:
        return config
    why = "it needs kprobes, which are not available"
    if config.filters_nft:
        raise KernelError(f"Can't filter by nftables verdict or rule: {why}; see --backend")
    tell = log.debug if config.output_nft is Nft.YES else log.warn  # YES is also the default
    tell("Not tracing nftables verdicts", why=why)
    return config._replace(output_nft=Nft.NO)
