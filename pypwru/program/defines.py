"""The macros of a compile: what a run fixes is compiled in, not looked up by a handler."""

from __future__ import annotations

from pypwru.config import Backend, Config
from pypwru.filter.compiler import Filter
from pypwru.filter.inject import MARKER_L2, MARKER_L3
from pypwru.program import maps
from pypwru.program.build import target


def defines(config: Config, backend: Backend, packet_filter: Filter) -> dict[str, str]:
    """Macro name -> text, for ``build``."""
    switches = {
        target(): True,
        f"BACKEND_{backend.name}": True,
        "FILTER": packet_filter is not Filter.empty,
        "FILTER_USES_LEN": packet_filter.uses_len,
        "FILTER_USES_TAG": packet_filter.uses_tag,
        # What can be said of an IP packet alone sees through tags inside the frame.
        "FILTER_TAGGED_FRAMES": packet_filter.uses_tag or packet_filter.l3.constant is False,
        "OUTPUT_META": config.output_meta,
        "OUTPUT_TUPLE": config.output_tuple,
    }
    markers = {"MARKER_L2": f"{MARKER_L2:#x}", "MARKER_L3": f"{MARKER_L3:#x}"}
    return {name: str(int(on)) for name, on in switches.items()} | markers | maps.defines()
