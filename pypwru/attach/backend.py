"""Which backend: the first that this kernel allows, and why not the others."""

from __future__ import annotations

import os
from typing import NamedTuple

from pypwru.btf.query import BTF
from pypwru.config import Backend
from pypwru.discovery.functions import discover_functions
from pypwru.discovery.others import Tracking, life_probes, stack_probes
from pypwru.discovery.plan import AttachPlan, plan_functions, plan_tracepoints
from pypwru.discovery.selection import Selection
from pypwru.discovery.tracepoints import discover_tracepoints
from pypwru.discovery.unmatched import no_function, no_tracepoint
from pypwru.errors import KernelError
from pypwru.filter.ebpf import ALU64, EXIT_PROGRAM, MOV, R0, Insn, pack
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachType, ProgramType
from pypwru.kernel.descriptors import owned
from pypwru.kernel.ftrace import Traceable, traceable_functions
from pypwru.kernel.kallsyms import Symbols, read_symbols
from pypwru.kernel.kprobe_events import kprobe_events

_NOTHING = pack([Insn(ALU64 | MOV, R0), Insn(EXIT_PROGRAM)])
_COMMON = "vprintk"  # a function that every kernel has and ftrace knows


class Choice(NamedTuple):
    """A backend with what it will attach.

    Args:
        plan: what, and by which backend.
        symbols: of the running kernel; None for tracepoints, which need none.
        why: for the user; empty when the backend was asked for.
    """

    plan: AttachPlan
    symbols: Symbols | None
    why: str


class Search(NamedTuple):
    """What to trace, and where to look for it.

    Args:
        btf: of vmlinux.
        modules: name -> BTF of the modules whose functions are traced, too.
        selection: of functions.
        tracking: of packets.
        optional: whether finding no function is no failure, since BPF programs are traced.
    """

    btf: BTF
    modules: dict[str, BTF]
    selection: Selection
    tracking: Tracking
    optional: bool = False


def choose(wanted: Backend | None, search: Search) -> Choice:
    """Plan for the ``wanted`` backend, or for the first that works.

    Raises:
        KernelError: the wanted one, or every one, is refused; or nothing matches the selection.
    """
    if wanted is not None:
        return _plan(wanted, search, _allowed(wanted), "")
    refusals = []
    for backend in Backend:
        try:
            kernel = _allowed(backend)
        except KernelError as refusal:
            cause = str(refusal).partition("; ")[0]  # the cure is for who insists on it
            refusals.append(f"no {backend.value}: {cause}")
        else:
            why = "; ".join(refusals) or "the fastest, and this kernel has it"
            try:
                return _plan(backend, search, kernel, why)
            except KernelError as error:
                raise KernelError(f"{error} (backend {backend.value}: {why})") from error
    raise AssertionError("tracepoint, the last one, is never refused")


class _Kernel(NamedTuple):
    """What the function backends need to know of the running kernel."""

    symbols: Symbols
    traceable: Traceable


def _allowed(backend: Backend) -> _Kernel | None:
    """Try the backend; None for tracepoints, which need no symbols.

    Raises:
        KernelError: this kernel, or a right that is missing, rules it out.
    """
    if backend is Backend.TRACEPOINT:
        return None
    if backend is Backend.KPROBE:
        _allows_kprobe()
    symbols = read_symbols()
    if backend is Backend.KPROBE_MULTI:
        _allows_kprobe_multi(symbols)
    return _Kernel(symbols, traceable_functions())


def _plan(backend: Backend, search: Search, kernel: _Kernel | None, why: str) -> Choice:
    tracking = search.tracking
    if kernel is None:
        return _plan_tracepoints(search, why)
    discovery = discover_functions(
        search.btf, search.modules, kernel.traceable, kernel.symbols, search.selection
    )
    if not discovery.functions and not search.optional:
        raise no_function(search.selection, search.btf, search.modules, discovery)
    names = {function.name for function in discovery.functions}
    others, refused = stack_probes(tracking, search.btf, kernel.traceable, kernel.symbols, names)
    hooks = life_probes(tracking, kernel.traceable, kernel.symbols, names)
    follows = tracking.by_address or tracking.by_stack
    discovery = discovery._replace(unattachable=(*discovery.unattachable, *refused))
    plan = plan_functions(backend, discovery, others, hooks, follows)
    return Choice(plan, kernel.symbols, why)


def _plan_tracepoints(search: Search, why: str) -> Choice:
    if search.tracking.functions is not None:
        raise KernelError(
            "functions without a packet are traced by kprobes, and the backend is tracepoint; "
            "leave out --filter-non-skb-funcs and --filter-track-bpf-helpers"
        )
    tracepoints = discover_tracepoints(search.btf, search.selection, search.modules)
    if not tracepoints and not search.optional:
        raise no_tracepoint(search.selection, search.btf)
    follows = search.tracking.by_address or search.tracking.by_stack
    return Choice(plan_tracepoints(tracepoints, follows), None, why)


def _allows_kprobe_multi(symbols: Symbols) -> None:
    address = symbols.addresses(_COMMON)[:1]
    try:
        program = bpf.program_load(
            ProgramType.KPROBE, "probe", _NOTHING, AttachType.TRACE_KPROBE_MULTI
        )
        with owned(program), owned(bpf.kprobe_multi_link(program, list(address))):
            return
    except OSError as error:
        raise KernelError(
            f"the kernel refuses the link ({os.strerror(error.errno or 0)}): it needs Linux 5.18 "
            "and CONFIG_FPROBE; leave --backend out, and pypwru takes one that this kernel allows"
        ) from error


def _allows_kprobe() -> None:
    try:
        with kprobe_events():
            return
    except OSError as error:
        raise KernelError(
            f"kprobe_events of tracefs can't be used ({error.strerror}): it needs "
            "CONFIG_KPROBE_EVENTS and no lockdown; try --backend tracepoint"
        ) from error
