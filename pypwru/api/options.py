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
from typing import TYPE_CHECKING, Any, TypedDict

from pypwru.cli.flag_types import MARK, STRINGS
from pypwru.cli.flags import FLAGS, Flag, InfoRequest, parse_value
from pypwru.config import Backend, Config, NftOutput
from pypwru.errors import UsageError
from pypwru.go_values import go_quote

if TYPE_CHECKING:
    from typing import TypeAlias

    Words: TypeAlias = "str | Iterable[str]"
    """Names, or a single string with names separated by commas."""
    File: TypeAlias = "str | os.PathLike[str]"


class TraceOptions(TypedDict, total=False):
    """The keywords of ``trace``. pypwru(1) describes the flag of the same name."""

    filter_func: str
    kmods: Words
    all_kmods: bool
    priority: int
    category: Words
    functions: File | None
    """File with one name per line, or JSON of --list-functions."""
    backend: Backend | str | None
    kernel_btf: File | None
    filter_netns: str
    filter_ifname: str
    filter_mark: int | str | tuple[int, int]
    """Value, or (value, mask)."""
    filter_tunnel_pcap_l2: str
    filter_tunnel_pcap_l3: str
    filter_skb_expr: str
    filter_xdp_expr: str
    filter_nft_verdict: Words
    filter_nft_table: Words
    filter_nft_chain: Words
    filter_nft_handle: int
    filter_nft_text: str
    drops: bool
    """Yield only packets that are dropped in the end, each once that is known."""
    sample_rate: int
    sample_flow: int
    rate_limit: int
    """Maximum events per second; 0 for no limit."""
    max_hits: int | str
    """Maximum events per second of each function; 0 for no limit."""
    filter_track_skb: bool
    filter_track_skb_by_stackid: bool
    filter_non_skb_funcs: Words
    filter_track_bpf_helpers: bool
    filter_trace_tc: bool
    filter_trace_xdp: bool
    output_skb_cb: bool
    output_tunnel: bool
    output_caller: bool
    output_nft: NftOutput | bool | str
    """False disables nft events and verdicts; with any other value events have the rules' text."""
    output_ct: bool
    output_skb_metadata: Words
    output_xdp_metadata: Words
    output_stack: bool
    output_skb: bool
    output_skb_shared_info: bool
    set_percpu_buf: int
    output_bpfmap: bool
    output_limit_lines: int
    """Events after which the trace ends; 0 for no limit."""
    pcap_snaplen: int
    """Maximum bytes captured of a packet."""
    buffer_size: int | str
    debug: bool
    """Log more."""


def _make_docstring() -> str:
    """Return a docstring with the type of each keyword and the help text of its flag."""
    help_texts = {flag.field: flag.help for flag in FLAGS}
    types = TraceOptions.__annotations__.items()
    rows = [f"    {name} ({kind.__forward_arg__}): {help_texts[name]}" for name, kind in types]
    return "\n".join(["The keywords of ``trace``.", "", "Args:", *rows])


TraceOptions.__doc__ = _make_docstring()  # help(pypwru.TraceOptions)


_TEXT_OUTPUT = "it changes the lines of text: events have all fields"
_FILE_OUTPUT = "it writes a file, which a script does itself"

_LISTING_ONLY = "it traces nothing"
_STATISTICS_OFF = "a script collects statistics itself"

COMMAND_LINE_ONLY: Mapping[str, str] = {
    "filter_kprobe_batch": "it does nothing",
    "output_json": _TEXT_OUTPUT,
    "timestamp": "events have time_ns and wall_ns",
    "output_meta": _TEXT_OUTPUT,
    "output_netns_names": _TEXT_OUTPUT,
    "netns_names_max_length": _TEXT_OUTPUT,
    "output_tuple": _TEXT_OUTPUT,
    "output_tcp_flags": _TEXT_OUTPUT,
    "output_text": _TEXT_OUTPUT,
    "output_file": _FILE_OUTPUT,
    "output_file_max_size": _FILE_OUTPUT,
    "output_file_max_backups": _FILE_OUTPUT,
    "output_file_max_age": _FILE_OUTPUT,
    "output_file_compress": _FILE_OUTPUT,
    "output_pcap": "packets=True gives each event its packet",
    "pcap_when": "packets=True gives each event its packet",
    "pcap_max_size": _FILE_OUTPUT,
    "pcap_max_files": _FILE_OUTPUT,
    "list_functions": _LISTING_ONLY,
    "function_list": _LISTING_ONLY,
    "output_journey": "a script groups events itself, by their packet_id",
    "stats": _STATISTICS_OFF,
    "stats_interval": _STATISTICS_OFF,
    "stats_file": _STATISTICS_OFF,
    "top": _STATISTICS_OFF,
    "ready_file": "trace() returns once everything is attached",
    "features": _LISTING_ONLY,
    "help": "see help(pypwru.trace)",
    "version": "see pypwru.__version__",
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
