"""What a script asks for: the flags of the command line as keywords, with Python's values.

A keyword is the flag's name with ``_`` for ``-``. A value is read as the text of the flag is, by
the same kinds and rules, so that what one refuses the other does, in the same words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, TypedDict

from pypwru.config import Backend, Config, Nft
from pypwru.errors import UsageError
from pypwru.gotext import quote
from pypwru.kinds import MARK, STRINGS
from pypwru.options import FLAGS, Flag, Request, read

if TYPE_CHECKING:
    from typing import TypeAlias

    Words: TypeAlias = "str | Iterable[str]"
    """Names; in a single string commas stand between them."""
    File: TypeAlias = "str | os.PathLike[str]"


class TraceOptions(TypedDict, total=False):
    """The keywords of ``trace``. What each does is said at the flag of that name, in pypwru(1)."""

    filter_func: str
    kmods: Words
    all_kmods: bool
    priority: int
    category: Words
    functions: File | None
    """Names, a line each, or JSON of --list-functions."""
    backend: Backend | str | None
    kernel_btf: File | None
    filter_netns: str
    filter_ifname: str
    filter_mark: int | str | tuple[int, int]
    """Value, or value and mask."""
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
    """Only packets that are dropped in the end, each once that is known."""
    sample_rate: int
    sample_flow: int
    rate_limit: int
    """Events in a second at most; 0 for any number."""
    max_hits: int | str
    """The same of each function."""
    filter_track_skb: bool
    filter_track_skb_by_stackid: bool
    filter_non_skb_funcs: Words
    filter_track_bpf_helpers: bool
    filter_trace_tc: bool
    filter_trace_xdp: bool
    output_skb_cb: bool
    output_tunnel: bool
    output_caller: bool
    output_nft: Nft | bool | str
    """False: events don't know of nftables; anything else: with the text of rules."""
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
    """Bytes of each packet at most."""
    buffer_size: int | str
    debug: bool
    """More in the log."""


def _described() -> str:
    """Each keyword, with the type that it takes and what its flag's help says."""
    helps = {flag.field: flag.help for flag in FLAGS}
    types = TraceOptions.__annotations__.items()
    rows = [f"    {name} ({kind.__forward_arg__}): {helps[name]}" for name, kind in types]
    return "\n".join(["The keywords of ``trace``.", "", "Args:", *rows])


TraceOptions.__doc__ = _described()  # help(pypwru.TraceOptions)


_LINES = "it is about lines of text: events have all of it"
_FILES = "it is about files, which a script writes itself"

_LISTS = "it traces nothing"
_SUMS = "a script sums up itself"

COMMAND_LINE: Mapping[str, str] = {
    "filter_kprobe_batch": "it does nothing",
    "output_json": _LINES,
    "timestamp": "events have time_ns and wall_ns",
    "output_meta": _LINES,
    "output_netns_names": _LINES,
    "netns_names_max_length": _LINES,
    "output_tuple": _LINES,
    "output_tcp_flags": _LINES,
    "output_text": _LINES,
    "output_file": _FILES,
    "output_file_max_size": _FILES,
    "output_file_max_backups": _FILES,
    "output_file_max_age": _FILES,
    "output_file_compress": _FILES,
    "output_pcap": "packets=True gives each event its packet",
    "pcap_when": "packets=True gives each event its packet",
    "pcap_max_size": _FILES,
    "pcap_max_files": _FILES,
    "list_functions": _LISTS,
    "function_list": _LISTS,
    "output_journey": "a script groups events itself, by their packet_id",
    "stats": _SUMS,
    "stats_interval": _SUMS,
    "stats_file": _SUMS,
    "top": _SUMS,
    "ready_file": "trace() returns once everything is attached",
    "help": "help(pypwru.trace) tells",
    "version": "pypwru.__version__ tells",
}
"""What a script can't ask for, and why."""

# An event is made of the columns that an object of JSON is, which has all of nftables.
_ALWAYS = {"output_json": True, "output_tcp_flags": True}
_FLAG = re.compile(r"--([a-z][a-z0-9]*(?:-(?:[a-z0-9]+|\*))*)")


def configured(pcap_filter: str, packets: bool, options: Mapping[str, object]) -> Config:
    """The run that a script asks for.

    Args:
        pcap_filter: of pcap-filter(7).
        packets: whether every event carries its packet.
        options: as in TraceOptions.

    Raises:
        UsageError: a keyword that there isn't, a value that can't be meant, or values that exclude
            each other; the words are the command line's.
    """
    flags = {flag.field: flag for flag in FLAGS}
    for name in options:
        if why := COMMAND_LINE.get(name):
            raise UsageError(f"{name} is for the command line alone: {why}")
        if name not in flags:
            raise UsageError(f"unknown option: {name}")
    values = {name: _read(flag, options.get(name)) for name, flag in flags.items()} | _ALWAYS
    for request in Request:
        del values[request.value]
    fields: dict[str, Any] = values
    with_packets = {"packets": packets, "pcap_filter": pcap_filter}
    try:
        return Config(**fields | with_packets)
    except UsageError as error:
        raise UsageError(as_keywords(str(error))) from None


def as_keywords(message: str) -> str:
    """``message``, with the flags in it named as in Python."""
    return _FLAG.sub(lambda match: match[1].replace("-", "_"), message)


def _read(flag: Flag, value: object) -> object:
    text = flag.default if value is None else _typed(flag, value)
    return read(flag, text, f"{quote(flag.field)} option")


def _typed(flag: Flag, value: object) -> str:
    """``value`` as it would be typed."""
    if isinstance(value, bool) and not flag.kind.word:
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if flag.kind is MARK and isinstance(value, tuple):
        return "/".join(map(str, value))
    if flag.kind.word == STRINGS.word and isinstance(value, Iterable):
        return ",".join(_quoted(str(word)) for word in value)
    raise UsageError(
        f"invalid argument {value!r} for {quote(flag.field)} option: "
        f"a {type(value).__name__} is no {flag.kind.word or 'bool'}"
    )


def _quoted(word: str) -> str:
    """A field of CSV."""
    doubled = word.replace('"', '""')
    return f'"{doubled}"'
