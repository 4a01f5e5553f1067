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

from pypwru.asm.ebpf import ALU64, EXIT_PROGRAM, MOV, R0, Insn, pack
from pypwru.discovery import bpf_prog_names
from pypwru.discovery.argument_slots import ArgumentSlots
from pypwru.errors import KernelError
from pypwru.fds import closing_fd, raise_nofile_limit
from pypwru.kernel import bpf, bpf_info
from pypwru.kernel.bpf import AttachTarget, AttachType, FunctionBtf, ProgramType
from pypwru.kernel.bpf_links import attach_failure_reason, tracing_link
from pypwru.kernel.feature import Feature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pypwru.attach.report import AttachReport
    from pypwru.log import Log
    from pypwru.program.load import Loader

ProgramHandler = tuple[str, AttachType]

_FIRST_PROGRAM_NUMBER = 1 << 16  # of the first traced program; tracepoints are numbered from 1
_RETURN_ZERO = pack([Insn(ALU64 | MOV, R0), Insn(EXIT_PROGRAM)])


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
    handlers: tuple[ProgramHandler, ...]


def select_program_kinds(*, has_tc: bool, has_xdp: bool, tracks_skb: bool) -> list[ProgramKind]:
    """Return the types of BPF programs that this run traces.

    Args:
        has_tc: whether TC programs are traced.
        has_xdp: whether XDP programs are traced.
        tracks_skb: whether packets are tracked across programs (--filter-track-skb).

    Raises:
        KernelError: the kernel lacks fentry on BPF programs, or a privilege is missing.
    """
    fentry, fexit = AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT
    tc = ProgramKind(ProgramType.SCHED_CLS, "tc-bpf", "SchedCLS", (("trace_tc", fentry),))
    xdp = ProgramKind(ProgramType.XDP, "xdp", "XDP", (("trace_xdp", fentry),))
    if tracks_skb:
        xdp = xdp._replace(handlers=(*xdp.handlers, ("trace_xdp_exit", fexit)))
    switches = ((tc, has_tc), (xdp, has_xdp))
    kinds = [kind for kind, is_enabled in switches if is_enabled]
    if kinds:
        check_program_fentry()
    return kinds


class ProgramTracer:
    """The BPF programs that are traced; ``poll`` adds those that were loaded since.

    Args:
        kinds: program types to trace.
        loader: loads the handlers.
        log: gets the names of programs that can't be traced.
        report: gets the number that records of a program carry, and its display name.
        stop_requested: returns whether a stop was requested; True leaves the rest untraced.
        links: closes the attached links.

    Attributes:
        loaded: name of a program type -> names of the loaded programs, traced or not.
    """

    def __init__(
        self,
        kinds: Sequence[ProgramKind],
        loader: Loader,
        log: Log,
        report: AttachReport,
        stop_requested: Callable[[], bool],
        links: ExitStack,
    ) -> None:
        self._kinds = {kind.program.value: kind for kind in kinds}
        self._loader = loader
        self._log = log
        self._report = report
        self._stop_requested = stop_requested
        self._links = links
        self._last_id = 0
        self._number = _FIRST_PROGRAM_NUMBER
        self.loaded: dict[str, list[str]] = {kind.name: [] for kind in kinds}

    def poll(self) -> None:
        """Trace the programs that were loaded since the last call."""
        if not self._kinds:
            return
        try:
            self.trace_new()
        except OSError as error:
            self._log.warn(
                "New BPF programs can't be found any more", why=attach_failure_reason(error)
            )
            self._kinds = {}

    def trace_new(self) -> None:
        """Trace the programs that were loaded since the last call.

        Raises:
            OSError: no right to list programs, or too many open files.
        """
        for prog_id in bpf_info.program_ids(self._last_id):
            if self._stop_requested():
                return
            self._last_id = prog_id
            fd = bpf_info.program_open(prog_id)
            if fd is not None:
                with closing_fd(fd):
                    self._trace_new_program(fd)

    def _trace_new_program(self, fd: int) -> None:
        program = bpf_info.program_info(fd)
        kind = self._kinds.get(program.kind)
        if kind is None:
            return
        name = f"{kind.name}({program.name})#{program.id}"
        self.loaded[kind.name].append(name)
        entry = bpf_prog_names.entry_function(program)
        if entry is None:  # loaded without BTF
            self._log.info(
                "Skip tracing bpf prog because cannot find its entry function name", prog=name
            )
            return
        display = bpf_prog_names.program_display_name(program, entry)
        try:
            self._trace(kind, AttachTarget(entry.type_id, program=fd))
        except (KernelError, OSError) as error:
            self._log.warn("Skip tracing bpf prog", prog=name, why=attach_failure_reason(error))
            self._report.ignored.append((display, attach_failure_reason(error)))
        else:
            self._report.targets.add({self._number: display})
            self._report.target_count += 1
            self._number += 1

    def _trace(self, kind: ProgramKind, target: AttachTarget) -> None:
        with ExitStack() as links:
            for handler, attach in kind.handlers:
                handler_fd = self._loader.load(
                    handler,
                    ArgumentSlots(1),
                    self_id=self._number,
                    target=target._replace(attach_type=attach),
                )
                links.enter_context(closing_fd(tracing_link(handler_fd)))
            self._links.push(links.pop_all())


