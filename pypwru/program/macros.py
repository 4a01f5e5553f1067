"""Macros of a compile: what is fixed for a run is compiled in, not looked up by a handler."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from pypwru.config import Backend, Config
from pypwru.filter.splice import MARKERS
from pypwru.program import load_time, maps
from pypwru.program.build import target_macro

if TYPE_CHECKING:
    from pypwru.filter.criteria import Criteria
    from pypwru.wire.layout import RecordLayout


def defines(
    config: Config, backends: set[Backend], criteria: Criteria, wire: RecordLayout
) -> dict[str, str]:
    """Return macro name -> text, for ``build``.

    Args:
        config: of the run.
        backends: of the traced functions, and of the auxiliary probes.
        criteria: the filters; they define the FILTER macros.
        wire: layout of the event record.
    """
    switches = {
        target_macro(): True,
        **{f"BACKEND_{backend.name}": backend in backends for backend in Backend},
        **criteria.macros(),
        "OUTPUT_META": config.output_meta,
        "OUTPUT_NETNS": config.output_netns_names,
        "OUTPUT_TUPLE": config.output_tuple,
        "OUTPUT_BPFMAP": config.output_bpfmap,
        "NFT": config.traces_nft,
        "TRACE_TC": config.filter_trace_tc,
        "TRACE_XDP": config.filter_trace_xdp,
        "CAPTURE": config.captures_packets,
        "CAPTURE_EVERY": config.captures_every,
        "CAPTURE_FIRST": config.needs_first_flag,
        "CAPTURE_AT_POINTS": config.captures_selected,
        "PACKET_IDS": config.needs_packet_ids,
        "FREE_RECORDS": config.needs_free_events,
        "LOCATE_DROPS": config.needs_drop_location,
        "SAMPLE_PACKETS": config.sample_rate > 1,
        "SAMPLE_FLOWS": config.sample_flow > 1,
        "LIMIT_RATE": config.rate_limit > 0,
        "LIMIT_HITS": config.max_hits > 0,
        "TRACK_SKB": config.filter_track_skb,
        "TRACK_HEADS": config.filter_track_skb and config.filter_trace_xdp,
        "TRACK_STACK": config.tracks_stack,
    }
    sizes = {"SNAPLEN": config.pcap_snaplen} if config.captures_packets else {}
    if config.captures_packets or criteria.needs_fragments:
        sizes["PAGE_SIZE"] = mmap.PAGESIZE
    markers = {f"MARKER_{name}": f"{number:#x}" for name, number in MARKERS.items()}
    texts = {name: str(int(on)) for name, on in switches.items()}
    texts |= {name: str(size) for name, size in sizes.items()}
    return texts | markers | load_time.defines() | maps.defines() | wire.macros()
