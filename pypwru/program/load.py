"""Bytecode to programs that the kernel accepted: splice the filter in, fill in the maps, load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from pypwru.errors import KernelError
from pypwru.filter.compiler import Filter
from pypwru.filter.ebpf import LD_IMM64, Insn, pack, signed_immediate
from pypwru.filter.inject import inject
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachType, ProgramType, VerifierError
from pypwru.kernel.descriptors import owned
from pypwru.program.maps import MAPS, MARK, TRACEPOINT_NUMBER

_PSEUDO_MAP_FD = 1  # BPF_PSEUDO_MAP_FD
_STATISTICS = ("processed ", "verification time ", "stack depth ")  # print_verification_stats()


def relocate(program: Sequence[Insn], maps: Mapping[str, int], tracepoint: int) -> list[Insn]:
    """Give every marked constant its value.

    Args:
        program: instructions; a marked constant is an ld_imm64 with MARK in its upper half.
        maps: map name -> descriptor.
        tracepoint: what TRACEPOINT stands for.
    """
    descriptors = {shape.number: maps[name] for name, shape in MAPS.items()}
    done = list(program)
    for index, insn in enumerate(program):
        if insn.code != LD_IMM64 or program[index + 1].imm & 0xFFFFFFFF != MARK:
            continue
        if insn.imm == TRACEPOINT_NUMBER:
            done[index] = insn._replace(imm=signed_immediate(tracepoint))
        else:
            done[index] = insn._replace(src=_PSEUDO_MAP_FD, imm=descriptors[insn.imm])
        done[index + 1] = program[index + 1]._replace(imm=0)
    return done


class Loader:
    """Loads handlers for one session.

    Args:
        bytecode: what ``build`` made.
        packet_filter: spliced into every handler.
        maps: map name -> descriptor.
        kind, attach: what the kernel checks the programs as.
        stack: closes what was loaded.
    """

    def __init__(
        self,
        bytecode: Mapping[str, bytes],
        packet_filter: Filter,
        maps: Mapping[str, int],
        kind: ProgramType,
        attach: AttachType,
        stack: ExitStack,
    ) -> None:
        self._bytecode = bytecode
        self._filter = packet_filter
        self._maps = maps
        self._kind = kind
        self._attach = attach
        self._stack = stack
        self._spliced: dict[str, list[Insn]] = {}
        self.programs: dict[int, str] = {}

    def load(self, position: int, reason: int, tracepoint: int = 0) -> int:
        """The program for an skb in argument ``position`` and a drop reason in ``reason`` (0:
        none).

        Returns:
            Its descriptor.

        Raises:
            KernelError: the verifier, or a missing right, refused it.
        """
        name = f"trace_skb_{position}"
        with_reason = f"{name}_reason_{reason}"
        if with_reason in self._bytecode:
            name = with_reason
        if name not in self._spliced:
            self._spliced[name] = inject(self._bytecode[name], self._filter)
        code = pack(relocate(self._spliced[name], self._maps, tracepoint))
        try:
            fd = bpf.program_load(self._kind, name, code, self._attach)
        except VerifierError as error:
            raise KernelError(
                f"The kernel's verifier refused {name}: {_meaning(error.log)}; "
                "please report it with the output of --debug",
                error.log,
            ) from error
        except OSError as error:
            raise KernelError(
                f"The kernel refused to load {name}: {error.strerror}; "
                "run as root, or with CAP_BPF and CAP_PERFMON"
            ) from error
        self.programs[self._stack.enter_context(owned(fd))] = name
        return fd

    def recursion_misses(self) -> int:
        """Runs that the kernel skipped since a program of ours was interrupted on that CPU."""
        return sum(map(bpf.program_recursion_misses, self.programs))


def _meaning(log: str) -> str:
    """The last line of a verifier log that says what is wrong: not its statistics, not blank."""
    lines = [line for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_STATISTICS)]
    return telling[-1].strip() if telling else "no reason given"
