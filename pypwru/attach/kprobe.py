"""Kprobes, one trace event a handler: every kernel with CONFIG_KPROBES.

On x86-64 a probe is put behind the five bytes of ftrace's hook and not on it: registers are still
those of the call, but the kernel can do with a breakpoint, which it soon turns into a jump. On the
hook every single probe makes ftrace walk all of its 50,000 call sites, at attach and at detach.
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

# Places are said from this symbol: names can be ambiguous, and bare addresses can't share an event.
# But no offset may be negative, and arm64 loads modules in front of the kernel: there by name.
ANCHOR = "_text"
KIND = (ProgramType.KPROBE, AttachType.NONE)
_HOOK = 5  # bytes of ftrace's call on x86-64
_ENDBR = 4  # bytes of the landing mark of indirect calls in front of it, on kernels with IBT


@contextmanager
def attached(
    plan: AttachPlan,
    loader: Loader,
    report: Attached,
    log: Log,
    anchor: int,
    stopping: Callable[[], bool],
) -> Iterator[None]:
    """Trace the functions until the way out.

    Args:
        anchor: address of the symbol ``_text``.
        stopping: asked before each function; True leaves the rest unattached.

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
    """What a probe is defined for.

    Args:
        event: its trace event.
        returns: at the function's return.
        anchor: address from which places are said.
    """

    event: str
    returns: bool
    anchor: int


def _define(
    events: KprobeEvents, site: Site, function: Function, names: Attached, report: Attached
) -> bool:
    """Define a probe at each of the function's addresses; false if the kernel refuses one.

    Args:
        names: gets the function and the addresses that its records carry.
        report: gets what was refused.
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
    """Where a function begins: ``offset`` bytes behind ``symbol``."""

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
        entry: of the function.

    Returns:
        Its offset from there.

    Raises:
        OSError: the kernel refuses a probe at the entry itself.
    """
    offsets = {errno.EILSEQ: _ENDBR + _HOOK, errno.EINVAL: 0}  # refusal -> what to try instead
    offset = _HOOK if os.uname().machine == "x86_64" and not site.returns else 0
    while True:
        try:
            events.define(site.event, f"{entry.symbol}+{entry.offset + offset}", site.returns)
        except OSError as error:
            # EILSEQ: in the middle of an instruction, so there is an ENDBR64. EINVAL: on code that
            # the kernel patches itself, such as a static branch right behind the hook.
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
