"""Trace TC and XDP programs by fentry on each loaded program, and fexit where tracking needs it.

All programs of a type are traced, whatever they are attached to, and programs that are loaded
later once ``poll`` finds them. A run of a program by tail call is not traced: the kernel jumps
behind the fentry call site (x86-64 JIT, emit_bpf_tail_call_indirect()). A traced program stays
loaded until tracing ends.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import KernelError
from pypwru.filter.ebpf import ALU64, EXIT_PROGRAM, MOV, R0, Insn, pack
from pypwru.kernel import bpf, bpf_objects, programs
from pypwru.kernel.bpf import AttachType, ProgramType, Signature, Target
from pypwru.kernel.bpf_tracing import tracing_link, why_refused
from pypwru.kernel.descriptors import allow_many, owned
from pypwru.program.places import Places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pypwru.attach.attached import Attached
    from pypwru.config import Config
    from pypwru.log import Log
    from pypwru.program.load import Loader

Handler = tuple[str, AttachType]

_NUMBERS = 1 << 16  # of the first traced program; tracepoints are numbered from 1
_NOTHING = pack([Insn(ALU64 | MOV, R0), Insn(EXIT_PROGRAM)])


class ProgramKind(NamedTuple):
    """A type of BPF program to trace.

    Args:
        program: its ``enum bpf_prog_type``.
        noun, name: its names in pwru's log lines ("Attaching ... progs", "SchedCLS(...)").
        handlers: (handler, attach type) of each program of ours that is attached.
    """

    program: ProgramType
    noun: str
    name: str
    handlers: tuple[Handler, ...]


def program_kinds(config: Config) -> list[ProgramKind]:
    """Return the types of BPF programs that this run traces.

    Raises:
        KernelError: the kernel lacks fentry on BPF programs, or a privilege is missing.
    """
    entry, leave = AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT
    tc = ProgramKind(ProgramType.SCHED_CLS, "tc-bpf", "SchedCLS", (("trace_tc", entry),))
    xdp = ProgramKind(ProgramType.XDP, "xdp", "XDP", (("trace_xdp", entry),))
    if config.filter_track_skb:
        xdp = xdp._replace(handlers=(*xdp.handlers, ("trace_xdp_exit", leave)))
    asked = ((tc, config.filter_trace_tc), (xdp, config.filter_trace_xdp))
    kinds = [kind for kind, wanted in asked if wanted]
    if kinds:
        _require_tracing()
    return kinds


class TracedPrograms:
    """The BPF programs that are traced; ``poll`` adds those that were loaded since.

    Args:
        kinds: program types to trace.
        loader: loads the handlers.
        log: gets the names of programs that can't be traced.
        report: gets the number that records of a program carry, and its display name.
        stopping: returns whether a stop was requested; True leaves the rest untraced.
        links: closes the attached links.

    Attributes:
        found: name of a program type -> names of the loaded programs, traced or not.
    """

    def __init__(
        self,
        kinds: Sequence[ProgramKind],
        loader: Loader,
        log: Log,
        report: Attached,
        stopping: Callable[[], bool],
        links: ExitStack,
    ) -> None:
        self._kinds = {kind.program.value: kind for kind in kinds}
        self._loader = loader
        self._log = log
        self._report = report
        self._stopping = stopping
        self._links = links
        self._newest = 0
        self._number = _NUMBERS
        self.found: dict[str, list[str]] = {kind.name: [] for kind in kinds}

    def poll(self) -> None:
        """Trace the programs that were loaded since the last call."""
        if not self._kinds:
            return
        try:
            self.find()
        except OSError as error:
            self._log.warn("New BPF programs can't be found any more", why=why_refused(error))
            self._kinds = {}

    def find(self) -> None:
        """Trace the programs that were loaded since the last call.

        Raises:
            OSError: no right to list programs, or too many open files.
        """
        for identity in bpf_objects.program_ids(self._newest):
            if self._stopping():
                return
            self._newest = identity
            fd = bpf_objects.program_open(identity)
            if fd is not None:
                with owned(fd):
                    self._look_at(fd)

    def _look_at(self, fd: int) -> None:
        program = bpf_objects.program_info(fd)
        kind = self._kinds.get(program.kind)
        if kind is None:
            return
        name = f"{kind.name}({program.name})#{program.id}"
        self.found[kind.name].append(name)
        entry = programs.entry_of(program)
        if entry is None:  # loaded without BTF
            self._log.info(
                "Skip tracing bpf prog because cannot find its entry function name", prog=name
            )
            return
        display = programs.display_name(program, entry)
        try:
            self._trace(kind, Target(entry.type_id, program=fd))
        except (KernelError, OSError) as error:
            self._log.warn("Skip tracing bpf prog", prog=name, why=why_refused(error))
            self._report.ignored.append((display, why_refused(error)))
        else:
            self._report.names[self._number] = display
            self._report.functions += 1
            self._number += 1

    def _trace(self, kind: ProgramKind, target: Target) -> None:
        with ExitStack() as links:
            for handler, attach in kind.handlers:
                ours = self._loader.load(
                    handler,
                    Places(1),
                    number=self._number,
                    target=target._replace(attach=attach),
                )
                links.enter_context(owned(tracing_link(ours)))
            self._links.push(links.pop_all())


@contextmanager
def traced_programs(
    kinds: Sequence[ProgramKind],
    loader: Loader,
    log: Log,
    report: Attached,
    stopping: Callable[[], bool],
) -> Iterator[TracedPrograms]:
    """Trace every loaded program of these types; detach on exit.

    Args:
        kinds: of program_kinds(), at least one: listing programs takes CAP_SYS_ADMIN.
        loader: loads their handlers.
        log: gets the names of programs that are skipped.
        report: gets the traced programs, in addition to the functions.
        stopping: called before each program; True leaves the rest untraced.

    Yields:
        The traced programs.

    Raises:
        KernelError: no right to list programs.
    """
    with ExitStack() as links:
        traced = TracedPrograms(kinds, loader, log, report, stopping, links)
        allow_many()
        for kind in kinds:
            log.info(f"Attaching {kind.noun} progs...")
        try:
            traced.find()
        except OSError as error:
            raise programs.cannot_list(error) from error
        for name, found in traced.found.items():
            log.debug("Found bpf progs", names=f"[{' '.join(found)}]")
            if not found:
                log.info("No bpf progs found with type", type=name)
        yield traced


def _require_tracing() -> None:
    """Check that the kernel has fentry on BPF programs, by tracing a program of our own.

    Raises:
        KernelError: it has not, or refuses it to this process.
    """
    with ExitStack() as stack:
        try:
            types = stack.enter_context(owned(bpf.btf_load(_TYPES)))
            traced = stack.enter_context(
                owned(
                    bpf.program_load(
                        ProgramType.SCHED_CLS,
                        "probed",
                        _NOTHING,
                        signature=Signature(types, _FUNCTION),
                    )
                )
            )
            ours = stack.enter_context(
                owned(
                    bpf.program_load(
                        ProgramType.TRACING,
                        "probe",
                        _NOTHING,
                        target=Target(_FUNCTION, program=traced),
                    )
                )
            )
            stack.enter_context(owned(tracing_link(ours)))
        except OSError as error:
            raise KernelError(
                "Current kernel does not support fentry/fexit to run with "
                f"--filter-trace-tc/--filter-trace-xdp ({why_refused(error)}): it needs Linux 5.5, "
                "CONFIG_BPF_JIT, CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, and root of the host; "
                "omit these flags to trace functions only"
            ) from error


# BTF of ``int probed(void)``: types 1 INT, 2 FUNC_PROTO, 3 FUNC.
_FUNCTION = 3
_STRINGS = b"\0int\0probed\0"
_RECORDS = struct.pack("=10I", 1, 1 << 24, 4, 1 << 24 | 32, 0, 13 << 24, 1, 5, 12 << 24, 2)
_TYPES = (
    struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(_RECORDS), len(_RECORDS), len(_STRINGS))
    + _RECORDS
    + _STRINGS
)
