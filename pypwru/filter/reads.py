"""Pass 5: how the packet is read.

The helper that reads kernel memory costs a call, so it is called as seldom as possible:

- the *window*: every load at a constant offset below WINDOW_LIMIT is served by one read of a
  constant size at the head of the filter;
- a *strip*: loads at X + k with near k (two ports, the TCP flags) share one read, repeated only
  where X may have changed since. If X is the length of an IPv4 header it is 20 nearly always, and
  then the strip is a part of the window: it is copied from there, and called for only if X is not.

Reading past ``caplen`` is harmless: in an skb the linear area is followed by skb_shared_info (320
bytes), and the helper survives a fault. Whether a byte exists is decided by the bounds check of
its load, never by the read.

Establishes: every packet load has a window or strip that covers it; a strip load is marked with
whether it must call, and with whether its bounds check is still to be done.
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.filter.blocks import Block, Flow, predecessors
from pypwru.filter.cbpf import ClassicInstruction, Kind
from pypwru.filter.guards import CONSTANT_LOADS

WINDOW_LIMIT = 128
STRIP_LIMIT = 16
GRAIN = 8
"""Window sizes are multiples of this: copy_from_kernel_nofault copies eight bytes at a time."""

MOST = 16384
"""Bytes from the start of a packet that can be read when some are in fragments: GATHERED of
bpf/fragments.h."""

NO_STRIP = -1
USUAL_LENGTH = 20
"""Of an IPv4 header: without options."""


class Span(NamedTuple):
    """Bytes [low, high) from the packet's start (the window) or from X (a strip)."""

    low: int
    high: int

    @property
    def size(self) -> int:
        return self.high - self.low

    def covers(self, instruction: ClassicInstruction) -> bool:
        return self.low <= instruction.k and instruction.end <= self.high


class StripLoad(NamedTuple):
    """A load at X + k, or the check of one: from which strip, and what is left to do for it."""

    strip: int
    must_call: bool
    must_check: bool
    usual: bool
    """Whether X is the length of an IPv4 header."""


class Reads(NamedTuple):
    window: Span | None
    strips: tuple[Span, ...]
    indirect: dict[int, StripLoad]
    """By program position."""
    has_far: bool
    """Whether a constant offset lies beyond the window and is read by itself."""

    def usual_place(self, load: StripLoad) -> int | None:
        """Offset in the window of the strip of ``load`` if X is USUAL_LENGTH; None: not in it."""
        if self.window is None or not load.usual:
            return None
        strip = self.strips[load.strip]
        low, high = USUAL_LENGTH + strip.low, USUAL_LENGTH + strip.high
        return low - self.window.low if self.window.low <= low <= high <= self.window.high else None

    @property
    def calls_in_body(self) -> bool:
        """Whether registers are lost after the head of the filter."""
        return bool(self.strips) or self.has_far


class Reach(NamedTuple):
    """How far into a packet a filter reads (reach.py).

    Args:
        end: one past the last byte that can be read, MOST at most.
        beyond_headers: whether a load can read what is behind headers.
    """

    end: int
    beyond_headers: bool


NOTHING = Reach(0, beyond_headers=False)


class _Known(NamedTuple):
    """What holds on every path, for the present value of X."""

    filled: frozenset[int]
    proved: int
    """X + proved <= caplen."""
    usual: bool
    """X is four times the low half of a packet byte."""


def plan_reads(flow: Flow) -> Reads:
    """The window and strips of ``flow``."""
    constant = [i for i in flow.instructions() if i.kind in CONSTANT_LOADS]
    near = [i for i in constant if i.end <= WINDOW_LIMIT]
    strips = _group([i for i in flow.instructions() if i.kind is Kind.LOAD_INDIRECT])
    indirect = _plan_indirect(flow, strips)
    window = None
    if near:
        usual = (USUAL_LENGTH + strips[load.strip].high for load in indirect.values() if load.usual)
        ends = [*(i.end for i in near), *(end for end in usual if end <= WINDOW_LIMIT)]
        low, high = min(i.k for i in near), max(ends)
        window = Span(low, low + rounded(high - low))
    return Reads(window, strips, indirect, len(near) < len(constant))


def rounded(size: int) -> int:
    """``size`` up to a multiple of GRAIN."""
    return -(-size // GRAIN) * GRAIN


def _group(loads: list[ClassicInstruction]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for load in sorted(set(loads), key=lambda i: (i.k, i.end)):
        if spans and load.end - spans[-1].low <= STRIP_LIMIT:
            spans[-1] = Span(spans[-1].low, max(spans[-1].high, load.end))
        else:
            spans.append(Span(load.k, load.end))
    return tuple(spans)


def _plan_indirect(flow: Flow, strips: tuple[Span, ...]) -> dict[int, StripLoad]:
    """Forward must-analysis: what every path to a load has filled and proved for this X."""
    before = predecessors(flow.blocks)
    nothing = _Known(frozenset(), 0, usual=False)
    leaving: dict[int, _Known] = {}
    plan: dict[int, StripLoad] = {}
    changed = True
    while changed:
        changed = False
        for start, block in flow.blocks.items():
            # A block not yet visited promises everything; later rounds take back what is false.
            known = [leaving[p] for p in before[start] if p in leaving]
            if start == flow.entry:
                known = [nothing]
            if not known:
                continue
            after = _through(block, _meet(known), strips, plan)
            changed |= leaving.get(start) != after
            leaving[start] = after
    return plan


def _meet(known: list[_Known]) -> _Known:
    filled = frozenset.intersection(*(k.filled for k in known))
    return _Known(filled, min(k.proved for k in known), all(k.usual for k in known))


def _through(
    block: Block, known: _Known, strips: tuple[Span, ...], plan: dict[int, StripLoad]
) -> _Known:
    filled, proved, usual = known
    for position, instruction in zip(block.positions, block.instructions, strict=True):
        if instruction.kind is Kind.LOAD_INDIRECT:
            strip = next(n for n, span in enumerate(strips) if span.covers(instruction))
            must_check = instruction.end > proved
            plan[position] = StripLoad(strip, strip not in filled, must_check, usual)
            filled, proved = filled | {strip}, max(proved, instruction.end)
        elif instruction.kind is Kind.CHECK_INDIRECT:
            must_check = instruction.end > proved
            plan[position] = StripLoad(NO_STRIP, False, must_check, False)
            proved = max(proved, instruction.end)
        elif "X" in instruction.form.writes:
            filled, proved = frozenset(), 0
            usual = instruction.kind is Kind.LOAD_HEADER_LENGTH
    return _Known(filled, proved, usual)
