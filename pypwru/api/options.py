"""Options of the Python API: the flags of the command line as keywords with Python values.

A keyword is the flag's name with ``_`` for ``-``. A value is converted to text and parsed by the
flag's own type and rules, so that scripts and the command line accept the same values and report
the same errors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from pypwru.cli.flag_types import MARK, STRINGS
from pypwru.cli.flags import FLAGS, InfoRequest, parse_value
from pypwru.config import Config
from pypwru.errors import UsageError
from pypwru.go_values import go_quote

if TYPE_CHECKING:
    from pypwru.cli.flags import Flag

COMMAND_LINE_ONLY: Mapping[str, str] = {
    flag.field: flag.no_keyword for flag in FLAGS if flag.no_keyword
}
"""Flag that scripts can't set -> why."""

# An event is built from the columns of a JSON object, which include all of nftables.
_FIXED_OPTIONS = {"output_json": True, "output_tcp_flags": True}
_FLAG_PATTERN = re.compile(r"--([a-z][a-z0-9]*(?:-(?:[a-z0-9]+|\*))*)")


def make_config(pcap_filter: str, packets: bool, options: Mapping[str, object]) -> Config:
    """Return the configuration of a script's run.

    Args:
        pcap_filter: expression of pcap-filter(7).
        packets: whether to capture the packet at every event.
        options: as in TraceOptions.

    Raises:
        UsageError: an unknown keyword, an invalid value, or values that exclude each other; in the
            command line's wording.
    """
    flags = {flag.field: flag for flag in FLAGS}
    for name in options:
        if reason := COMMAND_LINE_ONLY.get(name):
            raise UsageError(f"{name} is for the command line alone: {reason}")
        if name not in flags:
            raise UsageError(f"unknown option: {name}")
    values = {
        name: _parse_option(flag, options.get(name)) for name, flag in flags.items()
    } | _FIXED_OPTIONS
    for request in InfoRequest:
        del values[request.value]
    fields: dict[str, Any] = values
    arguments = {"packets": packets, "pcap_filter": pcap_filter}
    try:
        return Config(**fields | arguments)
    except UsageError as error:
        raise UsageError(*map(flags_to_keywords, (error.cause, error.cure))) from None


def flags_to_keywords(message: str) -> str:
    """Return ``message`` with each ``--some-flag`` replaced by ``some_flag``."""
    return _FLAG_PATTERN.sub(lambda match: match[1].replace("-", "_"), message)


def _parse_option(flag: Flag, value: object) -> object:
    text = flag.default if value is None else _to_flag_text(flag, value)
    return parse_value(flag, text, f"{go_quote(flag.field)} option")


def _to_flag_text(flag: Flag, value: object) -> str:
    """Return ``value`` as it would be typed on the command line."""
    if isinstance(value, bool) and not flag.value_type.type_name:
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if flag.value_type is MARK and isinstance(value, tuple):
        return "/".join(map(str, value))
    if flag.value_type.type_name == STRINGS.type_name and isinstance(value, Iterable):
        return ",".join(_csv_quote(str(word)) for word in value)
    raise UsageError(
        f"invalid argument {value!r} for {go_quote(flag.field)} option: "
        f"a {type(value).__name__} is no {flag.value_type.type_name or 'bool'}"
    )


def _csv_quote(word: str) -> str:
    """Return ``word`` as a quoted CSV field."""
    doubled = word.replace('"', '""')
    return f'"{doubled}"'
