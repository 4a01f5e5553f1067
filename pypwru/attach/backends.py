"""The table of backends: how each attaches a plan, and its noun in the log."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from pypwru.config import Backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypwru.attach.report import AttachReport
    from pypwru.attach.select import BackendPlan
    from pypwru.discovery.plan import AttachPlan
    from pypwru.log import Log
    from pypwru.program.load import Loader

PROBE_NOUN = {
    Backend.FENTRY_MULTI: "fentry",
    Backend.FENTRY: "fentry",
    Backend.KPROBE_MULTI: "kprobes",
    Backend.KPROBE: "kprobes",
    Backend.TRACEPOINT: "tracepoints",
}
"""Backend -> the noun of pwru's log lines "Attaching ..." and "Detaching ..."."""


@contextmanager
def attach(
    choice: BackendPlan,
    loader: Loader,
    report: AttachReport,
    log: Log,
    stop_requested: Callable[[], bool],
) -> Iterator[None]:
    """Attach the plan of ``choice``; detach on exit.

    Args:
        choice: the backend and its plan.
        loader: loads the handlers.
        report: filled while attaching.
        log: gets a line and a progress bar when detaching.
        stop_requested: returns whether a stop was requested; True leaves the rest unattached.

    Yields:
        None, once everything is attached.

    Raises:
        KernelError: the kernel refuses the backend as a whole, not a single function.
    """
    with _attach_by_backend(choice, loader, report, log, stop_requested):
        yield
        log.info(f"Detaching {PROBE_NOUN[choice.plan.backend]}...")


def attach_extra(
    choice: BackendPlan, plan: AttachPlan, loader: Loader, report: AttachReport, log: Log
) -> AbstractContextManager[None]:
    """Return a context that attaches ``plan`` in addition to the plan of ``choice``.

    Args:
        choice: the backend and symbols of the run.
        plan: attached by the backend that it names.
        loader: loads the handlers.
        report: filled while attaching.
        log: gets progress.
    """
    return _attach_by_backend(choice._replace(plan=plan), loader, report, log, lambda: False)


def _attach_by_backend(
    choice: BackendPlan,
    loader: Loader,
    report: AttachReport,
    log: Log,
    stop_requested: Callable[[], bool],
) -> AbstractContextManager[None]:
    """Return the context of the backend of ``choice.plan``; arguments as of ``attach``."""
    plan = choice.plan
    if plan.backend in (Backend.FENTRY_MULTI, Backend.FENTRY):
        from pypwru.attach import fentry

        def attach_kprobes(plan: AttachPlan) -> AbstractContextManager[None]:
            return _attach_by_backend(
                choice._replace(plan=plan), loader, report, log, stop_requested
            )

        return fentry.attach(plan, loader, report, log, stop_requested, attach_kprobes)
    if plan.backend is Backend.TRACEPOINT or choice.symbols is None:
        from pypwru.attach import tracepoint

        return tracepoint.attach(plan, loader, report, log)
    if plan.backend is Backend.KPROBE_MULTI:
        from pypwru.attach import kprobe_multi

        return kprobe_multi.attach(plan, loader, report, log)
    from pypwru.attach import kprobe

    anchor = choice.symbols.addresses(kprobe.ANCHOR_SYMBOL)[0]
    return kprobe.attach(plan, loader, report, log, anchor, stop_requested)
