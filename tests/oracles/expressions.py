"""gcc and the kernel as oracles of an expression over the same bytes.

A memory is a ``struct sk_buff`` of the test's own and two ``struct other`` behind it, full of
random bytes. A pointer in it is a small number that both oracles replace by the address that it
stands for; any other number stays as it is, an address that can't be read.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pypwru.asm import ebpf
from pypwru.asm.ebpf import R0, R1, R2, R3, R4, R5, R6, R7, R10, Assembler, Insn
from pypwru.btf import load
from pypwru.btf.members import find_member
from pypwru.btf.query import BTF
from pypwru.btf.types import Kind
from pypwru.expr import Expression
from pypwru.kernel import bpf
from tests.support.need import need

BATCH = 32
"""Expressions of a program, one bit of its result each."""
PACKET = 16
"""Offset of the memory in a packet: behind bytes that look like an Ethernet header."""
_DATA, _WORD, _LOWEST = -8, -16, -16
_SKB_STORE_BYTES = 9

PRELUDE = r"""
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32;
typedef unsigned long u64; typedef signed char s8; typedef short s16; typedef int s32;
typedef long s64; typedef u16 __be16; typedef u32 __be32; typedef u64 __be64;
static char memory[8192];
static jmp_buf unreadable;
/* A pointer that is followed must lead to the memory. */
#define D(p) ({ __auto_type _p = (p); \
    if ((char *)_p < memory || (char *)_p >= memory + sizeof memory) longjmp(unreadable, 1); _p; })
/* Widened to 64 bits with its value. */
#define W(x) _Generic((x), unsigned long: (x), default: (long)(x))
#define NOT(x) _Generic((x), unsigned int: (unsigned int)~(x), default: ~W(x))
#define DIV(a, b) ({ __auto_type _a = (a); __auto_type _b = (b); \
    __typeof__(_a + _b) _l = _a, _r = _b; \
    _r == 0 ? 0 : (__typeof__(_l))-1 < 0 && _r == -1 ? -_l : _l / _r; })
#define MOD(a, b) ({ __auto_type _a = (a); __auto_type _b = (b); \
    __typeof__(_a + _b) _l = _a, _r = _b; \
    _r == 0 ? _l : (__typeof__(_l))-1 < 0 && _r == -1 ? 0 : _l % _r; })
#define SAME(p, text) (!strcmp(D(p), text))
#define IS(s, text) (!strncmp((const char *)(s), text, sizeof(s)))
"""


class Case(NamedTuple):
    """One expression: for pypwru, and in C with PRELUDE."""

    text: str
    c: str


class Layout(NamedTuple):
    """C declarations of ``struct other`` and ``struct sk_buff``."""

    declarations: str


class Gcc:
    """A layout compiled by gcc.

    Args:
        layout: declarations.
        folder: for the files.
    """

    def __init__(self, layout: Layout, folder: Path) -> None:
        need(shutil.which("gcc"), "gcc (Debian's package gcc)")
        self._layout = layout
        self._folder = folder
        source, binary = folder / "types.c", folder / "types.o"
        source.write_text(
            f"{PRELUDE}{layout.declarations}\n"
            "struct sk_buff first; struct other second; enum big third;\n"
        )
        self._run("-c", "-gbtf", source, "-o", binary)
        self.btf = load.load_vmlinux(binary)

    def _run(self, *arguments: str | Path) -> None:
        subprocess.run(
            [
                "gcc",
                "-w",
                "-Wno-packed-bitfield-compat",
                "-fwrapv",
                "-fno-strict-aliasing",
                *arguments,
            ],
            check=True,
            text=True,
        )

    def verdicts(self, cases: Sequence[Case], memories: Sequence[bytes]) -> list[list[bool]]:
        """Return for each memory the verdict of each expression."""
        functions = "".join(
            f"static int e{number}(struct sk_buff *skb) {{ return !!({one.c}); }}\n"
            for number, one in enumerate(cases)
        )
        table = ", ".join(f"e{number}" for number in range(len(cases)))
        source, binary = self._folder / "reference.c", self._folder / "reference"
        source.write_text(
            PRELUDE + self._layout.declarations + functions + self._main(table, len(memories[0]))
        )
        self._run("-O1", source, "-o", binary)
        done = subprocess.run([binary], input=b"".join(memories), capture_output=True, check=True)
        return [[sign == "1" for sign in line] for line in done.stdout.decode().split()]

    def _main(self, table: str, size: int) -> str:
        fixes = "".join(
            f"    {{ u64 *p = (u64 *)(memory + {at}); if (*p == {number}) "
            f"*p = (u64)memory + {target}; }}\n"
            for at, number, target in fixes_of(self.btf)
        )
        return f"""
