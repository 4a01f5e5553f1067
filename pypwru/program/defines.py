"""Macros of a compile: what is fixed for a run is compiled in, not looked up by a handler."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from pypwru.config import Backend, Config
from pypwru.filter.inject import MARKERS
from pypwru.program import constants, maps
from pypwru.program.build import target

if TYPE_CHECKING:
    from pypwru.events.wire import Wire
    from pypwru.filter.wanted import Wanted


def defines(config: Config, backends: set[Backend], wanted: Wanted, wire: Wire) -> dict[str, str]:
    """Return macro name -> text, for ``build``.

    Args:
        config: of the run.
        backends: of the traced functions, and of the auxiliary probes.
        wanted: the filters; they define the FILTER macros.
        wire: layout of the event record.
    """
    switches = {
        target(): True,
        **{f"BACKEND_{backend.name}": backend in backends for backend in Backend},
        **wanted.switches(),
        "OUTPUT_META": config.output_meta,
        "OUTPUT_NETNS": config.output_netns_names,
        "OUTPUT_TUPLE": config.output_tuple,
        "OUTPUT_BPFMAP": config.output_bpfmap,
        "NFT": config.asks_nft,
        "TRACE_TC": config.filter_trace_tc,
        "TRACE_XDP": config.filter_trace_xdp,
        "CAPTURE": config.captures,
        "CAPTURE_EVERY": config.captures_all,
        "CAPTURE_FIRST": config.captures_first,
        "CAPTURE_CHOSEN": config.captures_some,
        "IDENTIFY": config.identifies,
        "FOLLOW_ENDS": config.follows_ends,
        "LOCATE_DROPS": config.locates_drops,
        "SAMPLE_PACKETS": config.sample_rate > 1,
        "SAMPLE_FLOWS": config.sample_flow > 1,
        "LIMIT_RATE": config.rate_limit > 0,
        "LIMIT_HITS": config.max_hits > 0,
        "TRACK_SKB": config.filter_track_skb,
        "TRACK_HEADS": config.filter_track_skb and config.filter_trace_xdp,
        "TRACK_STACK": config.tracks_stacks,
    }
    sizes = {"SNAPLEN": config.pcap_snaplen} if config.captures else {}
    if config.captures or wanted.needs_fragments:
        sizes["PAGE_SIZE"] = mmap.PAGESIZE
    markers = {f"MARKER_{name}": f"{number:#x}" for name, number in MARKERS.items()}
    texts = {name: str(int(on)) for name, on in switches.items()}
    texts |= {name: str(size) for name, size in sizes.items()}
    return texts | markers | constants.defines() | maps.defines() | wire.defines()
