"""Attach all functions of a handler by one kprobe-multi link (since Linux 5.18, CONFIG_FPROBE)."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pypwru.attach.report import AttachReport
from pypwru.errors import KernelError
from pypwru.fds import closing_fd
from pypwru.kernel import bpf, bpf_info
from pypwru.kernel.bpf import AttachType, ProgramType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.discovery.plan import AttachPlan, Groups
    from pypwru.log import Log
    from pypwru.program.load import Loader

PROGRAM_TYPE = (ProgramType.KPROBE, AttachType.TRACE_KPROBE_MULTI)
AddressName = tuple[int, str]  # address, name
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)


@contextmanager
def attach(plan: AttachPlan, loader: Loader, report: AttachReport, log: Log) -> Iterator[None]:
    """Attach the functions of ``plan``; on exit closing a link detaches all its functions at once.

    Args:
        plan: of a function backend; its hooks are attached first.
        loader: loads the handlers.
        report: gets the functions, their addresses, and what the kernel refused.
        log: unused; the backends share a signature.

    Yields:
        None, once everything is attached.

    Raises:
        KernelError: the kernel refused a link for a reason that isn't one function's.
    """
    with ExitStack() as links:
        attach_groups(plan.hooks, loader, links, AttachReport(), report)
        attach_groups(plan.groups, loader, links, report, report)
        yield


def attach_groups(
    groups: Groups,
    loader: Loader,
    links: ExitStack,
    event_report: AttachReport,
    report: AttachReport,
) -> None:
    """Attach every group by a link of its own.

    Args:
        groups: handler -> its functions.
        loader: loads the handlers.
        links: closes the links.
        event_report: gets the functions and their addresses.
        report: gets the refused functions, and the counters of missed hits.

    Raises:
        KernelError: the kernel refused a link for a reason that isn't one function's.
    """
    for handler, functions in groups.items():
        program = loader.load(handler.name, handler.argument_slots, PROGRAM_TYPE, handler.number)
        sites = [
            (address, function.display) for function in functions for address in function.addresses
        ]
        refused = _link(program, sites, handler.is_return, links, report)
        ignored = {name for name, _ in refused}
        if not handler.is_return:
            event_report.targets.add(dict(sites))
            event_report.target_count += sum(
                function.display not in ignored for function in functions
            )
        report.ignored += refused


def _link(
    program: int, sites: list[AddressName], is_return: bool, links: ExitStack, report: AttachReport
) -> list[tuple[str, str]]:
    """Attach ``sites`` by as few links as possible; bisect a refused set down to one address.

    Args:
        program: descriptor of the handler's program.
        sites: address and display name of each function.
        is_return: True to run at the functions' return.
        links: closes the links.
        report: gets the counters of missed hits.

    Returns:
        (display name, error) of each address that the kernel refused.

    Raises:
        KernelError: the kernel has no kprobe-multi links, or a privilege is missing.
    """
    try:
        addresses = [address for address, _ in sites]
        link = links.enter_context(closing_fd(bpf.kprobe_multi_link(program, addresses, is_return)))
        report.missed_counters.append(partial(bpf_info.kprobe_multi_missed, link))
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise KernelError(
                f"Failed to attach by kprobe-multi: {error.strerror}", "try --backend kprobe"
            ) from error
        if len(sites) == 1:
            return [(sites[0][1], os.strerror(error.errno or 0))]
        half = len(sites) // 2
        return [
            *_link(program, sites[:half], is_return, links, report),
            *_link(program, sites[half:], is_return, links, report),
        ]
    return []