static int (*const table[])(struct sk_buff *) = {{ {table} }};
int main(void)
{{
    while (fread(memory, {size}, 1, stdin) == 1) {{
{fixes}
        for (unsigned long n = 0; n < sizeof table / sizeof *table; n++)
            putchar(setjmp(unreadable) ? '0' : '0' + table[n]((void *)memory));
        putchar('\\n');
    }}
}}
"""


def object_offsets(btf: BTF) -> tuple[int, int, int, int]:
    """Return the offsets of the memory's three objects, and its size."""
    sizes = [btf.size(btf.find(name, Kind.STRUCT)[0]) for name in ("sk_buff", "other", "other")]
    ends = [0]
    for size in sizes:
        ends.append((ends[-1] + size + 15) // 16 * 16)
    return ends[0], ends[1], ends[2], ends[3]


def fixes_of(btf: BTF) -> list[tuple[int, int, int]]:
    """Return of every pointer its offset, the number that stands for an address, and its target."""
    root, one, two, _ = object_offsets(btf)
    links = [(root + find_member(btf, "sk_buff", name).offset, "other") for name in ("to", "also")]
    links += [(start + find_member(btf, "other", "next").offset, "other") for start in (one, two)]
    links += [(start + find_member(btf, "other", "back").offset, "sk_buff") for start in (one, two)]
    links.append((root + find_member(btf, "sk_buff", "label").offset, "char"))
    text = root + find_member(btf, "sk_buff", "text").offset
    targets = {
        "other": ((1, one), (2, two)),
        "sk_buff": ((1, root),),
        "char": ((1, text), (2, text + 3)),
    }
    return [(at, number, target) for at, kind in links for number, target in targets[kind]]


class Kernel:
    """Expressions run by this machine's kernel, up to BATCH at once, as a sched_cls program.

    It replaces the pointers in the packet, then runs each expression on the packet's address, a
    mere number to the verifier, as an skb is in a kprobe.
    """

    def __init__(self, expressions: Sequence[Expression], btf: BTF) -> None:
        assert len(expressions) <= BATCH
        program = _harness(expressions, btf)
        self.instructions = len(program)
        self.fd = bpf.program_load(bpf.ProgramType.SCHED_CLS, "expr_reference", ebpf.pack(program))

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def run(self, memory: bytes) -> int:
        """Return one bit for each expression."""
        return bpf.program_test_run(self.fd, bytes(PACKET) + memory)


def _harness(expressions: Sequence[Expression], btf: BTF) -> list[Insn]:
    asm = Assembler()
    asm.move(R6, R1)
    _data(asm)
    for at, number, target in fixes_of(btf):
        _fix(asm, at, number, target)
    _data(asm)
    asm.constant(R7, 0)
    program = asm.finish()
    for number, expression in enumerate(expressions):
        before, after = Assembler(), Assembler()
        before.load(8, R1, R10, _DATA)
        before.add(R1, PACKET)
        after_label = after.new_label()
        after.branch(ebpf.JEQ, R0, 0, after_label)
        after.alu32(ebpf.OR, R7, 1 << number)
        after.bind_label(after_label)
        program += [*before.finish(), *expression.body(_LOWEST), *after.finish()]
    end = Assembler()
    end.move(R0, R7)
    return [*program, *end.finish(), Insn(ebpf.EXIT_PROGRAM)]


def _data(asm: Assembler) -> None:
    """Load the packet's address into its slot."""
    _read(asm, _DATA, R6, find_member(load.load_vmlinux(), "sk_buff", "data").offset)


def _fix(asm: Assembler, at: int, number: int, target: int) -> None:
    """Where the memory's word ``at`` is ``number``, make it the address of ``target``."""
    other = asm.new_label()
    asm.load(8, R3, R10, _DATA)
    _read(asm, _WORD, R3, PACKET + at)
    asm.load(8, R0, R10, _WORD)
    asm.branch(ebpf.JNE, R0, number, other)
    asm.load(8, R0, R10, _DATA)
    asm.add(R0, PACKET + target)
    asm.store(8, R10, _WORD, R0)
    asm.move(R1, R6)
    asm.constant(R2, PACKET + at)
    asm.move(R3, R10)
    asm.add(R3, _WORD)
    asm.constant(R4, 8)
    asm.constant(R5, 0)
    asm.call(_SKB_STORE_BYTES)
    asm.bind_label(other)


def _read(asm: Assembler, to: int, base: int, offset: int) -> None:
    asm.move(R3, base)
    asm.add(R3, offset)
    asm.move(R1, R10)
    asm.add(R1, to)
    asm.constant(R2, 8)
    asm.call(ebpf.PROBE_READ_KERNEL)


def memory_of(btf: BTF, content: bytes, pointers: Sequence[int]) -> bytes:
    """Cut ``content`` to a memory, with ``pointers`` as its pointers' numbers."""
    size = object_offsets(btf)[3]
    memory = bytearray((content * (size // max(len(content), 1) + 1))[:size].ljust(size, b"\0"))
    for at, number in zip(sorted({fix[0] for fix in fixes_of(btf)}), pointers, strict=True):
        memory[at : at + 8] = struct.pack("<Q", number)
    return bytes(memory)