@contextmanager
def trace_programs(
    kinds: Sequence[ProgramKind],
    loader: Loader,
    log: Log,
    report: AttachReport,
    stop_requested: Callable[[], bool],
) -> Iterator[ProgramTracer]:
    """Trace every loaded program of these types; detach on exit.

    Args:
        kinds: of select_program_kinds(), at least one: listing programs takes CAP_SYS_ADMIN.
        loader: loads their handlers.
        log: gets the names of programs that are skipped.
        report: gets the traced programs, in addition to the functions.
        stop_requested: called before each program; True leaves the rest untraced.

    Yields:
        The traced programs.

    Raises:
        KernelError: no right to list programs.
    """
    with ExitStack() as links:
        tracer = ProgramTracer(kinds, loader, log, report, stop_requested, links)
        raise_nofile_limit()
        for kind in kinds:
            log.info(f"Attaching {kind.noun} progs...")
        try:
            tracer.trace_new()
        except OSError as error:
            raise bpf_prog_names.listing_error(error) from error
        for name, names in tracer.loaded.items():
            log.debug("Found bpf progs", names=f"[{' '.join(names)}]")
            if not names:
                log.info("No bpf progs found with type", type=name)
        yield tracer


def check_program_fentry() -> None:
    """Check that the kernel has fentry on BPF programs, by tracing a program of our own.

    Raises:
        KernelError: it has not, or refuses it to this process.
    """
    with ExitStack() as stack:
        try:
            btf_fd = stack.enter_context(closing_fd(bpf.btf_load(_PROBED_BTF)))
            probed_fd = stack.enter_context(
                closing_fd(
                    bpf.program_load(
                        ProgramType.SCHED_CLS,
                        "probed",
                        _RETURN_ZERO,
                        function_btf=FunctionBtf(btf_fd, _PROBED_TYPE_ID),
                    )
                )
            )
            fentry_fd = stack.enter_context(
                closing_fd(
                    bpf.program_load(
                        ProgramType.TRACING,
                        "probe",
                        _RETURN_ZERO,
                        target=AttachTarget(_PROBED_TYPE_ID, program=probed_fd),
                    )
                )
            )
            stack.enter_context(closing_fd(tracing_link(fentry_fd)))
        except OSError as error:
            raise KernelError(
                "Current kernel does not support fentry/fexit to run with "
                f"--filter-trace-tc/--filter-trace-xdp ({attach_failure_reason(error)}): "
                f"it needs Linux {PROGRAM_FENTRY.since}, {', '.join(PROGRAM_FENTRY.options)}, and "
                "root of the host",
                "omit these flags to trace functions only",
            ) from error


def _probe_program_fentry(kernel: object) -> str:
    check_program_fentry()
    return ""


PROGRAM_FENTRY = Feature(
    "fentry on BPF programs",
    since="5.5",
    options=("CONFIG_BPF_JIT", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"),
    probe=_probe_program_fentry,
    cost="--filter-trace-tc and --filter-trace-xdp are refused",
    is_fixed=True,
)
# BTF of ``int probed(void)``: types 1 INT, 2 FUNC_PROTO, 3 FUNC.
_PROBED_TYPE_ID = 3
_BTF_STRINGS = b"\0int\0probed\0"
_BTF_RECORDS = struct.pack("=10I", 1, 1 << 24, 4, 1 << 24 | 32, 0, 13 << 24, 1, 5, 12 << 24, 2)
_PROBED_BTF = (
    struct.pack(
        "=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(_BTF_RECORDS), len(_BTF_RECORDS), len(_BTF_STRINGS)
    )
    + _BTF_RECORDS
    + _BTF_STRINGS
)
