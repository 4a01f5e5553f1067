"""The BPF maps of a session. Bytecode refers to them by placeholders, as in constants.py."""

from __future__ import annotations

import errno
import resource
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import KernelError, cure
from pypwru.events.record import COUNTERS_SIZE
from pypwru.kernel import bpf
from pypwru.kernel.bpf import MapType
from pypwru.kernel.descriptors import owned
from pypwru.program.constants import marked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pypwru.config import Config


class Map(NamedTuple):
    """Definition of a map.

    Args:
        number: of its placeholder.
        kind: its type.
        key, value: sizes in bytes; 0 for a ring buffer.
        entries: ``max_entries``; 0 for ``--buffer-size``, the bytes of a ring buffer.
        flags: BPF_F_*.
        wanted: returns whether a run needs it.
    """

    number: int
    kind: MapType
    key: int
    value: int
    entries: int
    flags: int = 0
    wanted: Callable[[Config], bool] = lambda config: True


def _tracks_heads(config: Config) -> bool:
    return config.filter_track_skb and config.filter_trace_xdp


def _tracks_skb(config: Config) -> bool:
    return config.filter_track_skb


def _tracks_stacks(config: Config) -> bool:
    return config.tracks_stacks


def _asks_nft(config: Config) -> bool:
    return config.asks_nft


def _keeps_calls(config: Config) -> bool:
    return config.output_bpfmap


def _captures(config: Config) -> bool:
    return config.captures


def _remembers(config: Config) -> bool:
    return config.remembers


def _limits(config: Config) -> bool:
    return bool(config.rate_limit or config.max_hits)


def _throttles(config: Config) -> bool:
    return bool(config.max_hits)


def _chooses(config: Config) -> bool:
    return config.captures_some


def _by_filter(config: Config) -> bool:
    return False  # created only if named in ``more`` of create()


# LRU_HASH maps hold packets that are alive at one time, or stacks: when full, the least recently
# used entry is evicted.
MAPS = {
    "events": Map(1, MapType.RINGBUF, 0, 0, 0),
    "counters": Map(2, MapType.PERCPU_ARRAY, 4, COUNTERS_SIZE, 1),
    "reader": Map(3, MapType.ARRAY, 4, 8, 1, bpf.MMAPABLE),
    "tracked": Map(4, MapType.LRU_HASH, 8, 8, 1 << 16, wanted=_tracks_skb),
    "heads": Map(5, MapType.LRU_HASH, 8, 8, 1 << 16, wanted=_tracks_heads),
    "stacks": Map(6, MapType.LRU_HASH, 8, 16, 1 << 14, wanted=_tracks_stacks),
    "handlers": Map(7, MapType.LRU_HASH, 8, 8, 1 << 16, wanted=_tracks_stacks),
    "verdicts": Map(9, MapType.LRU_HASH, 8, 88, 1 << 16, wanted=_asks_nft),
    "nft_stacks": Map(10, MapType.LRU_HASH, 8, 8, 1 << 12, wanted=_asks_nft),
    "nft_evaluations": Map(11, MapType.LRU_HASH, 8, 416, 1 << 12, wanted=_asks_nft),
    "nft_names": Map(12, MapType.LRU_HASH, 24, 512, 1 << 14, wanted=_asks_nft),
    "nft_scratch": Map(13, MapType.PERCPU_ARRAY, 4, 416, 1, wanted=_asks_nft),
    "names_scratch": Map(20, MapType.PERCPU_ARRAY, 4, 512, 1, wanted=_asks_nft),
    "nft_unhooked": Map(21, MapType.ARRAY, 4, 8, 1, wanted=_asks_nft),
    "xt_calls": Map(14, MapType.LRU_HASH, 8, 56, 1 << 12, wanted=_asks_nft),
    "packets": Map(15, MapType.RINGBUF, 0, 0, 0, wanted=_captures),
    "seen": Map(16, MapType.LRU_HASH, 8, 48, 1 << 16, wanted=_remembers),
    "chosen": Map(17, MapType.HASH, 8, 8, 1 << 16, wanted=_chooses),
    "hits": Map(18, MapType.LRU_HASH, 16, 8, 1 << 14, wanted=_limits),  # key: target, second
    "throttled": Map(19, MapType.HASH, 8, 8, 1 << 14, wanted=_throttles),  # key: target
    "gathered": Map(22, MapType.PERCPU_ARRAY, 4, 20488, 4, wanted=_by_filter),
    "calls": Map(8, MapType.LRU_HASH, 8, 48, 1 << 10, wanted=_keeps_calls),
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
    names = {f"MAP_{name}": f"((void *){marked(shape.number)})" for name, shape in MAPS.items()}
    return names | {f"VALUE_{name}": str(shape.value) for name, shape in MAPS.items()}


def create(config: Config, stack: ExitStack, more: Collection[str] = ()) -> dict[str, int]:
    """Create the maps that a run needs.

    Args:
        config: of the run.
        stack: owns the descriptors.
        more: names of maps that are needed independent of ``config``.

    Returns:
        Map name -> descriptor.

    Raises:
        KernelError: no right to create maps, or no memory.
    """
    _lift_memlock()
    made: dict[str, int] = {}
    for name, shape in MAPS.items():
        if not (shape.wanted(config) or name in more):
            continue
        entries = shape.entries or config.buffer_size
        try:
            fd = bpf.map_create(shape.kind, name, shape.key, shape.value, entries, shape.flags)
        except OSError as error:
            raise _refused(name, entries, error) from error
        made[name] = stack.enter_context(owned(fd))
    return made


def _lift_memlock() -> None:
    """Lift RLIMIT_MEMLOCK, 64 KiB by default: before Linux 5.11 it limits BPF memory (bpf(2))."""
    with suppress(ValueError, OSError):  # no CAP_SYS_RESOURCE; without effect on newer kernels
        unlimited = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (unlimited, unlimited))


def _refused(name: str, entries: int, error: OSError) -> KernelError:
    if MAPS[name].kind is MapType.RINGBUF:
        otherwise = _RING_CURES.get(error.errno or 0, "choose another --buffer-size")
        return KernelError(
            f"Failed to make a ring buffer of {entries} bytes: {error.strerror}; "
            f"{cure(error, otherwise)}"
        )
    otherwise = "free some memory, or raise the memory limit of this container"
    if error.errno == errno.EPERM:
        otherwise = "run as root"
    return KernelError(f"Failed to make the map {name}: {error.strerror}; {cure(error, otherwise)}")
