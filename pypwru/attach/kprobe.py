"""Kprobes, one trace event a handler: every kernel with CONFIG_KPROBES.

On x86-64 a probe is put behind the five bytes of ftrace's hook and not on it: registers are still
those of the call, but the kernel can do with a breakpoint, which it soon turns into a jump. On the
hook every single probe makes ftrace walk all of its 50,000 call sites, at attach and at detach.
"""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from pypwru.attach.attached import Attached
from pypwru.discovery.functions import Function
from pypwru.errors import KernelError
from pypwru.kernel.descriptors import owned
from pypwru.kernel.kprobe_events import KprobeEvents, kprobe_events
from pypwru.kernel.perf import run_at_event
from pypwru.log import Log
from pypwru.program.load import Loader

# Places are said from this symbol: names can be ambiguous, and bare addresses can't share an event.
ANCHOR = "_text"
_HOOK = 5  # bytes of ftrace's call on x86-64
_ENDBR = 4  # bytes of the landing mark of indirect calls in front of it, on kernels with IBT


@contextmanager
def attached(
    groups: Mapping[tuple[int, int], Sequence[Function]],
    loader: Loader,
    log: Log,
    anchor: int,
    stopping: Callable[[], bool],
) -> Iterator[Attached]:
    """Trace the functions until the way out.

    Args:
        groups: (position of the skb, position of the drop reason or 0) -> functions.
        anchor: address of the symbol ``_text``.
        stopping: asked before each function; True leaves the rest unattached.

    Raises:
        KernelError: the kernel allows no kprobes at all.
    """
    report = Attached()
    with ExitStack() as stack:
        try:
            events = stack.enter_context(kprobe_events())
        except OSError as error:
            raise KernelError(
                f"Failed to define kprobes: {error.strerror}; run as root on a kernel with "
                "CONFIG_KPROBE_EVENTS, or try --backend tracepoint"
            ) from error
        total = sum(map(len, groups.values()))
        with log.progress(total, "Attaching") as progress:
            for (position, reason), functions in groups.items():
                event = f"skb_{position}_{reason}"
                before = report.functions
                for function in functions:
                    if not stopping():
                        _define(events, event, function, anchor, report)
                    progress.advance()
                if report.functions > before:
                    program = loader.load(position, reason)
                    stack.enter_context(owned(_run(events.number(event), program)))
        yield report
        log.info("Detaching kprobes...")


def _define(
    events: KprobeEvents, event: str, function: Function, anchor: int, report: Attached
) -> None:
    """Define a probe at each of the function's addresses."""
    for address in function.addresses:
        try:
            offset = _place(events, event, address - anchor)
        except OSError as error:
            report.ignored.append((function.display, os.strerror(error.errno or 0)))
            return
        report.names[address + offset] = function.display
    report.functions += 1


def _place(events: KprobeEvents, event: str, entry: int) -> int:
    """Define a probe where the arguments are still in their registers.

    Args:
        entry: of the function, in bytes from ANCHOR.

    Returns:
        Its offset from there.

    Raises:
        OSError: the kernel refuses a probe at the entry itself.
    """
    offsets = {errno.EILSEQ: _ENDBR + _HOOK, errno.EINVAL: 0}  # refusal -> what to try instead
    offset = _HOOK if platform.machine() == "x86_64" else 0
    while True:
        try:
            events.define(event, f"{ANCHOR}+{entry + offset}")
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
        raise KernelError(f"Failed to attach kprobes: {error.strerror}; run as root") from error
