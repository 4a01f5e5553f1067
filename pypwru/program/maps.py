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
    from collections.abc import Callable, Collection

    from pypwru.config import Config


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
    is_needed: Callable[[Config], bool] = lambda config: True


def _tracks_xdp(config: Config) -> bool:
    return config.filter_track_skb and config.filter_trace_xdp


def _tracks_skb(config: Config) -> bool:
    return config.filter_track_skb


def _tracks_stacks(config: Config) -> bool:
    return config.tracks_stack


def _traces_nft(config: Config) -> bool:
    return config.traces_nft


def _outputs_bpfmap(config: Config) -> bool:
    return config.output_bpfmap


def _captures_packets(config: Config) -> bool:
    return config.captures_packets


def _needs_seen_map(config: Config) -> bool:
    return config.needs_seen_map


def _limits_events(config: Config) -> bool:
    return bool(config.rate_limit or config.max_hits)


def _limits_hits(config: Config) -> bool:
    return bool(config.max_hits)


def _captures_selected(config: Config) -> bool:
    return config.captures_selected


def _only_if_extra(config: Config) -> bool:
    return False  # created only if named in ``more`` of create()


# LRU_HASH maps hold packets that are alive at one time, or stacks: when full, the least recently
# used entry is evicted.
MAPS = {
    "events": MapDefinition(1, MapType.RINGBUF, 0, 0, 0),
    "counters": MapDefinition(2, MapType.PERCPU_ARRAY, 4, COUNTERS_SIZE, 1),
    "reader": MapDefinition(3, MapType.ARRAY, 4, 8, 1, bpf.MMAPABLE),
    "tracked": MapDefinition(4, MapType.LRU_HASH, 8, 8, 1 << 16, is_needed=_tracks_skb),
    "head_owners": MapDefinition(5, MapType.LRU_HASH, 8, 8, 1 << 16, is_needed=_tracks_xdp),
    "stack_skb": MapDefinition(6, MapType.LRU_HASH, 8, 16, 1 << 14, is_needed=_tracks_stacks),
    "skb_stack": MapDefinition(7, MapType.LRU_HASH, 8, 8, 1 << 16, is_needed=_tracks_stacks),
    "verdicts": MapDefinition(9, MapType.LRU_HASH, 8, 88, 1 << 16, is_needed=_traces_nft),
    "nft_stacks": MapDefinition(10, MapType.LRU_HASH, 8, 8, 1 << 12, is_needed=_traces_nft),
    "nft_evaluations": MapDefinition(11, MapType.LRU_HASH, 8, 416, 1 << 12, is_needed=_traces_nft),
    "nft_names": MapDefinition(12, MapType.LRU_HASH, 24, 512, 1 << 14, is_needed=_traces_nft),
    "nft_scratch": MapDefinition(13, MapType.PERCPU_ARRAY, 4, 416, 1, is_needed=_traces_nft),
    "names_scratch": MapDefinition(20, MapType.PERCPU_ARRAY, 4, 512, 1, is_needed=_traces_nft),
    "nft_unhooked": MapDefinition(21, MapType.ARRAY, 4, 8, 1, is_needed=_traces_nft),
    "xt_calls": MapDefinition(14, MapType.LRU_HASH, 8, 56, 1 << 12, is_needed=_traces_nft),
    "packets": MapDefinition(15, MapType.RINGBUF, 0, 0, 0, is_needed=_captures_packets),
    "seen": MapDefinition(16, MapType.LRU_HASH, 8, 48, 1 << 16, is_needed=_needs_seen_map),
    "capture_points": MapDefinition(17, MapType.HASH, 8, 8, 1 << 16, is_needed=_captures_selected),
    "rate": MapDefinition(
        18, MapType.LRU_HASH, 16, 8, 1 << 14, is_needed=_limits_events
    ),  # key: target, second
    "throttled": MapDefinition(
        19, MapType.HASH, 8, 8, 1 << 14, is_needed=_limits_hits
    ),  # key: target
    "linear_copies": MapDefinition(22, MapType.PERCPU_ARRAY, 4, 20488, 4, is_needed=_only_if_extra),
    "bpfmap_calls": MapDefinition(8, MapType.LRU_HASH, 8, 48, 1 << 10, is_needed=_outputs_bpfmap),
}


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


def create_maps(config: Config, stack: ExitStack, extra: Collection[str] = ()) -> dict[str, int]:
    """Create the maps that a run needs.

    Args:
        config: of the run.
        stack: owns the descriptors.
        extra: names of maps that are needed independent of ``config``.

    Returns:
        Map name -> descriptor.

    Raises:
        KernelError: no right to create maps, or no memory.
    """
    lift_memlock()
    fds: dict[str, int] = {}
    for name, shape in MAPS.items():
        if not (shape.is_needed(config) or name in extra):
            continue
        entries = shape.entries or config.buffer_size
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
