"""Layout of the structs in bpf/event.h, which is parsed: there is no second definition.

A record on the ring is the kernel's 8-byte header, a ``struct event``, and the parts of the run
(``layout.py``). Its slices stay bytes until they are rendered as text; event.h explains their
order. All integers are in host byte order, which is little-endian, unless event.h has them in
network byte order.
"""

from __future__ import annotations

import re
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from pypwru.bpf_sources import BPF_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MEMBER_PATTERN = re.compile(r"^\s*u(8|16|32|64) (\w+)(?:\[(\d+)\])?;", re.MULTILINE)
_CONSTANT_PATTERN = re.compile(r"^#define (\w+) (\d+)\b", re.MULTILINE)
_EVENT_H = (BPF_DIR / "event.h").read_text()


class MemberLayout(NamedTuple):
    """Offset and size of a member of a struct, in bytes."""

    offset: int
    size: int

    @property
    def as_slice(self) -> slice:
        """The member's position in the bytes of its struct."""
        return slice(self.offset, self.offset + self.size)


def struct_members(struct: str) -> dict[str, MemberLayout]:
    """Return the members of a struct of event.h, laid out as in C: each aligned to its own type.

    Args:
        struct: name of the struct, without ``struct``.
    """
    match = re.search(rf"^struct {struct} \{{(.*?)^\}};", _EVENT_H, re.DOTALL | re.MULTILINE)
    assert match, f"event.h has no struct {struct}"
    found: dict[str, MemberLayout] = {}
    offset = 0
    for bits, name, count in _MEMBER_PATTERN.findall(match[1]):
        width = int(bits) // 8
        offset = -(-offset // width) * width
        found[name] = MemberLayout(offset, width * int(count or 1))
        offset += found[name].size
    return found


@cache
def header_constants() -> Mapping[str, int]:
    """Return the macros of event.h that are decimal numbers, name -> value."""
    return {name: int(value) for name, value in _CONSTANT_PATTERN.findall(_EVENT_H)}


def struct_size(struct: str) -> int:
    """Return the size of a struct of event.h in bytes, rounded up to a multiple of eight."""
    last = list(struct_members(struct).values())[-1]
    return -(-(last.offset + last.size) // 8) * 8


RawRecord = tuple[bytes, bytes, int, bytes, bytes]
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
        tail: ``struct part_*``, as ``layout.py`` lays them out.
    """

    packet: bytes
    func: bytes
    ktime: int
    flow: bytes
    tail: bytes = b""


EVENT_MEMBERS = struct_members("event")
EVENT_SIZE = struct_size("event")
COUNTER_NAMES = tuple(struct_members("counters"))
COUNTERS_SIZE = struct_size("counters")
READER_AWAKE = header_constants()["READER_AWAKE"]
READER_DOZING = header_constants()["READER_DOZING"]
READER_STOPPED = header_constants()["READER_STOPPED"]

_FUNC_OFFSET, _TIME_OFFSET, _FLOW_OFFSET = (
    EVENT_MEMBERS["address"].offset,
    EVENT_MEMBERS["ktime"].offset,
    EVENT_MEMBERS["netns"].offset,
)
RING_HEADER_SIZE = 8  # struct bpf_ringbuf_hdr
COUNTERS_STRUCT = Struct(f"={len(COUNTER_NAMES)}Q")


def make_decoder(tail_size: int) -> Callable[[bytes], list[RawRecord]]:
    """Return a function that splits contiguous records, each with its ring header, into slices.

    Args:
        tail_size: bytes behind each ``struct event``.
    """
    record_struct = Struct(
        f"={RING_HEADER_SIZE}x{_FUNC_OFFSET}s{_TIME_OFFSET - _FUNC_OFFSET}sQ"
        f"{EVENT_SIZE - _FLOW_OFFSET}s{tail_size}s"
    )
    return lambda records: list(record_struct.iter_unpack(records))
