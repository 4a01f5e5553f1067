"""The table of backends: how each attaches a plan, and its noun in the log."""

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
"""Backend -> the noun of pwru's log lines "Attaching ..." and "Detaching ..."."""


@contextmanager
def attached(
    choice: Choice, loader: Loader, report: Attached, log: Log, stopping: Callable[[], bool]
) -> Iterator[None]:
    """Attach the plan of ``choice``; detach on exit.

    Args:
        choice: the backend and its plan.
        loader: loads the handlers.
        report: filled while attaching.
        log: gets a line and a progress bar when detaching.
        stopping: returns whether a stop was requested; True leaves the rest unattached.

    Yields:
        None, once everything is attached.

    Raises:
        KernelError: the kernel refuses the backend as a whole, not a single function.
    """
    with _hooked(choice, loader, report, log, stopping):
        yield
        log.info(f"Detaching {NOUNS[choice.plan.backend]}...")


def probed(
    choice: Choice, plan: AttachPlan, loader: Loader, report: Attached, log: Log
) -> AbstractContextManager[None]:
    """Return a context that attaches ``plan`` in addition to the plan of ``choice``.

    Args:
        choice: the backend and symbols of the run.
        plan: attached by the backend that it names.
        loader: loads the handlers.
        report: filled while attaching.
        log: gets progress.
    """
    return _hooked(choice._replace(plan=plan), loader, report, log, lambda: False)


def _hooked(
    choice: Choice, loader: Loader, report: Attached, log: Log, stopping: Callable[[], bool]
) -> AbstractContextManager[None]:
    """Return the context of the backend of ``choice.plan``; arguments as of ``attached``."""
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
