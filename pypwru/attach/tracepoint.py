"""Raw tracepoints: few, but stable, and on every kernel that has BPF at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pypwru.attach.attached import Attached
from pypwru.discovery.plan import tracepoint_handler
from pypwru.discovery.tracepoints import Tracepoint
from pypwru.errors import KernelError
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachType, ProgramType
from pypwru.kernel.descriptors import owned
from pypwru.log import Log
from pypwru.program.load import Loader

KIND = (ProgramType.RAW_TRACEPOINT, AttachType.NONE)


@contextmanager
def attached(
    tracepoints: Sequence[Tracepoint], loader: Loader, log: Log, follows: bool
) -> Iterator[Attached]:
    """Trace the tracepoints until the way out.

    Args:
        follows: whether packets are tracked, so that their end matters.

    A program can't ask which tracepoint it runs for, so each has a program of its own, numbered
    from 1 in the order of ``tracepoints``.
    """
    report = Attached()
    with ExitStack() as links:
        for number, tracepoint in enumerate(tracepoints, start=1):
            try:
                handler = tracepoint_handler(tracepoint, follows)
                program = loader.load(handler.name, handler.places, KIND, number)
                links.enter_context(owned(bpf.raw_tracepoint_open(tracepoint.name, program)))
                report.functions += 1
                report.names[number] = f"tp:{tracepoint.name}"
            except (OSError, KernelError) as error:
                report.ignored.append((tracepoint.name, str(error)))
        yield report
        log.info("Detaching tracepoints...")
