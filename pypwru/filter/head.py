"""Pass 9a: code generation of the prologue.

It does the first bounds check, saves what must survive helper calls, and fills the header window.

On entry r1 = address of the packet (a scalar to the verifier), r2 = ``caplen``, the bytes readable
there, r3 = ``len``, r4 = the accelerated VLAN tag: 0 for none, otherwise 1 << 32 | TPID << 16 |
TCI. On exit A, X and scratch words are zero if the program relies on it. If the body has no helper
calls, r4 = ``len`` and r5 = ``caplen`` as far as they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.filter import ebpf
from pypwru.filter.blocks import NO_MATCH
from pypwru.filter.ebpf import R0, R1, R2, R3, R4, R5, R10, Assembler
from pypwru.filter.frame import BUDGET, CAPLEN, DATA, LENGTH, NEAR, TAG, WINDOW, Frame, pieces
from pypwru.filter.vlan import TAG_OFFSET, TAG_SIZE

if TYPE_CHECKING:
    from pypwru.filter.plan import Plan

A, X, LEN_KEPT, CAPLEN_KEPT = R0, R1, R4, R5

TRIPS = 64
"""Limit of backward jumps at run time. libpcap emits them for ``protochain`` only; one is taken for
each header of the chain. A packet with more extension headers does not match."""


def emit_head(asm: Assembler, plan: Plan, frame: Frame, short: int) -> None:
    """Generate the prologue.

    Args:
        asm: receives the instructions.
        plan: the filter.
        frame: its stack slots.
        short: the label to jump to if the packet is too short.
    """
    ready = asm.label()
    if plan.tag_aware:
        untagged = asm.label()
        asm.branch(ebpf.JEQ, R4, 0, untagged)
        _tagged(asm, plan, frame, short)
        asm.jump(ready)
        asm.place(untagged)
    _check_and_keep(asm, plan, frame, short)
    if DATA in frame:
        asm.store(8, R10, frame[DATA], R1)
    if NEAR in frame:
        asm.constant(R5, 0)
        asm.store(8, R10, frame[NEAR], R5)
    if plan.reads.window:
        _read(asm, R1, plan.reads.window.low, frame[WINDOW], plan.reads.window.size)
    asm.place(ready)
    if not plan.reads.calls_in_body:
        _keep_in_registers(asm, plan, frame)
    _zero(asm, plan, frame)


def _check_and_keep(asm: Assembler, plan: Plan, frame: Frame, short: int) -> None:
    if needed := plan.guards.get(plan.flow.entry):
        asm.branch(ebpf.JLT, R2, needed, short)
    if CAPLEN in frame:
        asm.store(8, R10, frame[CAPLEN], R2)
    if LENGTH in frame:
        asm.store(8, R10, frame[LENGTH], R3)


def _tagged(asm: Assembler, plan: Plan, frame: Frame, short: int) -> None:
    """Generate the header window of a frame with an accelerated tag: MAC addresses, tag, rest.

    Behind the tag, offset n of the frame is at address r1 - 4 + n.
    """
    window, at = plan.reads.window, frame[WINDOW]
    assert window is not None
    asm.add(R2, TAG_SIZE)
    _check_and_keep(asm, plan, frame, short)
    asm.store(8, R10, frame[TAG], R4)
    if DATA in frame:
        asm.move(R5, R1)
        asm.add(R5, -TAG_SIZE)
        asm.store(8, R10, frame[DATA], R5)
    if NEAR in frame:
        asm.move(R2, R10)
        asm.add(R2, at)
        asm.forget_pointer(R2)
        asm.subtract_register(R2, R5)
        asm.store(8, R10, frame[NEAR], R2)
    _read(asm, R1, window.low, at + TAG_SIZE, window.size - TAG_SIZE)
    copy(asm, at, at + TAG_SIZE, TAG_OFFSET - window.low)
    asm.load(8, R2, R10, frame[TAG])
    asm.from_big_endian(R2, 4)  # on a little-endian machine its own inverse
    _store_word(asm, at + TAG_OFFSET - window.low)


def copy(asm: Assembler, to: int, start: int, size: int) -> None:
    """Generate a copy of stack memory; r2 is clobbered.

    Args:
        asm: receives the instructions.
        to, start: destination and source, as offsets from r10.
        size: in bytes.
    """
    unit = next(n for n in (4, 2, 1) if (start - to) % n == 0)
    for offset, length in pieces(to, size, unit):
        asm.load(length, R2, R10, offset - to + start)
        asm.store(length, R10, offset, R2)


def _store_word(asm: Assembler, offset: int) -> None:
    """Generate a store of r2 as u32 to the stack at ``offset``, aligned or not; r2 is clobbered."""
    for where, size in pieces(offset, 4):
        asm.store(size, R10, where, R2)
        if where + size < offset + 4:
            asm.alu32(ebpf.RSH, R2, 8 * size)


def _read(asm: Assembler, data: int, skip: int, to: int, size: int) -> None:
    """Generate a read of the packet to the stack; on a fault the filter does not match.

    Args:
        asm: receives the instructions.
        data: the register with the address.
        skip: added to it, in bytes.
        to: destination, as an offset from r10.
        size: in bytes.
    """
    asm.move(R3, data)
    asm.add(R3, skip)
    call_read(asm, to, size)


def call_read(asm: Assembler, to: int, size: int) -> None:
    """Generate a read of ``size`` bytes at the address in r3 to r10 + ``to``.

    On a fault the filter does not match. r0-r5 are clobbered.
    """
    asm.move(R1, R10)
    asm.add(R1, to)
    asm.constant(R2, size)
    asm.call(ebpf.PROBE_READ_KERNEL)
    asm.branch(ebpf.JNE, R0, 0, NO_MATCH)


def _keep_in_registers(asm: Assembler, plan: Plan, frame: Frame) -> None:
    if plan.uses_len:
        if LENGTH in frame:
            asm.load(8, LEN_KEPT, R10, frame[LENGTH])
        else:
            asm.move(LEN_KEPT, R3)
    if CAPLEN in frame:
        asm.load(8, CAPLEN_KEPT, R10, frame[CAPLEN])
    elif plan.checks_in_body:
        asm.move(CAPLEN_KEPT, R2)


def _zero(asm: Assembler, plan: Plan, frame: Frame) -> None:
    if plan.loops:
        # From a register: before Linux 6.8 the verifier does not track the value of an immediate
        # store to the stack, and would reject the loop as unbounded.
        asm.constant(R2, TRIPS)
        asm.store(8, R10, frame[BUDGET], R2)
    live = plan.liveness.at_entry
    words = sorted(live - {"A", "X"})
    if words:
        asm.constant(R2, 0)
    for word in words:
        asm.store(4, R10, frame[word], R2)
    for name, register in (("A", A), ("X", X)):
        if name in live:
            asm.constant(register, 0)
