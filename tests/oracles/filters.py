"""Oracles of whether a packet matches: libpcap's interpreter, tcpdump, the kernel.

None of them uses libpcap's optimizer, whose mistakes all of them would share.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pypwru.asm import ebpf
from pypwru.asm.cbpf import SCRATCH_WORDS, ClassicInstruction
from pypwru.asm.ebpf import R0, R1, R2, R3, R4, R6, R10, Assembler, Insn
from pypwru.btf.load import load_vmlinux
from pypwru.btf.members import find_member
from pypwru.filter.pcap import NETMASK_UNKNOWN, SNAPLEN, Linktype
from pypwru.filter.program import FilterProgram
from pypwru.filter.splice import splice
from pypwru.kernel import bpf

STORE = 0x02
PCAP_HEADER = 24
PCAP_RECORD = struct.Struct("<IIII")


class Packet(NamedTuple):
    """``data`` is what was captured of ``length`` bytes; ``tag`` as the filter's argument."""

    data: bytes
    length: int
    tag: int = 0


class Libpcap:
    """libpcap's own interpreter, ``bpf_filter(3)``, of one program.

    Before 1.10.6 it began with undefined scratch memory, which ``not (geneve or ip)`` reads; so the
    program is run behind instructions that store zeros there, as it does by itself since.
    """

    def __init__(self, instructions: Sequence[ClassicInstruction]) -> None:
        from scapy.libs import winpcapy
        from scapy.libs.structures import bpf_insn

        zeros = (ClassicInstruction(STORE, 0, 0, word) for word in range(SCRATCH_WORDS))
        code = [bpf_insn(i.code, i.jt, i.jf, i.k) for i in (*zeros, *instructions)]
        self.program = (bpf_insn * len(code))(*code)
        self._run = winpcapy._lib.bpf_filter
        self._run.restype = ctypes.c_uint32
        self._validate = winpcapy._lib.bpf_validate

    def is_valid(self) -> bool:
        return bool(self._validate(self.program, len(self.program)))

    def matches(self, packet: Packet) -> bool:
        return bool(self._run(self.program, packet.data, packet.length, len(packet.data)))


def optimized_by_libpcap(expression: str, linktype: Linktype) -> list[ClassicInstruction]:
    """Return what libpcap's own optimizer makes of ``expression``.

    Raises:
        ValueError: libpcap refuses the expression; the message is libpcap's.
    """
    from scapy.libs import winpcapy
    from scapy.libs.structures import bpf_program

    handle = winpcapy.pcap_open_dead(linktype.value, SNAPLEN)
    program = bpf_program()
    text = os.fsencode(expression)
    if winpcapy.pcap_compile(handle, ctypes.byref(program), text, 1, NETMASK_UNKNOWN):
        raise ValueError(winpcapy.pcap_geterr(handle))
    code = program.bf_insns[: program.bf_len]
    return [ClassicInstruction(i.code, i.jt, i.jf, i.k & 0xFFFFFFFF) for i in code]


def expressions() -> list[str]:
    """Return the expressions of filter_expressions.txt."""
    lines = Path(__file__).with_name("filter_expressions.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def write_pcap(path: Path, packets: Sequence[Packet], linktype: Linktype) -> None:
    """A capture whose packet n was seen n seconds after the epoch."""
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, linktype.value)
    records = (
        PCAP_RECORD.pack(number, 0, len(packet.data), packet.length) + packet.data
        for number, packet in enumerate(packets)
    )
    path.write_bytes(header + b"".join(records))


def tcpdump_matches(path: Path, expression: str) -> set[int]:
    """The numbers of the packets of the capture that ``tcpdump -O`` lets through."""
    command = ["tcpdump", "-O", "-r", os.fspath(path), "-w", "-", "--", expression]
    capture = subprocess.run(command, capture_output=True, check=True).stdout
    found, position = set(), PCAP_HEADER
    while position < len(capture):
        seconds, _, size, _ = PCAP_RECORD.unpack_from(capture, position)
        found.add(seconds)
        position += PCAP_RECORD.size + size
    return found


PREFIX = struct.Struct("<IIQ")
"""Before each packet: its captured length, its length, its tag."""
LONGEST = 65535
BATCH = 32
"""Filters a program, one bit of its result each."""
_MARKER = 0x5EED2000
_DATA, _CAPLEN, _LENGTH, _TAG, _LOWEST = -8, -24, -20, -16, -24


class Kernel:
    """Filters run by this machine's kernel, up to BATCH at once, as a sched_cls program.

    The address of the packet is read from the sk_buff, so it is a scalar to the verifier, as it is
    in a kprobe.
    """

    def __init__(self, translations: Sequence[FilterProgram]) -> None:
        assert len(translations) <= BATCH
        program = _harness(len(translations))
        for number, translation in enumerate(translations):
            program = splice(program, _MARKER + number, translation, stack_base=_LOWEST)
        self.instructions = len(program)
        code = ebpf.pack(program)
        self.fd = bpf.program_load(bpf.ProgramType.SCHED_CLS, "filter_ref", code)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def run(self, packet: Packet, repeat: int = 1) -> int:
        """One bit for each filter."""
        prefix = PREFIX.pack(len(packet.data), packet.length, packet.tag)
        return bpf.program_test_run(self.fd, prefix + packet.data, repeat)


def kernel_verdicts(
    translations: Sequence[FilterProgram], packets: Sequence[Packet]
) -> Iterable[list[bool]]:
    """For each filter, a verdict on each packet."""
    for start in range(0, len(translations), BATCH):
        batch = translations[start : start + BATCH]
        with Kernel(batch) as kernel:
            results = [kernel.run(packet) for packet in packets]
        for number in range(len(batch)):
            yield [bool(result >> number & 1) for result in results]


@functools.cache
def _data_offset() -> int:
    """Return the offset of sk_buff.data in this kernel."""
    return find_member(load_vmlinux(), "sk_buff", "data").offset


def _harness(filters: int) -> list[Insn]:
    """sched_cls: r1 is the sk_buff. Its data begins with a PREFIX."""
    asm = Assembler()
    _read(asm, _DATA, 8, R1, _data_offset())
    asm.load(8, R1, R10, _DATA)
    _read(asm, _CAPLEN, PREFIX.size, R1, 0)
    end = asm.new_label()
    asm.constant(R6, 0)
    asm.load(4, R1, R10, _CAPLEN)
    asm.branch(ebpf.JGT, R1, LONGEST, end)  # a jump over everything that is spliced in
    for number in range(filters):
        asm.load(8, R1, R10, _DATA)
        asm.add(R1, PREFIX.size)
        asm.load(4, R2, R10, _CAPLEN)
        asm.load(4, R3, R10, _LENGTH)
        asm.load(8, R4, R10, _TAG)
        asm.call(_MARKER + number)
        skip = asm.new_label()
        asm.branch32(ebpf.JEQ, R0, 0, skip)  # bit 32: bytes are missing
        asm.alu32(ebpf.OR, R6, 1 << number)
        asm.bind_label(skip)
    asm.bind_label(end)
    asm.move(R0, R6)
    return [*asm.finish(), Insn(ebpf.EXIT_PROGRAM)]


def _read(asm: Assembler, to: int, size: int, base: int, offset: int) -> None:
    asm.move(R3, base)
    asm.add(R3, offset)
    asm.move(R1, R10)
    asm.add(R1, to)
    asm.constant(R2, size)
    asm.call(ebpf.PROBE_READ_KERNEL)
