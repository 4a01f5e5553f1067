"""The wire, read from bpf/event.h: there is no second definition of it.

A record on the ring is the kernel's 8-byte header and a ``struct event``. Its four parts stay
slices of bytes until somebody wants text; event.h says why they are ordered so.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from pypwru.program.source import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

_MEMBER = re.compile(r"^\s*u(8|16|32|64) (\w+)(?:\[(\d+)\])?;", re.MULTILINE)
_CONSTANT = re.compile(r"^#define (\w+) (\d+)\b", re.MULTILINE)
_HEADER = (FOLDER / "event.h").read_text()


class Member(NamedTuple):
    """Where a member of a struct is, in bytes."""

    offset: int
    size: int


def members(struct: str) -> dict[str, Member]:
    """The members of a struct of event.h, laid out as C does: each aligned to its own type."""
    match = re.search(rf"^struct {struct} \{{(.*?)^\}};", _HEADER, re.DOTALL | re.MULTILINE)
    assert match, f"event.h has no struct {struct}"
    found: dict[str, Member] = {}
    offset = 0
    for bits, name, count in _MEMBER.findall(match[1]):
        width = int(bits) // 8
        offset = -(-offset // width) * width
        found[name] = Member(offset, width * int(count or 1))
        offset += found[name].size
    return found


def constants() -> dict[str, int]:
    """The numbers that event.h defines."""
    return {name: int(value) for name, value in _CONSTANT.findall(_HEADER)}


def size_of(struct: str) -> int:
    """Bytes of a struct of event.h, up to a multiple of eight."""
    last = list(members(struct).values())[-1]
    return -(-(last.offset + last.size) // 8) * 8


Slices = tuple[bytes, bytes, int, bytes, bytes]
"""What ``Record`` names. Off the ring come plain tuples, which C makes: at 0.1 us, not 0.3."""


class Record(NamedTuple):
    """A sight of a packet: four slices of a ``struct event``, and what the run wants behind it."""

    packet: bytes  # skb, pid, cpu, kind, comm
    func: bytes  # address, reason
    ktime: int  # CLOCK_MONOTONIC, ns
    flow: bytes  # netns .. pad
    tail: bytes = b""  # struct part_*, as events/wire.py lays them out


EVENT = members("event")
EVENT_SIZE = size_of("event")
COUNTERS = tuple(members("counters"))
COUNTERS_SIZE = size_of("counters")
READER_AWAKE = constants()["READER_AWAKE"]
READER_DOZING = constants()["READER_DOZING"]
READER_STOPPED = constants()["READER_STOPPED"]

_FUNC, _TIME, _FLOW = EVENT["address"].offset, EVENT["ktime"].offset, EVENT["netns"].offset
RING_HEADER = 8  # struct bpf_ringbuf_hdr
EVENT_COUNTERS = Struct(f"={len(COUNTERS)}Q")


def decoder(tail: int) -> Callable[[bytes], list[Slices]]:
    """What turns records as they lie on the ring, each with its header, into slices.

    Args:
        tail: bytes behind each ``struct event``.
    """
    form = Struct(f"={RING_HEADER}x{_FUNC}s{_TIME - _FUNC}sQ{EVENT_SIZE - _FLOW}s{tail}s")
    return lambda records: list(form.iter_unpack(records))
