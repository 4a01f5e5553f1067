"""The one table of backends: how each attaches a plan, and what the log calls it."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from pypwru.config import Backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypwru.attach.attached import Attached
    from pypwru.attach.backend import Choice
    from pypwru.discovery.plan import AttachPlan
    from pypwru.log import Log
    from pypwru.program.load import Loader

NOUNS = {
    Backend.FENTRY_MULTI: "fentry",
    Backend.FENTRY: "fentry",
    Backend.KPROBE_MULTI: "kprobes",
    Backend.KPROBE: "kprobes",
    Backend.TRACEPOINT: "tracepoints",
}


@contextmanager
def attached(
    choice: Choice, loader: Loader, report: Attached, log: Log, stopping: Callable[[], bool]
) -> Iterator[None]:
    """Everything of the plan, traced until the way out.

    Args:
        report: grows.
        stopping: whether the user wants the end already.
    """
    with _hooked(choice, loader, report, log, stopping):
        yield
        log.info(f"Detaching {NOUNS[choice.plan.backend]}...")


def probed(
    choice: Choice, plan: AttachPlan, loader: Loader, report: Attached, log: Log
) -> AbstractContextManager[None]:
    """``plan`` beside what is attached, by the backend that it names."""
    return _hooked(choice._replace(plan=plan), loader, report, log, lambda: False)


def _hooked(
    choice: Choice, loader: Loader, report: Attached, log: Log, stopping: Callable[[], bool]
) -> AbstractContextManager[None]:
    plan = choice.plan
    if plan.backend in (Backend.FENTRY_MULTI, Backend.FENTRY):
        from pypwru.attach import fentry

        def probed(plan: AttachPlan) -> AbstractContextManager[None]:
            return _hooked(choice._replace(plan=plan), loader, report, log, stopping)

        return fentry.attached(plan, loader, report, log, stopping, probed)
    if plan.backend is Backend.TRACEPOINT or choice.symbols is None:
        from pypwru.attach import tracepoint

        return tracepoint.attached(plan, loader, report, log)
    if plan.backend is Backend.KPROBE_MULTI:
        from pypwru.attach import kprobe_multi

        return kprobe_multi.attached(plan, loader, report, log)
    from pypwru.attach import kprobe

    anchor = choice.symbols.addresses(kprobe.ANCHOR)[0]
    return kprobe.attached(plan, loader, report, log, anchor, stopping)
