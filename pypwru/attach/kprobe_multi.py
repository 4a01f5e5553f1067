"""All functions of a handler by one link: kernels since 5.18 with CONFIG_FPROBE."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from pypwru.attach.attached import Attached
from pypwru.discovery.functions import Function
from pypwru.errors import KernelError
from pypwru.kernel import bpf
from pypwru.kernel.descriptors import owned
from pypwru.log import Log
from pypwru.program.load import Loader

Site = tuple[int, str]  # address, name
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)


@contextmanager
def attached(
    groups: Mapping[tuple[int, int], Sequence[Function]], loader: Loader, log: Log
) -> Iterator[Attached]:
    """Trace the functions until the way out; closing a link detaches all of its functions at once.

    Args:
        groups: (position of the skb, position of the drop reason or 0) -> functions.

    Raises:
        KernelError: the kernel refused the link for a reason that isn't one function's.
    """
    report = Attached()
    with ExitStack() as links:
        for (position, reason), functions in groups.items():
            program = loader.load(position, reason)
            sites = [(address, f.display) for f in functions for address in f.addresses]
            refused = _link(program, sites, links)
            names = {name for name, _ in refused}
            report.names.update(sites)
            report.functions += sum(f.display not in names for f in functions)
            report.ignored += refused
        yield report
        log.info("Detaching kprobes...")


def _link(program: int, sites: list[Site], links: ExitStack) -> list[tuple[str, str]]:
    """Link what can be linked; halve what is refused until the one address that is to blame."""
    try:
        links.enter_context(owned(bpf.kprobe_multi_link(program, [a for a, _ in sites])))
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise KernelError(
                f"Failed to attach by kprobe-multi: {error.strerror}; try --backend kprobe"
            ) from error
        if len(sites) == 1:
            return [(sites[0][1], os.strerror(error.errno or 0))]
        half = len(sites) // 2
        return _link(program, sites[:half], links) + _link(program, sites[half:], links)
    return []
