"""Select the backend: the first that this kernel supports, with the reasons against the others."""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.attach.support import (
    TRIAL_FUNCTION,
    TRIAL_TRACEPOINT_TYPE,
    check_supported,
)
from pypwru.btf.types import Kind
from pypwru.config import Backend, Config, NftOutput
from pypwru.discovery import skb_lifetime
from pypwru.discovery.auxiliary_probes import (
    lifetime_probes,
    nested_call_probes,
    verdict_lifetime_probes,
)
from pypwru.discovery.cached_functions import (
    FactCache,
    function_facts_from_json,
    make_function_facts,
)
from pypwru.discovery.functions import DiscoveryResult, find_all_functions, select
from pypwru.discovery.plan import (
    AttachPlan,
    Groups,
    group_by_handler,
    plan_fentry,
    plan_functions,
    plan_tracepoints,
)
from pypwru.errors import KernelError
from pypwru.kernel.ftrace import TraceableFunctions, traceable_functions
from pypwru.kernel.kallsyms import Symbols, read_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pypwru.attach.support import TrialTarget
    from pypwru.cache import Cache
    from pypwru.discovery.auxiliary_probes import Probe
    from pypwru.discovery.cached_functions import FunctionFacts
    from pypwru.discovery.fentry_targets import TypeIds
    from pypwru.discovery.functions import Unattachable
    from pypwru.discovery.request import TraceRequest
    from pypwru.discovery.tracepoints import Tracepoint
    from pypwru.log import Log

NO_KPROBES = "it needs kprobes, which are not available"
"""Why a run, or a kernel, has no verdicts."""
# An acceptable delay: before Linux 7.2 each function takes 0.13 s to detach from fentry (6.1, 6.12)
# or 0.25 s to attach to it (5.10), on any machine (synchronize_rcu_tasks()).
MAX_SINGLE_FENTRY = 8
_FENTRY_BACKENDS = (Backend.FENTRY_MULTI, Backend.FENTRY)


class BackendPlan(NamedTuple):
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
    def kprobe_backend(self) -> Backend | None:
        """The backend that attaches kprobes in this run; None if kprobes are unavailable."""
        if self.plan.backend in _FENTRY_BACKENDS:
            return self.plan.kprobe_plan.backend if self.plan.kprobe_plan else None
        return None if self.plan.backend is Backend.TRACEPOINT else self.plan.backend


def select_backend(
    requested: Backend | None,
    request: TraceRequest,
    cache: Cache | None = None,
    verdict_functions: Callable[[], Collection[str]] = frozenset,
) -> BackendPlan:
    """Return the plan of the requested backend, or of the first that this kernel supports.

    Args:
        requested: of --backend; None selects in the order of ``Backend``.
        request: what to trace.
        cache: keeps the list of traceable functions for the next start; None keeps nothing.
        verdict_functions: names of the functions that netfilter verdicts are hooked by; the same
            in every call with one cache, which keeps their addresses, too.

    Raises:
        KernelError: the kernel refuses the requested backend, or kprobes that the request needs; or
        nothing matches the selection.
    """
    kernel = KernelFacts(request, cache, verdict_functions)
    if requested is not None:
        check_supported(requested, kernel)
        return _plan(requested, request, kernel, "")
    refusals: list[str] = []
    for backend in Backend:
        reason = _why_excluded(backend, request, kernel)
        if reason:
            refusals.append(f"no {backend.value}: {reason}")
        else:
            why = "; ".join(refusals) or "the fastest, and this kernel has it"
            try:
                return _plan(backend, request, kernel, why)
            except KernelError as error:
                raise _with_backend(error, backend, why) from error
    raise AssertionError("tracepoint, the last one, is never refused")


def _with_backend(error: KernelError, backend: Backend, why: str) -> KernelError:
    """Return ``error`` with the selected backend, and the reason for it, at the end."""
    backend_note = f" (backend {backend.value}: {why})"
    if error.cure:
        return KernelError(error.cause, error.cure + backend_note)
    return KernelError(error.cause + backend_note)


def _named_symbols(verdict_functions: Collection[str]) -> set[str]:
    """Return the names of all functions that are looked up to plan or to attach."""
    from pypwru.attach.kprobe import ANCHOR_SYMBOL

    return {ANCHOR_SYMBOL, *skb_lifetime.HOOKED_FUNCTIONS, *verdict_functions}


