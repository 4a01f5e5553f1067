"""Attach to kernel functions by fentry, the cheapest hook: a direct call from the function's entry.

Since Linux 7.2 one link takes all functions of a handler. Before, each function has a program and
a link of its own, and the kernel detaches them one by one, each time waiting until no task can be
in the trampoline that it frees. Functions that fentry can't be attached to get kprobes.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import Backend
from pypwru.discovery.plan import AttachPlan, Handler, with_probed
from pypwru.errors import KernelError
from pypwru.kernel.bpf import AttachType, Target
from pypwru.kernel.bpf_objects import module_btf
from pypwru.kernel.bpf_tracing import tracing_link, tracing_multi_link, why_refused
from pypwru.kernel.descriptors import allow_many, owned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pypwru.attach.attached import Attached
    from pypwru.discovery.functions import Function
    from pypwru.log import Log
    from pypwru.program.load import Loader

UNFIT = "several of this name, too many arguments, variadic, or it returns a struct"
"""The reasons for which a function has no usable BTF type id (discovery/fentry.py)."""
_NO_TYPES = "no BTF of its module, which the kernel provides since Linux 5.11"


class _Site(NamedTuple):
    """A function, its BTF type id, and the descriptor of its module's BTF (None: vmlinux)."""

    function: Function
    type_id: int
    btf: int | None


class _Tracer:
    """Attaches functions, and collects the links and the refusals.

    Args:
        loader: loads the handlers.
        report: gets the functions that are attached.
        stopping: called before each function; True leaves the rest unattached.

    Attributes:
        links: descriptors of the links; the caller closes them.
        refused: handler -> the functions to attach by kprobes instead.
        why: (display name, reason) of each refused function.
    """

    def __init__(self, loader: Loader, report: Attached, stopping: Callable[[], bool]) -> None:
        self._loader = loader
        self._report = report
        self._stopping = stopping
        self.links: list[int] = []
        self.refused: dict[Handler, list[Function]] = {}
        self.why: list[tuple[str, str]] = []

    def refuse(self, handler: Handler, function: Function, why: str) -> None:
        """Leave ``function`` to kprobes."""
        self.refused.setdefault(handler, []).append(function)
        self.why.append((function.display, why))

    def one_by_one(self, handler: Handler, sites: Sequence[_Site]) -> None:
        """Attach each function by a program and a link of its own."""
        for site in sites:
            if self._stopping():
                return
            target = Target(site.type_id, btf=site.btf)
            address = site.function.addresses[0]
            try:
                program = self._loader.load(
                    handler.name, handler.places, number=address, target=target
                )
                self.links.append(tracing_link(program))
            except (KernelError, OSError) as error:
                self.refuse(handler, site.function, why_refused(error))
            else:
                self._traced([site])

    def together(self, handler: Handler, sites: Sequence[_Site]) -> None:
        """Attach all functions of the same BTF by one program and link."""
        for btf in dict.fromkeys(site.btf for site in sites):
            target = Target(0, btf=btf, attach=AttachType.TRACE_FENTRY_MULTI)
            program = self._loader.load(handler.name, handler.places, target=target)
            self._link(program, handler, [site for site in sites if site.btf == btf])

    def _link(self, program: int, handler: Handler, sites: Sequence[_Site]) -> None:
        """Attach ``sites`` by as few links as possible; bisect a refused set."""
        try:
            self.links.append(tracing_multi_link(program, [site.type_id for site in sites]))
        except OSError as error:
            if len(sites) == 1:
                self.refuse(handler, sites[0].function, why_refused(error))
                return
            half = len(sites) // 2
            self._link(program, handler, sites[:half])
            self._link(program, handler, sites[half:])
        else:
            self._traced(sites)

    def _traced(self, sites: Sequence[_Site]) -> None:
        functions = [site.function for site in sites]
        self._report.names.update((one.addresses[0], one.display) for one in functions)
        self._report.functions += len(functions)


@contextmanager
def attached(
    plan: AttachPlan,
    loader: Loader,
    report: Attached,
    log: Log,
    stopping: Callable[[], bool],
    probed: Callable[[AttachPlan], AbstractContextManager[None]],
) -> Iterator[None]:
    """Attach the functions of ``plan``; detach on exit.

    Args:
        plan: of a fentry backend.
        loader: loads the handlers.
        report: gets the functions and their addresses.
        log: gets progress bars and, at debug level, the functions that get kprobes instead.
        stopping: called before each function; True leaves the rest unattached.
        probed: attaches a plan by kprobes.

    Yields:
        None, once everything is attached.

    Raises:
        KernelError: kprobes are needed, and refused.
    """
    allow_many()
    tracer = _Tracer(loader, report, stopping)
    with ExitStack() as stack:
        modules = {function.module for function in plan.functions} - {""}
        types = {name: stack.enter_context(_types_of(name)) for name in modules}
        stack.callback(_close, tracer.links, log)
        with log.progress(plan.total, "Attaching") as progress:
            for handler, functions in plan.groups.items():
                _attach(plan, handler, types, tracer)
                progress.advance(len(functions))
        if plan.probes is None:
            report.ignored += tracer.why
        else:
            for name, why in tracer.why:
                log.debug("No fentry", function=name, why=why)
            groups = {handler: tuple(them) for handler, them in tracer.refused.items()}
            rest = with_probed(plan.probes, groups)
            if rest.groups or rest.hooks:
                stack.enter_context(probed(rest))
        yield


def _attach(
    plan: AttachPlan, handler: Handler, types: Mapping[str, int | None], tracer: _Tracer
) -> None:
    """Attach the functions of one handler; those without a usable type are refused."""
    sites = []
    for function in plan.groups[handler]:
        type_id, btf = plan.type_ids.get(function.display), types.get(function.module)
        if type_id is None:
            tracer.refuse(handler, function, UNFIT)
        elif function.module and btf is None:
            tracer.refuse(handler, function, _NO_TYPES)
        else:
            sites.append(_Site(function, type_id, btf))
    if plan.backend is Backend.FENTRY_MULTI:
        tracer.together(handler, sites)
    else:
        tracer.one_by_one(handler, sites)


@contextmanager
def _types_of(module: str) -> Iterator[int | None]:
    """Yield a descriptor of the module's BTF; None if the kernel has none."""
    try:
        fd = module_btf(module)
    except OSError:  # before Linux 5.11
        fd = None
    with owned(fd) if fd is not None else nullcontext():
        yield fd


def _close(links: list[int], log: Log) -> None:
    with log.progress(len(links), "Detaching") as progress:
        for link in links:
            os.close(link)
            progress.advance()
