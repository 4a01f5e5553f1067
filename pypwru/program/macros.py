"""Macros of a compile: what is fixed for a run is compiled in, not looked up by a handler."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from pypwru.config import Backend
from pypwru.filter.splice import MARKERS
from pypwru.program import load_time, maps
from pypwru.program.build import target_macro

if TYPE_CHECKING:
    from pypwru.filter.criteria import Criteria
    from pypwru.needs import Needs
    from pypwru.wire.layout import RecordLayout


def defines(
    needs: Needs, backends: set[Backend], criteria: Criteria, wire: RecordLayout
) -> dict[str, str]:
    """Return macro name -> text, for ``build``.

    Args:
        needs: of the run.
        backends: of the traced functions, and of the auxiliary probes.
        criteria: the filters; they define the FILTER macros.
        wire: layout of the event record.
    """
    switches = {
        target_macro(): True,
        **{f"BACKEND_{backend.name}": backend in backends for backend in Backend},
        **criteria.macros(),
        "OUTPUT_META": needs.meta,
        "OUTPUT_NETNS": needs.netns,
        "OUTPUT_TUPLE": needs.tuples,
        "OUTPUT_BPFMAP": needs.map_calls,
        "NFT": needs.verdicts,
        "TRACE_TC": needs.tc_programs,
        "TRACE_XDP": needs.xdp_programs,
        "CAPTURE": needs.packet_data,
        "CAPTURE_EVERY": needs.capture_every,
        "CAPTURE_FIRST": needs.first_flag,
        "CAPTURE_AT_POINTS": needs.capture_points,
        "PACKET_IDS": needs.packet_ids,
        "FREE_RECORDS": needs.free_events,
        "LOCATE_DROPS": needs.drop_locations,
        "SAMPLE_PACKETS": needs.packet_samples,
        "SAMPLE_FLOWS": needs.flow_samples,
        "LIMIT_RATE": needs.rate_limit,
        "LIMIT_HITS": needs.hit_limit,
        "TRACK_SKB": needs.tracked_packets,
        "TRACK_HEADS": needs.tracked_frames,
        "TRACK_STACK": needs.tracked_stacks,
    }
    sizes = {"SNAPLEN": needs.snaplen} if needs.packet_data else {}
    if needs.packet_data or needs.page_fragments:
        sizes["PAGE_SIZE"] = mmap.PAGESIZE
    markers = {f"MARKER_{name}": f"{number:#x}" for name, number in MARKERS.items()}
    texts = {name: str(int(on)) for name, on in switches.items()}
    texts |= {name: str(size) for name, size in sizes.items()}
    return texts | markers | load_time.defines() | maps.defines() | wire.macros()
