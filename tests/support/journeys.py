"""The formatter of journeys that a run with given options has."""

from __future__ import annotations

from pypwru.config import Config
from pypwru.journey.json import JourneyJson
from pypwru.journey.text import JourneyText
from pypwru.journey.writer import JourneyFormat
from pypwru.names.event_names import NameResolver
from tests.support.layouts import columns_of, layout_of


def journey_format(config: Config, names: NameResolver) -> JourneyFormat:
    layout, shown, flags = layout_of(config), columns_of(config), config.output_tcp_flags
    if config.output_json:
        return JourneyJson(layout, shown, names, has_tcp_flags=flags)
    return JourneyText(layout, shown, names, has_tcp_flags=flags, nft_output=config.output_nft)
