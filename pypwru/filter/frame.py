"""Pass 7: the filter's part of the stack, below what the host program uses.

Establishes: an offset from r10 for everything that is kept in memory, and for nothing else.
Registers are kept in aligned 8-byte slots, which the verifier tracks. The verifier wants stack
loads aligned, packets don't care: each buffer is shifted so that the fewest of its loads have to be
done in pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import FilterError
from pypwru.filter.cbpf import Kind
from pypwru.filter.guards import CONSTANT_LOADS
from pypwru.filter.liveness import reads, writes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.filter.plan import Plan

STACK_LIMIT = -512  # MAX_BPF_STACK
SLOT = 8
UNITS = (4, 2, 1)

CAPLEN, LENGTH, TAG = "caplen", "length", "tag"
DATA = "data"
"""Added to an offset beyond the Ethernet header, it gives an address in the packet."""
NEAR = "near"
"""Added to that, it gives the address in the window: for offsets up to the end of a tag."""
SAVED_A, SAVED_X = "saved A", "saved X"
BUDGET, WINDOW, FAR = "budget", "window", "far"

Frame = dict[str, int]
"""Name -> offset from r10: the names above, "M0".."M15", "strip 0"... Absent: not needed."""


class Buffer(NamedTuple):
    """``size`` packet bytes on the stack, and the (offset, size) of every load from them."""

    name: str
    size: int
    loads: tuple[tuple[int, int], ...]


def strip_name(number: int) -> str:
    return f"strip {number}"


def lay_out(plan: Plan, stack_base: int, source: str) -> Frame:
    """The frame below ``stack_base``.

    Args:
        plan: the filter.
        stack_base: the lowest offset from r10 that the host program uses; 0 or negative.
        source: the expression, for the message.

    Raises:
        FilterError: it would reach below the 512 bytes that a program has.
    """
    frame: Frame = {}
    top = stack_base
    for name in _registers(plan):
        top = frame[name] = (top - SLOT) // SLOT * SLOT
    for name in _scratch(plan):
        top = frame[name] = (top - 4) // 4 * 4
    for buffer in _buffers(plan):
        shift = min(range(SLOT), key=lambda n: _cost(buffer, n))
        top = frame[buffer.name] = (top - buffer.size - shift) // SLOT * SLOT + shift
    if top < STACK_LIMIT:
        needed, left = stack_base - top, stack_base - STACK_LIMIT
        raise FilterError(
            f"filter '{source}' needs {needed} bytes of stack and {left} are left: "
            "shorten the filter expression, or choose fewer output options"
        )
    return frame


def pieces(offset: int, size: int, most: int = 4) -> list[tuple[int, int]]:
    """The aligned (offset, size) accesses that make up ``size`` bytes at ``offset`` from r10.

    None is larger than ``most``.
    """
    found = []
    end = offset + size
    while offset < end:
        size = next(n for n in UNITS if n <= most and offset % n == 0 and offset + n <= end)
        found.append((offset, size))
        offset += size
    return found


def _cost(buffer: Buffer, shift: int) -> int:
    return sum(len(pieces(shift + offset, size)) for offset, size in buffer.loads)


def _registers(plan: Plan) -> Iterator[str]:
    """What is kept across a helper call."""
    calls = plan.reads.calls_in_body
    if calls:
        yield DATA
    if calls or plan.reads.window:
        if plan.checks_in_body:
            yield CAPLEN
        if plan.uses_len:
            yield LENGTH
    if plan.tag_aware:
        yield TAG
        if plan.reads.strips:
            yield NEAR
    if calls:
        yield SAVED_X
    if plan.reads.has_far:
        yield SAVED_A
    if plan.loops:
        yield BUDGET


def _scratch(plan: Plan) -> list[str]:
    names = set[str]()
    for instruction in plan.flow.instructions():
        names |= {n for n in reads(instruction) | writes(instruction) if n.startswith("M")}
    return sorted(names)


def _buffers(plan: Plan) -> Iterator[Buffer]:
    window = plan.reads.window
    code = list(plan.flow.instructions())
    if window:
        constant = [i for i in code if i.kind in CONSTANT_LOADS and window.covers(i)]
        loads = tuple((i.k - window.low, i.form.size) for i in constant)
        yield Buffer(WINDOW, window.size, loads)
    for number, span in enumerate(plan.reads.strips):
        indirect = [i for i in code if i.kind is Kind.LOAD_INDIRECT and span.covers(i)]
        loads = tuple((i.k - span.low, i.form.size) for i in indirect)
        yield Buffer(strip_name(number), span.size, loads)
    if plan.reads.has_far:
        yield Buffer(FAR, 4, ((0, 4),))
