"""Attach to the functions of a module again when it is unloaded and reloaded during a run."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pypwru.attach.backends import attach_extra
from pypwru.attach.report import AttachReport
from pypwru.attach.select import plan_module
from pypwru.errors import PypwruError
from pypwru.kernel.module_instance import module_instance_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pypwru.attach.select import BackendPlan
    from pypwru.discovery.request import TraceRequest
    from pypwru.log import Log
    from pypwru.program.load import Loader


@contextmanager
def watch_reloads(
    modules: Collection[str],
    request: TraceRequest,
    choice: BackendPlan,
    loader: Loader,
    report: AttachReport,
    log: Log,
) -> Iterator[Callable[[], None]]:
    """Watch modules for reloads; detach on exit.

    Args:
        modules: names of the modules whose functions are traced.
        request: what the run traces.
        choice: the backend and symbols of the run.
        loader: loads the handlers.
        report: gets the new addresses, and the counters of missed hits.
        log: gets a line for each module that is attached again, or can't be.

    Yields:
        A callable to call periodically: it attaches to the modules that were loaded again.
    """
    instances = {module: module_instance_id(module) for module in modules}
    with ExitStack() as stack:

        def attach_again(module: str) -> None:
            module_report = AttachReport(targets=report.targets)
            try:
                plan = plan_module(module, choice, request)
                stack.enter_context(attach_extra(plan, plan.plan, loader, module_report, log))
            except PypwruError as error:
                log.warn("Can't trace a module that was loaded again", module=module, why=error)
                return
            report.missed_counters += module_report.missed_counters
            log.info(
                "Attached to a module again", module=module, functions=module_report.target_count
            )

        def poll() -> None:
            for module, last_instance in instances.items():
                instance = module_instance_id(module)
                if instance not in (0, last_instance):
                    instances[module] = instance
                    attach_again(module)

        yield poll
