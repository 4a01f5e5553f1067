"""Which backend: the first that this kernel allows, and why not the others."""

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
from pypwru.discovery.others import Tracking, life_probes, stack_probes, verdict_probes
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
    from collections.abc import Sequence

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache
    from pypwru.discovery.fentry import TypeIds
    from pypwru.discovery.functions import Refused
    from pypwru.discovery.known import KnownFunctions
    from pypwru.discovery.others import Probe
    from pypwru.discovery.selection import Selection
    from pypwru.discovery.tracepoints import Tracepoint
    from pypwru.log import Log

# As many as can be waited for: before 7.2 the kernel takes 0.13 s (6.1, 6.12) to let go of each
# function that is traced by fentry, and 0.25 s (5.10) to attach one, on any machine
# (synchronize_rcu_tasks()).
FEW = 8
_BY_TYPE = (Backend.FENTRY_MULTI, Backend.FENTRY)


class Choice(NamedTuple):
    """A backend with what it will attach.

    Args:
        plan: what, and by which backend.
        symbols: of functions that are looked up by name; None for tracepoints, which need none.
        why: for the user; empty when the backend was asked for.
        verdict_hooks: attached once nftables can say something of a packet.
    """

    plan: AttachPlan
    symbols: Symbols | None
    why: str
    verdict_hooks: Groups = MappingProxyType({})

    @property
    def probes(self) -> Backend | None:
        """What hangs kprobes, whatever the backend of the functions; None where nothing can."""
        if self.plan.backend in _BY_TYPE:
            return self.plan.probes.backend if self.plan.probes else None
        return None if self.plan.backend is Backend.TRACEPOINT else self.plan.backend


class Search(NamedTuple):
    """What to trace, and where to look for it.

    Args:
        btf: of vmlinux.
        modules: name -> BTF of the modules whose functions are traced, too.
        selection: of functions.
        tracking: of packets.
        optional: whether finding no function is no failure, since BPF programs are traced.
        running: whether ``btf`` is what the running kernel itself goes by.
    """

    btf: BTF
    modules: dict[str, BTF]
    selection: Selection
    tracking: Tracking
    optional: bool = False
    running: bool = True


def choose(wanted: Backend | None, search: Search, cache: Cache | None = None) -> Choice:
    """Plan for the ``wanted`` backend, or for the first that works.

    Args:
        cache: keeps what is known of the kernel's functions for the next start; None keeps nothing.

    Raises:
        KernelError: the wanted one, or every one, is refused; or nothing matches the selection.
    """
    kernel = _Kernel(search, cache)
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


def _looked_up() -> set[str]:
    """Names of functions that are looked up while a plan is made, or attached."""
    from pypwru.attach.judges import JUDGES
    from pypwru.attach.kprobe import ANCHOR

    displays = set().union(*(judge.symbols for judge in JUDGES))
    return {ANCHOR, *lifetime.NAMES, *(each.partition("[")[0] for each in displays)}


class _Kernel:
    """What the function backends need to know of the running kernel, looked up once.

    Args:
        search: for ``discovery``.
        cache: keeps it.
    """

    def __init__(self, search: Search, cache: Cache | None) -> None:
        self._search = search
        self._answers = Answers(cache, search.btf, search.modules)

    @cached_property
    def _trial(self) -> Sequence[Any]:
        def make() -> Sequence[Any]:
            types = self._search.btf.find(TRIED, Kind.FUNC)
            return self.symbols.addresses(TRIED), types[0] if types else 0

        return self._answers.get("trial", make)

    @property
    def trial_addresses(self) -> tuple[int, ...]:
        """Of the function that backends are tried on."""
        return tuple(self._trial[0])

    @property
    def trial_type(self) -> int:
        """Its BTF type id; 0 where the kernel's BTF has no functions."""
        return int(self._trial[1])

    @cached_property
    def symbols(self) -> Symbols:
        """Of /proc/kallsyms."""
        return read_symbols()

    @cached_property
    def traceable(self) -> Traceable:
        """What ftrace can hook."""
        return traceable_functions()

    @cached_property
    def known(self) -> KnownFunctions:
        """All that take a packet, and those that are looked up by name."""

        def make() -> list[Any]:
            search = self._search
            found = all_functions(search.btf, search.modules, self.traceable, self.symbols)
            return known_functions(found, self.symbols, self.traceable, _looked_up()).packed()

        return unpacked(self._answers.get("functions", make))

    @cached_property
    def discovery(self) -> Discovery:
        """The functions that match."""
        return select(self.known.discovery, self._search.selection)

    def type_ids(self) -> TypeIds:
        """Of every function that fentry can be had on."""

        def make() -> dict[str, int]:
            from pypwru.discovery.fentry import type_ids

            types = {"": self._search.btf, **self._search.modules}
            return type_ids(self.known.discovery.functions, types, self.symbols)

        return self._answers.get("type-ids", make)

    def tracepoints(self) -> tuple[Tracepoint, ...]:
        """Those that match."""

        def make() -> Sequence[Any]:
            from pypwru.discovery.tracepoints import all_tracepoints

            return all_tracepoints(self._search.btf, self._search.modules)

        from pypwru.discovery.tracepoints import Tracepoint
        from pypwru.discovery.tracepoints import select as select_tracepoints

        found = (Tracepoint(*fields) for fields in self._answers.get("tracepoints", make))
        return select_tracepoints(found, self._search.selection)


