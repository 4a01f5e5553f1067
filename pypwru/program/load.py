"""Loading of handlers: splice filters in, patch arguments, maps and constants, load the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.asm.ebpf import LD_IMM64, Insn, pack, signed_immediate
from pypwru.discovery.argument_slots import (
    ArgumentSlots,
    patch_arguments,
    pt_regs_offset,
    tracing_ctx_offset,
)
from pypwru.discovery.handlers import PACKET_HANDLERS
from pypwru.errors import KernelError, remedy
from pypwru.fds import closing_fd
from pypwru.filter.splice import Body, splice_all
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachTarget, AttachType, ProgramType, VerifierError
from pypwru.kernel.bpf_info import RunStats, program_run_stats
from pypwru.program.load_time import CONSTANTS, PLACEHOLDER
from pypwru.program.maps import MAPS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack

    from pypwru.program.debug_files import DebugFiles

_PSEUDO_MAP_FD = 1  # BPF_PSEUDO_MAP_FD
_STATISTICS_PREFIXES = (
    "processed ",
    "verification time ",
    "stack depth ",
)  # print_verification_stats()


def relocate(
    program: Sequence[Insn], maps: Mapping[str, int], values: Mapping[str, int]
) -> list[Insn]:
    """Replace every placeholder by its value, and every map placeholder by a map reference.

    Args:
        program: instructions; a placeholder is an ld_imm64 with PLACEHOLDER in its upper 32 bits.
        maps: map name -> descriptor.
        values: name in ``load_time.CONSTANTS`` -> u64 value.

    Returns:
        New instructions.
    """
    descriptors = {MAPS[name].number: fd for name, fd in maps.items()}
    values_by_number = {CONSTANTS[name]: value for name, value in values.items()}
    patched = list(program)
    for index, insn in enumerate(program):
        if insn.code != LD_IMM64 or program[index + 1].imm & 0xFFFFFFFF != PLACEHOLDER:
            continue
        upper = 0
        if insn.imm in descriptors:
            patched[index] = insn._replace(src=_PSEUDO_MAP_FD, imm=descriptors[insn.imm])
        else:
            value = values_by_number[insn.imm]
            patched[index] = insn._replace(imm=signed_immediate(value & 0xFFFFFFFF))
            upper = signed_immediate(value >> 32)
        patched[index + 1] = program[index + 1]._replace(imm=upper)
    return patched


class Loader:
    """Loader of the handlers of one session.

    Args:
        bytecode: result of ``build``; copied.
        bodies: marker -> body that is spliced in its place.
        constants: name in ``load_time.CONSTANTS`` -> u64 value, those that are fixed for the run.
        maps: map name -> descriptor.
        stack: owns the descriptors of the loaded programs.
        debug_files: get the disassembly of each handler, and the logs of the verifier; None
            without --debug.
    """

    def __init__(
        self,
        bytecode: Mapping[str, bytes],
        bodies: Mapping[int, Body],
        constants: Mapping[str, int],
        maps: Mapping[str, int],
        stack: ExitStack,
        debug_files: DebugFiles | None = None,
    ) -> None:
        self._bytecode = dict(bytecode)
        self._bodies = bodies
        self._constants = constants
        self._maps = maps
        self._stack = stack
        self._debug_files = debug_files
        self._disassembled: set[str] = set()
        self._spliced: dict[str, list[Insn]] = {}
        self.programs: dict[int, str] = {}

    def add(self, bytecode: Mapping[str, bytes]) -> None:
        """Add handlers, result of ``build``."""
        self._bytecode.update(bytecode)

    def load(
        self,
        handler: str,
        slots: ArgumentSlots,
        kind: tuple[ProgramType, AttachType] | None = None,
        self_id: int = 0,
        target: AttachTarget | None = None,
    ) -> int:
        """Load a program that runs ``handler``.

        Args:
            handler: its name in the bytecode.
            slots: positions of the arguments that it reads.
            kind: program type and attach type; None if ``target`` is given.
            self_id: value of SELF: identifies the target in records if the program can't read its
                own address.
            target: attach target of a tracing program.

        Returns:
            Its descriptor, owned by the session's stack.

        Raises:
            KernelError: the verifier rejected it, or the kernel refused to load it.
        """
        if target is not None:
            kind = (ProgramType.TRACING, target.attach_type)
        assert kind is not None, "a program has a type"
        if handler not in self._spliced:
            self._spliced[handler] = splice_all(self._bytecode[handler], self._bodies)
        offset = pt_regs_offset if kind[0] is ProgramType.KPROBE else tracing_ctx_offset
        patched = patch_arguments(self._spliced[handler], slots, offset)
        per_program = {"SELF": self_id, **slots.argument_indexes()}
        program = relocate(patched, self._maps, {**self._constants, **per_program})
        if self._debug_files is not None and handler not in self._disassembled:
            self._keep_disassembly(handler, program)
        try:
            fd = bpf.program_load(kind[0], handler, pack(program), kind[1], target)
        except VerifierError as error:
            if self._debug_files is not None:
                self._keep_disassembly(handler, program)  # the first one's arguments may differ
                self._debug_files.write(f"{handler}.verifier.log", error.log)
            raise KernelError(
                f"The kernel's verifier refused {handler}: {_explain_verifier_error(error.log)}",
                "please report it with the output and the files of --debug",
                error.log,
            ) from error
        except BlockingIOError as error:
            raise KernelError(
                f"Signals interrupted the kernel each time it checked {handler}",
                "start pypwru again",
            ) from error
        except OSError as error:
            rights = "run as root, or with CAP_BPF and CAP_PERFMON"
            raise KernelError(
                f"The kernel refused to load {handler}: {error.strerror}", remedy(error, rights)
            ) from error
        self.programs[self._stack.enter_context(closing_fd(fd))] = handler
        return fd

    def _keep_disassembly(self, handler: str, program: Sequence[Insn]) -> None:
        """Keep the disassembly of ``program`` in the debug files, as that of ``handler``."""
        from pypwru.asm.disassembly import disassemble

        assert self._debug_files is not None, "only --debug disassembles"
        self._disassembled.add(handler)
        names = {fd: name for name, fd in self._maps.items()}
        self._debug_files.write(f"{handler}.ebpf", f"{disassemble(program, names)}\n")

    def recursion_misses(self) -> dict[str, int]:
        """Return handler -> runs that the kernel skipped, since it was running on that CPU."""
        missed = dict.fromkeys(self.programs.values(), 0)
        for program, handler in self.programs.items():
            missed[handler] += bpf.program_recursion_misses(program)
        return missed

    def hits(self) -> int:
        """Return the number of hits: runs of packet handlers, with and without a match.

        Counted only while BPF statistics were enabled (``enable_bpf_stats``).
        """
        stats = self.run_stats().items()
        return sum(stat.run_count for handler, stat in stats if handler in PACKET_HANDLERS)

    def run_stats(self) -> dict[str, RunStats]:
        """Return handler -> run statistics, summed over all programs that run it."""
        found: dict[str, RunStats] = {}
        for program, handler in self.programs.items():
            added = program_run_stats(program)
            run_time_ns, run_count = found.get(handler, RunStats(0, 0))
            found[handler] = RunStats(run_time_ns + added.run_time_ns, run_count + added.run_count)
        return found


def _explain_verifier_error(log: str) -> str:
    """Return the last line of a verifier log that is neither blank nor statistics: the error."""
    lines = [line for line in log.splitlines() if line.strip()]
    messages = [line for line in lines if not line.startswith(_STATISTICS_PREFIXES)]
    return messages[-1].strip() if messages else "no reason given"
