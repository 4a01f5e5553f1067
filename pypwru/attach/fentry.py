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
from pypwru.discovery.plan import AttachPlan, Handler, with_kprobe_fallback
from pypwru.errors import KernelError
from pypwru.fds import closing_fd, raise_nofile_limit
from pypwru.kernel.bpf import AttachTarget, AttachType
from pypwru.kernel.bpf_info import module_btf
from pypwru.kernel.bpf_links import attach_failure_reason, tracing_link, tracing_multi_link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pypwru.attach.report import AttachReport
    from pypwru.discovery.functions import Function
    from pypwru.log import Log
    from pypwru.program.load import Loader

WHY_NOT_FENTRY = "several of this name, too many arguments, variadic, or it returns a struct"
"""The reasons for which a function has no usable BTF type id (discovery/fentry_targets.py)."""
_NO_MODULE_BTF = "no BTF of its module, which the kernel provides since Linux 5.11"


class _TypedFunction(NamedTuple):
    """A function, its BTF type id, and the descriptor of its module's BTF (None: vmlinux)."""

    function: Function
    type_id: int
    btf: int | None


class _FentryAttacher:
    """Attaches functions, and collects the links and the refusals.

    Args:
        loader: loads the handlers.
        report: gets the functions that are attached.
        stop_requested: called before each function; True leaves the rest unattached.

    Attributes:
        links: descriptors of the links; the caller closes them.
        fallbacks: handler -> the functions to attach by kprobes instead.
        reasons: (display name, reason) of each refused function.
    """

    def __init__(
        self, loader: Loader, report: AttachReport, stop_requested: Callable[[], bool]
    ) -> None:
        self._loader = loader
        self._report = report
        self._stop_requested = stop_requested
        self.links: list[int] = []
        self.fallbacks: dict[Handler, list[Function]] = {}
        self.reasons: list[tuple[str, str]] = []

    def leave_to_kprobes(self, handler: Handler, function: Function, why: str) -> None:
        """Leave ``function`` to kprobes."""
        self.fallbacks.setdefault(handler, []).append(function)
        self.reasons.append((function.display, why))

    def link_single(self, handler: Handler, sites: Sequence[_TypedFunction]) -> None:
        """Attach each function by a program and a link of its own."""
        for site in sites:
            if self._stop_requested():
                return
            target = AttachTarget(site.type_id, btf=site.btf)
            address = site.function.addresses[0]
            try:
                program = self._loader.load(
                    handler.name, handler.argument_slots, self_id=address, target=target
                )
                self.links.append(tracing_link(program))
            except (KernelError, OSError) as error:
                self.leave_to_kprobes(handler, site.function, attach_failure_reason(error))
            else:
                self._add_attached([site])

    def link_multi(self, handler: Handler, sites: Sequence[_TypedFunction]) -> None:
        """Attach all functions of the same BTF by one program and link."""
        for btf in dict.fromkeys(site.btf for site in sites):
            target = AttachTarget(0, btf=btf, attach_type=AttachType.TRACE_FENTRY_MULTI)
            program = self._loader.load(handler.name, handler.argument_slots, target=target)
            self._link(program, handler, [site for site in sites if site.btf == btf])

    def _link(self, program: int, handler: Handler, sites: Sequence[_TypedFunction]) -> None:
        """Attach ``sites`` by as few links as possible; bisect a refused set."""
        try:
            self.links.append(tracing_multi_link(program, [site.type_id for site in sites]))
        except OSError as error:
            if len(sites) == 1:
                self.leave_to_kprobes(handler, sites[0].function, attach_failure_reason(error))
                return
            half = len(sites) // 2
            self._link(program, handler, sites[:half])
            self._link(program, handler, sites[half:])
        else:
            self._add_attached(sites)

    def _add_attached(self, sites: Sequence[_TypedFunction]) -> None:
        functions = [site.function for site in sites]
        self._report.targets.add(
            {function.addresses[0]: function.display for function in functions}
        )
        self._report.target_count += len(functions)


@contextmanager
def attach(
    plan: AttachPlan,
    loader: Loader,
    report: AttachReport,
    log: Log,
    stop_requested: Callable[[], bool],
    attach_kprobes: Callable[[AttachPlan], AbstractContextManager[None]],
) -> Iterator[None]:
    """Attach the functions of ``plan``; detach on exit.

    Args:
        plan: of a fentry backend.
        loader: loads the handlers.
        report: gets the functions and their addresses.
        log: gets progress bars and, at debug level, the functions that get kprobes instead; a
            warning if all do.
        stop_requested: called before each function; True leaves the rest unattached.
        attach_kprobes: attaches a plan by kprobes.

    Yields:
        None, once everything is attached.

    Raises:
        KernelError: kprobes are needed, and refused.
    """
    raise_nofile_limit()
    attacher = _FentryAttacher(loader, report, stop_requested)
    with ExitStack() as stack:
        modules = {function.module for function in plan.functions} - {""}
        module_btfs = {name: stack.enter_context(_open_module_btf(name)) for name in modules}
        stack.callback(_close_links, attacher.links, log)
        with log.progress(plan.target_count, "Attaching") as progress:
            for handler, functions in plan.groups.items():
                _attach_handler(plan, handler, module_btfs, attacher)
                progress.advance(len(functions))
        if plan.kprobe_plan is None:
            report.ignored += attacher.reasons
        else:
            for name, why in attacher.reasons:
                log.debug("No fentry", function=name, why=why)
            if attacher.reasons and not attacher.links:
                log.warn("Tracing all functions by kprobes instead", why=attacher.reasons[0][1])
            groups = {handler: tuple(refused) for handler, refused in attacher.fallbacks.items()}
            kprobe_plan = with_kprobe_fallback(plan.kprobe_plan, groups)
            if kprobe_plan.groups or kprobe_plan.hooks:
                stack.enter_context(attach_kprobes(kprobe_plan))
        yield


def _attach_handler(
    plan: AttachPlan,
    handler: Handler,
    module_btfs: Mapping[str, int | None],
    attacher: _FentryAttacher,
) -> None:
    """Attach the functions of one handler; those without a usable type are refused."""
    sites = []
    for function in plan.groups[handler]:
        type_id, btf = plan.type_ids.get(function.display), module_btfs.get(function.module)
        if type_id is None:
            attacher.leave_to_kprobes(handler, function, WHY_NOT_FENTRY)
        elif function.module and btf is None:
            attacher.leave_to_kprobes(handler, function, _NO_MODULE_BTF)
        else:
            sites.append(_TypedFunction(function, type_id, btf))
    if plan.backend is Backend.FENTRY_MULTI:
        attacher.link_multi(handler, sites)
    else:
        attacher.link_single(handler, sites)


@contextmanager
def _open_module_btf(module: str) -> Iterator[int | None]:
    """Yield a descriptor of the module's BTF; None if the kernel has none."""
    try:
        fd = module_btf(module)
    except OSError:  # before Linux 5.11
        fd = None
    with closing_fd(fd) if fd is not None else nullcontext():
        yield fd


def _close_links(links: list[int], log: Log) -> None:
    with log.progress(len(links), "Detaching") as progress:
        for link in links:
            os.close(link)
            progress.advance()
