"""The one table of backends: the kind of program that each needs, and how it attaches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from pypwru.attach import kprobe, kprobe_multi, tracepoint
from pypwru.attach.attached import Attached
from pypwru.attach.backend import Choice
from pypwru.config import Backend
from pypwru.kernel.bpf import AttachType, ProgramType
from pypwru.log import Log
from pypwru.program.load import Loader


class Kind(NamedTuple):
    """What programs of a backend are to the kernel, and to the user."""

    program: ProgramType
    attach: AttachType
    noun: str


KINDS = {
    Backend.KPROBE_MULTI: Kind(ProgramType.KPROBE, AttachType.TRACE_KPROBE_MULTI, "kprobes"),
    Backend.KPROBE: Kind(ProgramType.KPROBE, AttachType.NONE, "kprobes"),
    Backend.TRACEPOINT: Kind(ProgramType.RAW_TRACEPOINT, AttachType.NONE, "tracepoints"),
}


def attached(
    choice: Choice, loader: Loader, log: Log, stopping: Callable[[], bool]
) -> AbstractContextManager[Attached]:
    """Everything of the plan, traced until the way out."""
    plan = choice.plan
    if plan.backend is Backend.TRACEPOINT or choice.symbols is None:
        return tracepoint.attached(plan.tracepoints, loader, log)
    if plan.backend is Backend.KPROBE_MULTI:
        return kprobe_multi.attached(plan.groups, loader, log)
    anchor = choice.symbols.addresses(kprobe.ANCHOR)[0]
    return kprobe.attached(plan.groups, loader, log, anchor, stopping)
