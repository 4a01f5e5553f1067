"""The BPF maps of a session. Bytecode refers to them by placeholders, as in load_time.py."""

from __future__ import annotations

import errno
import resource
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import KernelError, remedy
from pypwru.fds import closing_fd
from pypwru.kernel import bpf
from pypwru.kernel.bpf import MapType
from pypwru.program.load_time import placeholder
from pypwru.wire.record import COUNTERS_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.needs import Needs


class MapDefinition(NamedTuple):
    """Definition of a map.

    Args:
        number: of its placeholder.
        kind: its type.
        key, value: sizes in bytes; 0 for a ring buffer.
        entries: ``max_entries``; 0 for ``--buffer-size``, the bytes of a ring buffer.
        flags: BPF_F_*.
        is_needed: returns whether a run needs it.
    """

    number: int
    kind: MapType
    key: int
    value: int
    entries: int
    flags: int = 0
    is_needed: Callable[[Needs], bool] = lambda needs: True


# LRU_HASH maps hold packets that are alive at one time, or stacks: when full, the least recently
# used entry is evicted.
# fmt: off
# ruff: noqa: E501 -- a table: one row per map
MAPS = {
    "events": MapDefinition(1, MapType.RINGBUF, 0, 0, 0),
    "counters": MapDefinition(2, MapType.PERCPU_ARRAY, 4, COUNTERS_SIZE, 1),
    "reader": MapDefinition(3, MapType.ARRAY, 4, 8, 1, bpf.MMAPABLE),
    "tracked": MapDefinition(4, MapType.LRU_HASH, 8, 8, 1 << 16, is_needed=lambda needs: needs.tracked_packets),
    "head_owners": MapDefinition(5, MapType.LRU_HASH, 8, 8, 1 << 16, is_needed=lambda needs: needs.tracked_frames),
    "stack_skb": MapDefinition(6, MapType.LRU_HASH, 8, 16, 1 << 14, is_needed=lambda needs: needs.tracked_stacks),
    "skb_stack": MapDefinition(7, MapType.LRU_HASH, 8, 8, 1 << 16, is_needed=lambda needs: needs.tracked_stacks),
    "verdicts": MapDefinition(9, MapType.LRU_HASH, 8, 88, 1 << 16, is_needed=lambda needs: needs.verdicts),
    "nft_stacks": MapDefinition(10, MapType.LRU_HASH, 8, 8, 1 << 12, is_needed=lambda needs: needs.verdicts),
    "nft_evaluations": MapDefinition(11, MapType.LRU_HASH, 8, 416, 1 << 12, is_needed=lambda needs: needs.verdicts),
    "nft_names": MapDefinition(12, MapType.LRU_HASH, 24, 512, 1 << 14, is_needed=lambda needs: needs.verdicts),
    "nft_scratch": MapDefinition(13, MapType.PERCPU_ARRAY, 4, 416, 1, is_needed=lambda needs: needs.verdicts),
    "names_scratch": MapDefinition(20, MapType.PERCPU_ARRAY, 4, 512, 1, is_needed=lambda needs: needs.verdicts),
    "nft_unhooked": MapDefinition(21, MapType.ARRAY, 4, 8, 1, is_needed=lambda needs: needs.verdicts),
    "xt_calls": MapDefinition(14, MapType.LRU_HASH, 8, 56, 1 << 12, is_needed=lambda needs: needs.verdicts),
    "packets": MapDefinition(15, MapType.RINGBUF, 0, 0, 0, is_needed=lambda needs: needs.packet_data),
    "seen": MapDefinition(16, MapType.LRU_HASH, 8, 48, 1 << 16, is_needed=lambda needs: needs.seen_map),
    "capture_points": MapDefinition(17, MapType.HASH, 8, 8, 1 << 16, is_needed=lambda needs: needs.capture_points),
    "rate": MapDefinition(18, MapType.LRU_HASH, 16, 8, 1 << 14, is_needed=lambda needs: needs.rate_limit or needs.hit_limit),  # key: target, second
    "throttled": MapDefinition(19, MapType.HASH, 8, 8, 1 << 14, is_needed=lambda needs: needs.hit_limit),  # key: target
    "linear_copies": MapDefinition(22, MapType.PERCPU_ARRAY, 4, 20488, 4, is_needed=lambda needs: needs.page_fragments),
    "bpfmap_calls": MapDefinition(8, MapType.LRU_HASH, 8, 48, 1 << 10, is_needed=lambda needs: needs.map_calls),
}
# fmt: on


_RING_CURES = {
    errno.ENOMEM: "choose a smaller --buffer-size, or raise the memory limit of this container",
    errno.E2BIG: "choose a smaller --buffer-size",
    errno.EINVAL: "choose a --buffer-size that is a power of two and a multiple of the page size",
    # Before Linux 5.11 BPF memory counts against RLIMIT_MEMLOCK.
    errno.EPERM: "run as root, and before Linux 5.11 with `ulimit -l unlimited`",
}


def defines() -> dict[str, str]:
    """Return macro name -> text, for the C: placeholder and value size of each map."""
    names = {
        f"MAP_{name}": f"((void *){placeholder(shape.number)})" for name, shape in MAPS.items()
    }
    return names | {f"VALUE_{name}": str(shape.value) for name, shape in MAPS.items()}


def create_maps(needs: Needs, buffer_size: int, stack: ExitStack) -> dict[str, int]:
    """Create the maps that a run needs.

    Args:
        needs: of the run.
        buffer_size: bytes of a ring buffer, a power of two.
        stack: owns the descriptors.

    Returns:
        Map name -> descriptor.

    Raises:
        KernelError: no right to create maps, or no memory.
    """
    lift_memlock()
    fds: dict[str, int] = {}
    for name, shape in MAPS.items():
        if not shape.is_needed(needs):
            continue
        entries = shape.entries or buffer_size
        try:
            fd = bpf.map_create(shape.kind, name, shape.key, shape.value, entries, shape.flags)
        except OSError as error:
            raise _map_create_error(name, entries, error) from error
        fds[name] = stack.enter_context(closing_fd(fd))
    return fds


def lift_memlock() -> None:
    """Lift RLIMIT_MEMLOCK, 64 KiB by default: before Linux 5.11 it limits BPF memory (bpf(2))."""
    with suppress(ValueError, OSError):  # no CAP_SYS_RESOURCE; without effect on newer kernels
        unlimited = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (unlimited, unlimited))


def _map_create_error(name: str, entries: int, error: OSError) -> KernelError:
    if MAPS[name].kind is MapType.RINGBUF:
        advice = _RING_CURES.get(error.errno or 0, "choose another --buffer-size")
        return KernelError(
            f"Failed to make a ring buffer of {entries} bytes: {error.strerror}",
            remedy(error, advice),
        )
    advice = "free some memory, or raise the memory limit of this container"
    if error.errno == errno.EPERM:
        advice = "run as root"
    return KernelError(f"Failed to make the map {name}: {error.strerror}", remedy(error, advice))
