"""All functions of a handler by one link: kernels since 5.18 with CONFIG_FPROBE."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pypwru.attach.attached import Attached
from pypwru.errors import KernelError
from pypwru.kernel import bpf, bpf_objects
from pypwru.kernel.bpf import AttachType, ProgramType
from pypwru.kernel.descriptors import owned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.discovery.plan import AttachPlan, Groups
    from pypwru.log import Log
    from pypwru.program.load import Loader

KIND = (ProgramType.KPROBE, AttachType.TRACE_KPROBE_MULTI)
Site = tuple[int, str]  # address, name
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)


@contextmanager
def attached(plan: AttachPlan, loader: Loader, report: Attached, log: Log) -> Iterator[None]:
    """Trace the functions until the way out; closing a link detaches all of its functions at once.

    Raises:
        KernelError: the kernel refused the link for a reason that isn't one function's.
    """
    with ExitStack() as links:
        attach_groups(plan.hooks, loader, links, Attached(), report)
        attach_groups(plan.groups, loader, links, report, report)
        yield


def attach_groups(
    groups: Groups, loader: Loader, links: ExitStack, names: Attached, report: Attached
) -> None:
    """Link every group with its program.

    Args:
        names: gets the functions and their addresses.
        report: gets what was refused.

    Raises:
        KernelError: as of ``attached``.
    """
    for handler, functions in groups.items():
        program = loader.load(handler.name, handler.places, KIND, handler.number)
        sites = [(address, f.display) for f in functions for address in f.addresses]
        refused = _link(program, sites, handler.returns, links, report)
        ignored = {name for name, _ in refused}
        if not handler.returns:
            names.names.update(sites)
            names.functions += sum(f.display not in ignored for f in functions)
        report.ignored += refused


def _link(
    program: int, sites: list[Site], returns: bool, links: ExitStack, report: Attached
) -> list[tuple[str, str]]:
    """Link what can be linked; halve what is refused until the one address that is to blame."""
    try:
        addresses = [address for address, _ in sites]
        link = links.enter_context(owned(bpf.kprobe_multi_link(program, addresses, returns)))
        report.missed.append(partial(bpf_objects.kprobe_multi_missed, link))
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise KernelError(
                f"Failed to attach by kprobe-multi: {error.strerror}; try --backend kprobe"
            ) from error
        if len(sites) == 1:
            return [(sites[0][1], os.strerror(error.errno or 0))]
        half = len(sites) // 2
        return [
            *_link(program, sites[:half], returns, links, report),
            *_link(program, sites[half:], returns, links, report),
        ]
    return []