class KernelFacts:
    """Facts of the running kernel that the function backends need, each read once.

    Args:
        request: its types and its selection.
        cache: keeps the facts for the next start.
        verdict_functions: as in ``select_backend``.
    """

    def __init__(
        self,
        request: TraceRequest,
        cache: Cache | None,
        verdict_functions: Callable[[], Collection[str]],
    ) -> None:
        self._request = request
        self._verdict_functions = verdict_functions
        self._facts = FactCache(cache, request.btf, request.modules)

    @cached_property
    def _trial(self) -> Sequence[Any]:
        def make() -> Sequence[Any]:
            types = self._request.btf.find(TRIAL_FUNCTION, Kind.FUNC)
            return self.symbols.addresses(TRIAL_FUNCTION), types[0] if types else 0

        return self._facts.get("trial", make)

    @property
    def trial_addresses(self) -> tuple[int, ...]:
        """Addresses of TRIAL_FUNCTION."""
        return tuple(self._trial[0])

    @property
    def trial_type(self) -> int:
        """BTF type id of TRIAL_FUNCTION; 0 where the kernel's BTF has no functions."""
        return int(self._trial[1])

    @property
    def has_tracepoint_types(self) -> bool:
        """Whether BTF has the types by which raw tracepoints are found."""
        return bool(self._request.btf.find(TRIAL_TRACEPOINT_TYPE, Kind.TYPEDEF))

    @cached_property
    def symbols(self) -> Symbols:
        """All of /proc/kallsyms."""
        return read_symbols()

    @cached_property
    def traceable(self) -> TraceableFunctions:
        """The functions that ftrace can hook."""
        return traceable_functions()

    @cached_property
    def function_facts(self) -> FunctionFacts:
        """All functions that take an sk_buff, and the symbols that are looked up by name."""

        def make() -> list[Any]:
            request = self._request
            found = find_all_functions(request.btf, request.modules, self.traceable, self.symbols)
            return make_function_facts(
                found, self.symbols, self.traceable, _named_symbols(self._verdict_functions())
            ).to_json()

        return function_facts_from_json(self._facts.get("functions", make))

    @cached_property
    def discovery(self) -> DiscoveryResult:
        """The functions that match the selection."""
        return select(self.function_facts.discovery, self._request.selection)

    def type_ids(self) -> TypeIds:
        """Return display name -> BTF type id, of every function that fentry can attach to."""

        def make() -> dict[str, int]:
            from pypwru.discovery.fentry_targets import type_ids

            types = {"": self._request.btf, **self._request.modules}
            return type_ids(self.function_facts.discovery.functions, types, self.symbols)

        return self._facts.get("type-ids", make)

    def tracepoints(self) -> tuple[Tracepoint, ...]:
        """Return the tracepoints that match the selection."""

        def make() -> Sequence[Any]:
            from pypwru.discovery.tracepoints import find_all_tracepoints

            return find_all_tracepoints(self._request.btf, self._request.modules)

        from pypwru.discovery.tracepoints import Tracepoint
        from pypwru.discovery.tracepoints import select as select_tracepoints

        found = (Tracepoint(*fields) for fields in self._facts.get("tracepoints", make))
        return select_tracepoints(found, self._request.selection)


def _why_excluded(backend: Backend, request: TraceRequest, kernel: KernelFacts) -> str:
    """Return why the kernel or the request rules a backend out; '' if nothing does."""
    if backend is not Backend.TRACEPOINT and request.selection.has_only_tracepoints:
        return "--functions lists only tracepoints"
    if backend is not Backend.TRACEPOINT and not kernel.trial_type:
        return "the kernel's BTF has types but no functions"
    try:
        check_supported(backend, kernel)
        functions = 0 if backend is Backend.TRACEPOINT else len(kernel.discovery.functions)
    except KernelError as error:
        return error.cause  # the cure is for --backend
    return why_not_preferred(backend, functions, request.is_running_kernel)


def why_not_preferred(backend: Backend, functions: int, is_running_kernel: bool) -> str:
    """Return why automatic selection skips a backend that the kernel supports; '' if it doesn't.

    Args:
        backend: the candidate.
        functions: number of functions to trace.
        is_running_kernel: whether the BTF at hand is the running kernel's own.
    """
    if backend in _FENTRY_BACKENDS and not is_running_kernel:
        return "it uses the running kernel's BTF, not --kernel-btf"
    if backend is Backend.FENTRY and functions > MAX_SINGLE_FENTRY:
        slow = f"which is slow for over {MAX_SINGLE_FENTRY}"
        return f"{functions} functions would be detached one by one, {slow}"
    return ""


