"""Which backend: the first that this kernel allows, and why not the others."""

from __future__ import annotations

import os
from typing import NamedTuple

from pypwru.btf.query import BTF
from pypwru.config import Backend
from pypwru.discovery.functions import discover_functions
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


def choose(
    wanted: Backend | None, btf: BTF, modules: dict[str, BTF], selection: Selection
) -> Choice:
    """Plan for the ``wanted`` backend, or for the first that works.

    Raises:
        KernelError: the wanted one, or every one, is refused; or nothing matches the selection.
    """
    if wanted is not None:
        return _plan(wanted, btf, modules, selection, _allowed(wanted), "")
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
                return _plan(backend, btf, modules, selection, kernel, why)
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


def _plan(
    backend: Backend,
    btf: BTF,
    modules: dict[str, BTF],
    selection: Selection,
    kernel: _Kernel | None,
    why: str,
) -> Choice:
    if kernel is None:
        tracepoints = discover_tracepoints(btf, selection, modules)
        if not tracepoints:
            raise no_tracepoint(selection, btf)
        return Choice(plan_tracepoints(tracepoints), None, why)
    discovery = discover_functions(btf, modules, kernel.traceable, kernel.symbols, selection)
    if not discovery.functions:
        raise no_function(selection, btf, modules, discovery)
    return Choice(plan_functions(backend, discovery), kernel.symbols, why)


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
