"""Modules that are loaded again during a run: their functions are attached once more."""

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

    from pypwru.attach.backend import Choice, Search
    from pypwru.log import Log
    from pypwru.program.load import Loader


@contextmanager
def reloaded_modules(
    modules: Collection[str],
    request: Search,
    choice: Choice,
    loader: Loader,
    report: Attached,
    log: Log,
) -> Iterator[Callable[[], None]]:
    """What looks for new loads of modules, and attaches their functions until the way out.

    Args:
        modules: whose functions are traced.
        choice: how.
        report: gets their names, and what tells of hits that were skipped.
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
