"""Bytecode to programs that the kernel accepted: splice filters in, fill in what is known, load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.errors import KernelError, cure
from pypwru.filter.ebpf import LD_IMM64, Insn, pack, signed_immediate
from pypwru.filter.inject import Body, inject
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachType, ProgramType, Target, VerifierError
from pypwru.kernel.bpf_objects import Runs, program_runs
from pypwru.kernel.descriptors import owned
from pypwru.program.constants import CONSTANTS, MARK
from pypwru.program.maps import MAPS
from pypwru.program.places import Places, fill, in_array, in_registers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack

_PSEUDO_MAP_FD = 1  # BPF_PSEUDO_MAP_FD
_STATISTICS = ("processed ", "verification time ", "stack depth ")  # print_verification_stats()


def relocate(
    program: Sequence[Insn], maps: Mapping[str, int], values: Mapping[str, int]
) -> list[Insn]:
    """Give every marked constant its value.

    Args:
        program: instructions; a marked constant is an ld_imm64 with MARK in its upper half.
        maps: map name -> descriptor.
        values: name of constants.CONSTANTS -> value, 64 bits.
    """
    descriptors = {MAPS[name].number: fd for name, fd in maps.items()}
    numbers = {CONSTANTS[name]: value for name, value in values.items()}
    done = list(program)
    for index, insn in enumerate(program):
        if insn.code != LD_IMM64 or program[index + 1].imm & 0xFFFFFFFF != MARK:
            continue
        upper = 0
        if insn.imm in descriptors:
            done[index] = insn._replace(src=_PSEUDO_MAP_FD, imm=descriptors[insn.imm])
        else:
            value = numbers[insn.imm]
            done[index] = insn._replace(imm=signed_immediate(value & 0xFFFFFFFF))
            upper = signed_immediate(value >> 32)
        done[index + 1] = program[index + 1]._replace(imm=upper)
    return done


class Loader:
    """Loads handlers for one session.

    Args:
        bytecode: what ``build`` made.
        bodies: marker -> what is spliced in its place.
        constants: name -> value, of those that the run fixes.
        maps: map name -> descriptor.
        stack: closes what was loaded.
    """

    def __init__(
        self,
        bytecode: Mapping[str, bytes],
        bodies: Mapping[int, Body],
        constants: Mapping[str, int],
        maps: Mapping[str, int],
        stack: ExitStack,
    ) -> None:
        self._bytecode = dict(bytecode)
        self._bodies = bodies
        self._constants = constants
        self._maps = maps
        self._stack = stack
        self._spliced: dict[str, list[Insn]] = {}
        self.programs: dict[int, str] = {}

    def add(self, bytecode: Mapping[str, bytes]) -> None:
        """More handlers."""
        self._bytecode.update(bytecode)

    def load(
        self,
        handler: str,
        places: Places,
        kind: tuple[ProgramType, AttachType] | None = None,
        number: int = 0,
        target: Target | None = None,
    ) -> int:
        """A program that runs ``handler``.

        Args:
            places: of the arguments that it reads.
            kind: what the kernel checks it as; a tracing program's is known by its target.
            number: what its records say of where they come from, if it can't ask.
            target: of a tracing program: what it hangs on.

        Returns:
            Its descriptor, closed with the session.

        Raises:
            KernelError: the verifier, or a missing right, refused it.
        """
        if target is not None:
            kind = (ProgramType.TRACING, target.attach)
        assert kind is not None, "a program has a type"
        if handler not in self._spliced:
            self._spliced[handler] = inject(self._bytecode[handler], self._bodies)
        offset = in_registers if kind[0] is ProgramType.KPROBE else in_array
        placed = fill(self._spliced[handler], places, offset)
        own = {"SELF": number, **places.asked_for()}
        code = pack(relocate(placed, self._maps, {**self._constants, **own}))
        try:
            fd = bpf.program_load(kind[0], handler, code, kind[1], target)
        except VerifierError as error:
            raise KernelError(
                f"The kernel's verifier refused {handler}: {_meaning(error.log)}; "
                "please report it with the output of --debug",
                error.log,
            ) from error
        except BlockingIOError as error:
            raise KernelError(
                f"Signals interrupted the kernel each time it checked {handler}; start pypwru again"
            ) from error
        except OSError as error:
            rights = "run as root, or with CAP_BPF and CAP_PERFMON"
            raise KernelError(
                f"The kernel refused to load {handler}: {error.strerror}; {cure(error, rights)}"
            ) from error
        self.programs[self._stack.enter_context(owned(fd))] = handler
        return fd

    def recursion_misses(self) -> dict[str, int]:
        """Runs that the kernel skipped, by handler: a program was running on that CPU already."""
        missed = dict.fromkeys(self.programs.values(), 0)
        for program, handler in self.programs.items():
            missed[handler] += bpf.program_recursion_misses(program)
        return missed

    def hits(self) -> int:
        """How often handlers of packets ran, whatever became of it, while runs were counted."""
        names = ("trace_skb", "probe_skb", "trace_tc", "trace_xdp")
        runs = self.runs().items()
        return sum(run.times for handler, run in runs if handler.startswith(names))

    def runs(self) -> dict[str, Runs]:
        """How long and how often each handler ran, all programs that run it together."""
        found: dict[str, Runs] = {}
        for program, handler in self.programs.items():
            more = program_runs(program)
            nanoseconds, times = found.get(handler, Runs(0, 0))
            found[handler] = Runs(nanoseconds + more.nanoseconds, times + more.times)
        return found


def _meaning(log: str) -> str:
    """The last line of a verifier log that says what is wrong: not its statistics, not blank."""
    lines = [line for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_STATISTICS)]
    return telling[-1].strip() if telling else "no reason given"
