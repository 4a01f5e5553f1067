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

from pypwru.attach.attached import Attached
from pypwru.errors import KernelError, cure
from pypwru.kernel.bpf import AttachType, ProgramType
from pypwru.kernel.descriptors import owned
from pypwru.kernel.kprobe_events import KprobeEvents, kprobe_events
from pypwru.kernel.perf import run_at_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypwru.discovery.functions import Function
    from pypwru.discovery.plan import AttachPlan
    from pypwru.log import Log
    from pypwru.program.load import Loader

# Probe locations are given relative to this symbol: names can be ambiguous, and probes at bare
# addresses can't share an event. An offset can't be negative, and arm64 loads modules below the
# kernel: their functions are given by name.
ANCHOR = "_text"
KIND = (ProgramType.KPROBE, AttachType.NONE)
_HOOK = 5  # bytes of ftrace's call instruction on x86-64
_ENDBR = 4  # bytes of ENDBR64 before it, on kernels with CONFIG_X86_KERNEL_IBT


@contextmanager
def attached(
    plan: AttachPlan,
    loader: Loader,
    report: Attached,
    log: Log,
    anchor: int,
    stopping: Callable[[], bool],
) -> Iterator[None]:
    """Attach kprobes to the functions of ``plan``; detach on exit.

    Args:
        plan: of a function backend; its hooks are attached first.
        loader: loads the handlers.
        report: gets the functions, the addresses in their records, and what the kernel refused.
        log: gets a progress bar.
        anchor: address of the symbol ``_text``.
        stopping: called before each function; True leaves the rest unattached.

    Yields:
        None, once everything is attached.

    Raises:
        KernelError: the kernel allows no kprobes at all.
    """
    with ExitStack() as stack:
        try:
            events = stack.enter_context(kprobe_events())
        except OSError as error:
            otherwise = (
                "run as root on a kernel with CONFIG_KPROBE_EVENTS, or try --backend tracepoint"
            )
            raise KernelError(
                f"Failed to define kprobes: {error.strerror}; {cure(error, otherwise)}"
            ) from error
        report.missed.append(events.missed)
        with log.progress(plan.total, "Attaching") as progress:
            for groups, names in ((plan.hooks, Attached()), (plan.groups, report)):
                for handler, functions in groups.items():
                    event = f"{handler.name}_{handler.packet}_{handler.reason}"
                    defined = 0
                    for function in functions:
                        if not stopping():
                            site = Site(event, handler.returns, anchor)
                            defined += _define(events, site, function, names, report)
                        progress.advance()
                    if defined:
                        program = loader.load(handler.name, handler.places, KIND, handler.number)
                        stack.enter_context(owned(_run(events.number(event), program)))
        yield


class Site(NamedTuple):
    """What the probes of one handler have in common.

    Args:
        event: name of the trace event.
        returns: True for a kretprobe.
        anchor: address of the symbol ``_text``.
    """

    event: str
    returns: bool
    anchor: int


def _define(
    events: KprobeEvents, site: Site, function: Function, names: Attached, report: Attached
) -> bool:
    """Define a probe at each address of a function; return False if the kernel refuses one.

    Args:
        events: the kprobe events of this process.
        site: the trace event to add the probes to.
        function: to probe.
        names: gets the function, and the addresses that its records carry.
        report: gets the refusal.
    """
    for address in function.addresses:
        try:
            offset = _place(events, site, _said(function, address, site.anchor))
        except OSError as error:
            report.ignored.append((function.display, os.strerror(error.errno or 0)))
            return False
        if not site.returns:
            names.names[address + offset] = function.display
    names.functions += not site.returns
    return True


class _Entry(NamedTuple):
    """The entry of a function: ``offset`` bytes after ``symbol``."""

    symbol: str
    offset: int


def _said(function: Function, address: int, anchor: int) -> _Entry:
    if address >= anchor:
        return _Entry(ANCHOR, address - anchor)
    name = f"{function.module}:{function.name}" if function.module else function.name
    return _Entry(name, 0)


def _place(events: KprobeEvents, site: Site, entry: _Entry) -> int:
    """Define a probe where the arguments are still in their registers.

    Args:
        events: the kprobe events of this process.
        site: the trace event to add the probe to.
        entry: of the function.

    Returns:
        Offset of the probe from the entry, bytes.

    Raises:
        OSError: the kernel refuses a probe at the entry itself.
    """
    offsets = {errno.EILSEQ: _ENDBR + _HOOK, errno.EINVAL: 0}  # errno -> offset to try next
    offset = _HOOK if os.uname().machine == "x86_64" and not site.returns else 0
    while True:
        try:
            events.define(site.event, f"{entry.symbol}+{entry.offset + offset}", site.returns)
        except OSError as error:
            # EILSEQ: not at an instruction boundary, so there is an ENDBR64. EINVAL: on code that
            # the kernel patches itself, such as a static branch right after the call site.
            if not offset or error.errno not in offsets or offset == offsets[error.errno]:
                raise
            offset = offsets[error.errno]
        else:
            return offset


def _run(event: int, program: int) -> int:
    try:
        return run_at_event(event, program)
    except OSError as error:
        raise KernelError(
            f"Failed to attach kprobes: {error.strerror}; {cure(error, 'run as root')}"
        ) from error
