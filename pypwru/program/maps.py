"""The maps of a session, and how bytecode names them before they exist.

In C a map is an address that no kernel has, ``MARK << 32 | number``: clang makes it an ``ld_imm64``
whose upper half is MARK, and loading turns that into the map's descriptor. TRACEPOINT is a constant
of the same kind: the number by which a record names the raw tracepoint that wrote it.
"""

from __future__ import annotations

import errno
import resource
from contextlib import ExitStack, suppress
from typing import NamedTuple

from pypwru.errors import KernelError
from pypwru.events.record import COUNTERS_SIZE
from pypwru.kernel import bpf
from pypwru.kernel.bpf import MapType
from pypwru.kernel.descriptors import owned

MARK = 0x5EED0000
TRACEPOINT_NUMBER = 0x100


class Map(NamedTuple):
    """A map's shape; sizes in bytes, ``entries`` 0 is the ring buffer's ``--buffer-size``."""

    number: int
    kind: MapType
    key: int
    value: int
    entries: int
    flags: int = 0


MAPS = {
    "events": Map(1, MapType.RINGBUF, 0, 0, 0),
    "counters": Map(2, MapType.PERCPU_ARRAY, 4, COUNTERS_SIZE, 1),
    "reader": Map(3, MapType.ARRAY, 4, 8, 1, bpf.MMAPABLE),
}


_RING_CURES = {
    errno.ENOMEM: "choose a smaller --buffer-size, or raise the memory limit of this container",
    errno.E2BIG: "choose a smaller --buffer-size",
    errno.EINVAL: "choose a --buffer-size that is a power of two and a multiple of the page size",
    # Before Linux 5.11 BPF memory counts against the limit of locked memory.
    errno.EPERM: "run as root, and before Linux 5.11 with `ulimit -l unlimited`",
}


def defines() -> dict[str, str]:
    """What the C calls them."""

    def address(number: int) -> str:
        return f"0x{MARK << 32 | number:x}ULL"

    maps = {f"MAP_{name}": f"((void *){address(shape.number)})" for name, shape in MAPS.items()}
    return maps | {"TRACEPOINT": address(TRACEPOINT_NUMBER)}


def create(buffer_size: int, stack: ExitStack) -> dict[str, int]:
    """Make them all: name -> descriptor, closed with ``stack``.

    Args:
        buffer_size: bytes of the ring buffer, a power of two and a multiple of the page size.

    Raises:
        KernelError: no right, or no memory for the ring.
    """
    _lift_memlock()
    made: dict[str, int] = {}
    for name, shape in MAPS.items():
        entries = shape.entries or buffer_size
        try:
            fd = bpf.map_create(shape.kind, name, shape.key, shape.value, entries, shape.flags)
        except OSError as error:
            raise _refused(name, entries, error) from error
        made[name] = stack.enter_context(owned(fd))
    return made


def _lift_memlock() -> None:
    """Before Linux 5.11 maps and programs are locked memory, whose limit is 64 KiB (man 2 bpf)."""
    with suppress(ValueError, OSError):  # without CAP_SYS_RESOURCE; newer kernels don't care
        unlimited = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (unlimited, unlimited))


def _refused(name: str, entries: int, error: OSError) -> KernelError:
    if name == "events":
        cure = _RING_CURES.get(error.errno or 0, "choose another --buffer-size")
        return KernelError(
            f"Failed to make a ring buffer of {entries} bytes: {error.strerror}; {cure}"
        )
    return KernelError(f"Failed to make the map {name}: {error.strerror}")
