"""The layout of records and the columns that a run with given options has."""

from __future__ import annotations

from pypwru.config import Config
from pypwru.needs import Needs
from pypwru.output import columns
from pypwru.output.columns import Column
from pypwru.wire.layout import RecordLayout, record_layout


def layout_of(config: Config) -> RecordLayout:
    return record_layout(Needs.of(config))


def columns_of(config: Config) -> tuple[Column, ...]:
    return columns.columns(config, layout_of(config))
