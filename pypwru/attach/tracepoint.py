"""Attach to raw tracepoints: few, but stable, and on every kernel that has BPF at all."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pypwru.fds import closing_fd, raise_nofile_limit
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachType, ProgramType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.attach.report import AttachReport
    from pypwru.discovery.plan import AttachPlan
    from pypwru.log import Log
    from pypwru.program.load import Loader

PROGRAM_TYPE = (ProgramType.RAW_TRACEPOINT, AttachType.NONE)


@contextmanager
def attach(plan: AttachPlan, loader: Loader, report: AttachReport, log: Log) -> Iterator[None]:
    """Attach to the tracepoints of ``plan``; detach on exit.

    A raw tracepoint program can't query which tracepoint it runs for, so each tracepoint has a
    program of its own, numbered from 1 in the order of the plan; records carry that number.

    Args:
        plan: of the tracepoint backend.
        loader: loads the handlers.
        report: gets the numbers, the names ``tp:name``, and what the kernel refused.
        log: unused; the backends share a signature.

    Yields:
        None, once everything is attached.

    Raises:
        KernelError: the kernel refuses to load a program.
    """
    raise_nofile_limit()
    with ExitStack() as links:
        for number, tracepoint in enumerate(plan.tracepoints, start=1):
            handler = plan.handler_for(tracepoint)
            program = loader.load(handler.name, handler.argument_slots, PROGRAM_TYPE, number)
            try:
                link = bpf.raw_tracepoint_open(tracepoint.name, program)
            except OSError as error:
                report.ignored.append((tracepoint.name, os.strerror(error.errno or 0)))
                continue
            links.enter_context(closing_fd(link))
            report.target_count += 1
            report.targets.add({number: f"tp:{tracepoint.name}"})
        yield
