"""Attach to the functions of a module again when it is unloaded and reloaded during a run."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pypwru.attach.attach import probed
from pypwru.attach.attached import Attached
from pypwru.attach.backend import plan_module
from pypwru.errors import PypwruError
from pypwru.kernel.modules import load_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pypwru.attach.backend import Choice
    from pypwru.log import Log
    from pypwru.program.load import Loader
    from pypwru.search import Search


@contextmanager
def reloaded_modules(
    modules: Collection[str],
    request: Search,
    choice: Choice,
    loader: Loader,
    report: Attached,
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
    loads = {module: load_of(module) for module in modules}
    with ExitStack() as stack:

        def attach(module: str) -> None:
            own = Attached(names=report.names)
            try:
                plan = plan_module(module, choice, request)
                stack.enter_context(probed(plan, plan.plan, loader, own, log))
            except PypwruError as error:
                log.warn("Can't trace a module that was loaded again", module=module, why=error)
                return
            report.missed += own.missed
            log.info("Attached to a module again", module=module, functions=own.functions)

        def poll() -> None:
            for module, before in loads.items():
                now = load_of(module)
                if now not in (0, before):
                    loads[module] = now
                    attach(module)

        yield poll