def _plan(backend: Backend, request: TraceRequest, kernel: KernelFacts, why: str) -> BackendPlan:
    """Return the plan of a backend that the kernel supports.

    Args:
        backend: to plan for.
        request: what to trace.
        kernel: facts of the running kernel.
        why: the reason for this backend, for the log.

    Raises:
        KernelError: nothing matches the selection, or kprobes are needed and unavailable.
    """
    if backend is Backend.TRACEPOINT:
        return _plan_tracepoints(request, kernel, why)
    tracking, discovery = request.tracking, kernel.discovery
    if not discovery.functions and not request.may_be_empty:
        from pypwru.discovery.no_match import no_function_error

        raise no_function_error(request.selection, request.btf, request.modules, discovery)
    names = {function.name for function in discovery.functions}
    _, symbols, traceable = kernel.function_facts
    nested_calls: Sequence[Probe] = ()
    unattachable: Sequence[Unattachable] = ()
    if tracking.nested_functions is not None:  # of any name, so all symbols are read
        nested_calls, unattachable = nested_call_probes(
            tracking, request.btf, kernel.traceable, kernel.symbols, names
        )
    lifetime_hooks = lifetime_probes(tracking, traceable, symbols, names)
    verdict_hooks = verdict_lifetime_probes(tracking, traceable, symbols, names)
    discovery = discovery._replace(unattachable=(*discovery.unattachable, *unattachable))
    plan = plan_functions(
        backend, discovery, nested_calls, lifetime_hooks, tracking.tracks_lifetime
    )
    if backend in _FENTRY_BACKENDS:
        type_ids = kernel.type_ids()
        displays = (function.display for function in discovery.functions)
        ids = {display: type_ids[display] for display in displays if display in type_ids}
        plan = plan_fentry(
            plan, ids, find_kprobe_backend(kernel, bool(nested_calls or lifetime_hooks))
        )
    return BackendPlan(plan, symbols, why, group_by_handler(verdict_hooks))


def plan_module(module: str, choice: BackendPlan, request: TraceRequest) -> BackendPlan:
    """Plan the functions of a single module, as it is loaded now.

    Args:
        module: its name.
        choice: how the other functions are attached; not by tracepoints.
        request: what to trace.

    Raises:
        BTFError: the module's types can't be read.
        KernelError: symbols, or the functions that ftrace can hook, can't be read.
    """
    from pypwru.btf.load import load_module
    from pypwru.discovery.functions import find_module_functions

    types, symbols = load_module(module, request.btf), read_symbols()
    found = find_module_functions({module: types}, traceable_functions(), symbols)
    discovery = select(found, request.selection)
    plan = plan_functions(
        choice.plan.backend, discovery, tracks_lifetime=request.tracking.tracks_lifetime
    )
    if plan.backend in _FENTRY_BACKENDS:
        from pypwru.discovery.fentry_targets import type_ids

        ids = type_ids(discovery.functions, {module: types}, symbols)
        plan = plan_fentry(plan, ids, choice.kprobe_backend)
    return BackendPlan(plan, symbols, choice.why)


def find_kprobe_backend(kernel: TrialTarget, needed: bool) -> Backend | None:
    """Return the backend for what fentry can't do; None if the kernel has none.

    Args:
        kernel: facts of the running kernel.
        needed: whether the plan contains probes that only kprobes can be.

    Raises:
        KernelError: kprobes are needed, and unavailable.
    """
    for backend in (Backend.KPROBE_MULTI, Backend.KPROBE):
        try:
            check_supported(backend, kernel)
        except KernelError as error:
            refusal = error
        else:
            return backend
    if needed:
        raise KernelError(f"tracking packets needs kprobes, and {refusal.cause}", refusal.cure)
    return None


def _plan_tracepoints(request: TraceRequest, kernel: KernelFacts, why: str) -> BackendPlan:
    if request.tracking.nested_functions is not None:
        raise KernelError(
            "functions without an sk_buff argument need kprobes, and the backend is tracepoint",
            "omit --filter-non-skb-funcs and --filter-track-bpf-helpers",
        )
    tracepoints = kernel.tracepoints()
    if not tracepoints and not request.may_be_empty:
        from pypwru.discovery.no_match import no_tracepoint_error

        raise no_tracepoint_error(request.selection, request.btf, request.modules)
    return BackendPlan(plan_tracepoints(tracepoints, request.tracking.tracks_lifetime), None, why)


def disable_nft_without_kprobes(config: Config, choice: BackendPlan, log: Log) -> Config:
    """Return ``config``, without --output-nft where there are no kprobes for it, and log that.

    Args:
        config: of the run.
        choice: the selected backend.
        log: gets a warning, or a debug line if --output-nft is only the default.

    Raises:
        KernelError: --filter-nft-* needs the nftables events.
    """
    if not config.traces_nft or choice.kprobe_backend:
        return config
    if config.has_nft_filter:
        raise KernelError(
            f"Can't filter by nftables verdict or rule: {NO_KPROBES}", "see --backend"
        )
    log_line = (
        log.debug if config.output_nft is NftOutput.YES else log.warn
    )  # YES is also the default
    log_line("Not tracing nftables verdicts", why=NO_KPROBES)
    return config._replace(output_nft=NftOutput.NO)