def _refusal(backend: Backend, search: Search, kernel: _Kernel) -> str:
    """Why the kernel, or what is searched for, rules a backend out; '' if nothing does."""
    if backend is not Backend.TRACEPOINT and search.selection.is_of_tracepoints:
        return "only tracepoints are listed"
    if backend is not Backend.TRACEPOINT and not kernel.trial_type:
        return "the kernel's BTF has types but no functions"
    try:
        require(backend, kernel)
        functions = 0 if backend is Backend.TRACEPOINT else len(kernel.discovery.functions)
    except KernelError as error:
        return str(error).partition("; ")[0]  # the cure is for who insists on it
    return misfit(backend, functions, search.running)


def misfit(backend: Backend, functions: int, running: bool) -> str:
    """Why the automatic choice passes a backend over that the kernel allows; '' if it doesn't.

    Args:
        functions: how many would be traced.
        running: whether the types at hand are those that the running kernel goes by.
    """
    if backend in _BY_TYPE and not running:
        return "it goes by the running kernel's types, not by --kernel-btf"
    if backend is Backend.FENTRY and functions > FEW:
        return f"{functions} functions would be let go one by one, at most {FEW} are"
    return ""


def _plan(backend: Backend, search: Search, kernel: _Kernel, why: str) -> Choice:
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
    if tracking.functions is not None:  # of any name
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
    """The choice for the functions of one module alone, as it is loaded now.

    Args:
        choice: what else is attached, by a backend of functions.

    Raises:
        BTFError: its types can't be had.
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
    """The backend of what fentry can't do; None where the kernel has none.

    Raises:
        KernelError: it has none, and one is needed.
    """
    for backend in (Backend.KPROBE_MULTI, Backend.KPROBE):
        try:
            require(backend, kernel)
        except KernelError as error:
            refusal = error
        else:
            return backend
    if needed:
        raise KernelError(f"packets are followed by kprobes, and {refusal}")
    return None


def _plan_tracepoints(search: Search, kernel: _Kernel, why: str) -> Choice:
    if search.tracking.functions is not None:
        raise KernelError(
            "functions without a packet are traced by kprobes, and the backend is tracepoint; "
            "leave out --filter-non-skb-funcs and --filter-track-bpf-helpers"
        )
    tracepoints = kernel.tracepoints()
    if not tracepoints and not search.optional:
        from pypwru.discovery.unmatched import no_tracepoint

        raise no_tracepoint(search.selection, search.btf)
    return Choice(plan_tracepoints(tracepoints, search.tracking.follows), None, why)


def nft_where_possible(config: Config, choice: Choice, log: Log) -> Config:
    """``config``, without what kprobes are needed for where there are none.

    Raises:
        KernelError: packets are to be chosen by what nftables says.
    """
    if not config.asks_nft or choice.probes:
        return config
    why = "it takes kprobes, which can't be had here"
    if config.filters_nft:
        raise KernelError(f"Can't choose packets by what nftables says: {why}; see --backend")
    tell = log.debug if config.output_nft is Nft.YES else log.warn  # whoever asks in so many words
    tell("Not asking nftables", why=why)
    return config._replace(output_nft=Nft.NO)
