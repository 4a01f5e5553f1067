"""TC and XDP programs, each traced by programs of ours on its entry, and its exit where asked.

What a loaded program is called from is not asked: all of them are traced, and those that are loaded
later when ``poll`` finds them. The kernel enters a program that another one tail-calls behind its
hook, so that such a run is not seen (x86-64; emit_bpf_tail_call_indirect() of its JIT). A program
that is traced stays loaded until the tracing ends.
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

_NUMBERS = 1 << 16  # the first one of a program; tracepoints are numbered from 1
_NOTHING = pack([Insn(ALU64 | MOV, R0), Insn(EXIT_PROGRAM)])


class ProgramKind(NamedTuple):
    """Programs to trace.

    Args:
        program: what they are to the kernel.
        noun, name: what they are in pwru's log.
        handlers: for each of them, and what each hangs on.
    """

    program: ProgramType
    noun: str
    name: str
    handlers: tuple[Handler, ...]


def program_kinds(config: Config) -> list[ProgramKind]:
    """Of which kinds this run traces programs.

    Raises:
        KernelError: this kernel, or a right that is missing, rules tracing programs out.
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
    """Those that are traced, and how to find more.

    Args:
        kinds: which programs.
        loader: of the handlers.
        log: where programs that can't be traced are named.
        report: gets their numbers, which records carry, and names.
        stopping: whether the user wants the end already.
        links: closes what was attached.
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
        """Trace the programs that were loaded since the last time."""
        if not self._kinds:
            return
        try:
            self.find()
        except OSError as error:
            self._log.warn("New BPF programs can't be found any more", why=why_refused(error))
            self._kinds = {}

    def find(self) -> None:
        """As ``poll``.

        Raises:
            OSError: no right to look at programs, or too many open files.
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
    """Trace every loaded program of these kinds until the way out.

    Args:
        kinds: of program_kinds(), at least one: to list programs takes CAP_SYS_ADMIN.
        loader: of the handlers that they name.
        log: where what is skipped is named.
        report: grows; the functions that are traced are in it already.
        stopping: asked before each program; True leaves the rest untraced.

    Raises:
        KernelError: no right to look at programs.
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
    """Trace a program of our own, to see whether this kernel has fentry on programs.

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
                "leave these flags out to trace functions alone"
            ) from error


# BTF of ``int probed(void)``: an INT, its FUNC_PROTO, its FUNC.
_FUNCTION = 3
_STRINGS = b"\0int\0probed\0"
_RECORDS = struct.pack("=10I", 1, 1 << 24, 4, 1 << 24 | 32, 0, 13 << 24, 1, 5, 12 << 24, 2)
_TYPES = (
    struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(_RECORDS), len(_RECORDS), len(_STRINGS))
    + _RECORDS
    + _STRINGS
)
