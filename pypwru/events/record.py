"""Layout of the structs in bpf/event.h, which is parsed: there is no second definition.

A record on the ring is the kernel's 8-byte header, a ``struct event``, and the parts of the run
(``wire``). Its slices stay bytes until they are rendered as text; event.h explains their order.
All integers are in host byte order, which is little-endian, unless event.h has them in network
byte order.
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
    """Offset and size of a member of a struct, in bytes."""

    offset: int
    size: int


def members(struct: str) -> dict[str, Member]:
    """Return the members of a struct of event.h, laid out as in C: each aligned to its own type.

    Args:
        struct: name of the struct, without ``struct``.
    """
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
    """Return the macros of event.h that are decimal numbers, name -> value."""
    return {name: int(value) for name, value in _CONSTANT.findall(_HEADER)}


def size_of(struct: str) -> int:
    """Return the size of a struct of event.h in bytes, rounded up to a multiple of eight."""
    last = list(members(struct).values())[-1]
    return -(-(last.offset + last.size) // 8) * 8


Slices = tuple[bytes, bytes, int, bytes, bytes]
"""A record as it comes from the ring, with the fields of ``Record`` by position.

A plain tuple, since struct.iter_unpack() makes one in 0.1 us, and a NamedTuple takes 0.3 us.
"""


class Record(NamedTuple):
    """A record: the slices of its ``struct event``, and the parts of the run behind it.

    Args:
        packet: ``skb``, ``pid``, ``cpu``, ``kind``, ``comm``, ``start_stack``.
        func: ``address``, ``reason``.
        ktime: CLOCK_MONOTONIC, ns.
        flow: ``netns`` to ``pad``.
        tail: ``struct part_*``, as ``wire`` lays them out.
    """

    packet: bytes
    func: bytes
    ktime: int
    flow: bytes
    tail: bytes = b""


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
    """Return a function that splits contiguous records, each with its ring header, into slices.

    Args:
        tail: bytes behind each ``struct event``.
    """
    form = Struct(f"={RING_HEADER}x{_FUNC}s{_TIME - _FUNC}sQ{EVENT_SIZE - _FLOW}s{tail}s")
    return lambda records: list(form.iter_unpack(records))
