"""Attach by kprobes, one trace event per handler: works on every kernel with CONFIG_KPROBES.

On x86-64 a probe goes behind the five bytes of ftrace's call site, not on it. Registers still hold
the arguments there, and the kernel needs a breakpoint only, which it soon optimizes into a jump. A
probe on the call site makes ftrace walk all of its 50,000 call sites, at each attach and detach.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.report import AttachReport
from pypwru.errors import KernelError, remedy
from pypwru.fds import closing_fd
from pypwru.kernel.bpf import AttachType, ProgramType
from pypwru.kernel.kprobe_events import KprobeEvents, open_kprobe_events
from pypwru.kernel.perf import attach_to_trace_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypwru.discovery.functions import Function
    from pypwru.discovery.plan import AttachPlan
    from pypwru.log import Log
    from pypwru.program.load import Loader

# Probe locations are given relative to this symbol: names can be ambiguous, and probes at bare
# addresses can't share an event. An offset can't be negative, and arm64 loads modules below the
# kernel: their functions are given by name.
ANCHOR_SYMBOL = "_text"
PROGRAM_TYPE = (ProgramType.KPROBE, AttachType.NONE)
_FENTRY_CALL_SIZE = 5  # bytes of ftrace's call instruction on x86-64
_ENDBR_SIZE = 4  # bytes of ENDBR64 before it, on kernels with CONFIG_X86_KERNEL_IBT


@contextmanager
def attach(
    plan: AttachPlan,
    loader: Loader,
    report: AttachReport,
    log: Log,
    anchor: int,
    stop_requested: Callable[[], bool],
) -> Iterator[None]:
    """Attach kprobes to the functions of ``plan``; detach on exit.

    Args:
        plan: of a function backend; its hooks are attached first.
        loader: loads the handlers.
        report: gets the functions, the addresses in their records, and what the kernel refused.
        log: gets a progress bar.
        anchor: address of the symbol ``_text``.
        stop_requested: called before each function; True leaves the rest unattached.

    Yields:
        None, once everything is attached.

    Raises:
        KernelError: the kernel allows no kprobes at all.
    """
    with ExitStack() as stack:
        try:
            events = stack.enter_context(open_kprobe_events())
        except OSError as error:
            advice = (
                "run as root on a kernel with CONFIG_KPROBE_EVENTS, or try --backend tracepoint"
            )
            raise KernelError(
                f"Failed to define kprobes: {error.strerror}", remedy(error, advice)
            ) from error
        report.missed_counters.append(events.missed_hits)
        with log.progress(plan.target_count, "Attaching") as progress:
            for groups, event_report in ((plan.hooks, AttachReport()), (plan.groups, report)):
                for handler, functions in groups.items():
                    event = f"{handler.name}_{handler.skb_arg}_{handler.reason_arg}"
                    defined = 0
                    for function in functions:
                        if not stop_requested():
                            probe_event = ProbeEvent(event, handler.is_return, anchor)
                            defined += _define_probes(
                                events, probe_event, function, event_report, report
                            )
                        progress.advance()
                    if defined:
                        program = loader.load(
                            handler.name, handler.argument_slots, PROGRAM_TYPE, handler.number
                        )
                        stack.enter_context(
                            closing_fd(_attach_program(events.event_id(event), program))
                        )
        yield


class ProbeEvent(NamedTuple):
    """What the probes of one handler have in common.

    Args:
        event: name of the trace event.
        is_return: True for a kretprobe.
        anchor: address of the symbol ``_text``.
    """

    event: str
    is_return: bool
    anchor: int


def _define_probes(
    events: KprobeEvents,
    probe_event: ProbeEvent,
    function: Function,
    event_report: AttachReport,
    report: AttachReport,
) -> bool:
    """Define a probe at each address of a function; return False if the kernel refuses one.

    Args:
        events: the kprobe events of this process.
        probe_event: the trace event to add the probes to.
        function: to probe.
        event_report: gets the function, and the addresses that its records carry.
        report: gets the refusal.
    """
    for address in function.addresses:
        try:
            offset = _define_at_entry(
                events, probe_event, _entry_location(function, address, probe_event.anchor)
            )
        except OSError as error:
            report.ignored.append((function.display, os.strerror(error.errno or 0)))
            return False
        if not probe_event.is_return:
            event_report.targets.add({address + offset: function.display})
    event_report.target_count += not probe_event.is_return
    return True


class _SymbolOffset(NamedTuple):
    """The entry of a function: ``offset`` bytes after ``symbol``."""

    symbol: str
    offset: int


def _entry_location(function: Function, address: int, anchor: int) -> _SymbolOffset:
    if address >= anchor:
        return _SymbolOffset(ANCHOR_SYMBOL, address - anchor)
    name = f"{function.module}:{function.name}" if function.module else function.name
    return _SymbolOffset(name, 0)


def _define_at_entry(events: KprobeEvents, probe_event: ProbeEvent, entry: _SymbolOffset) -> int:
    """Define a probe where the arguments are still in their registers.

    Args:
        events: the kprobe events of this process.
        probe_event: the trace event to add the probe to.
        entry: of the function.

    Returns:
        Offset of the probe from the entry, bytes.

    Raises:
        OSError: the kernel refuses a probe at the entry itself.
    """
    offsets = {
        errno.EILSEQ: _ENDBR_SIZE + _FENTRY_CALL_SIZE,
        errno.EINVAL: 0,
    }  # errno -> offset to try next
    offset = (
        _FENTRY_CALL_SIZE if os.uname().machine == "x86_64" and not probe_event.is_return else 0
    )
    while True:
        try:
            events.define(
                probe_event.event, f"{entry.symbol}+{entry.offset + offset}", probe_event.is_return
            )
        except OSError as error:
            # EILSEQ: not at an instruction boundary, so there is an ENDBR64. EINVAL: on code that
            # the kernel patches itself, such as a static branch right after the call site.
            if not offset or error.errno not in offsets or offset == offsets[error.errno]:
                raise
            offset = offsets[error.errno]
        else:
            return offset


def _attach_program(event: int, program: int) -> int:
    try:
        return attach_to_trace_event(event, program)
    except OSError as error:
        raise KernelError(
            f"Failed to attach kprobes: {error.strerror}", remedy(error, "run as root")
        ) from error
