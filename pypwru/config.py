"""What one run does: a frozen Config, and the rules that span more than one flag.

``options.parse`` makes it and nothing below ``cli.py`` sees anything else of the command line. Each
field is the flag of the same name, with its default in ``options.FLAGS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pypwru.errors import UsageError


class Backend(Enum):
    """How functions are hooked, in the order in which the automatic choice tries them."""

    KPROBE_MULTI = "kprobe-multi"
    KPROBE = "kprobe"
    TRACEPOINT = "tracepoint"


class Timestamp(Enum):
    """Which time a line shows."""

    NONE = "none"
    CURRENT = "current"
    RELATIVE = "relative"
    ABSOLUTE = "absolute"


@dataclass(frozen=True, slots=True)
class Config:
    """One run, as asked for.

    Args:
        pcap_filter: the positional words joined with one space; empty matches every packet.
        filter_func: RE2 pattern of function names; empty matches every name.
        kmods: modules whose functions are traced as well.
        all_kmods: every module that has BTF, whatever ``kmods`` says.
        priority: functions of this priority and of the lower numbers are traced, 0..3.
        category: only functions of these categories; empty for all.
        backend: None chooses by what the kernel allows.
        filter_kprobe_batch: pwru's; there are no batches here.
        kernel_btf: BTF instead of the running kernel's.
        output_limit_lines: events after which the run ends; 0 for no limit.
        output_file: appended to instead of standard output.
        ready_file: made when everything is attached.
        output_meta: the columns NETNS to LEN.
        output_tuple: the column TUPLE.
        output_tcp_flags: TCP flags inside TUPLE.
        timestamp: which time is shown.
        buffer_size: bytes of the ring buffer, a power of two, 4096 or more.
        debug: log more, and the long story of an error.
    """

    pcap_filter: str
    filter_func: str
    kmods: tuple[str, ...]
    all_kmods: bool
    priority: int
    category: tuple[str, ...]
    backend: Backend | None
    filter_kprobe_batch: int
    kernel_btf: Path | None
    output_limit_lines: int
    output_file: Path | None
    ready_file: Path | None
    output_meta: bool
    output_tuple: bool
    output_tcp_flags: bool
    timestamp: Timestamp
    buffer_size: int
    debug: bool

    def __post_init__(self) -> None:
        for broken, message in RULES:
            if broken(self):
                raise UsageError(message)


# Cross-flag rules: what must not be, and the line that says why and what to change.
RULES: tuple[tuple[Callable[[Config], bool], str], ...] = (
    (
        lambda config: config.ready_file is not None and config.ready_file == config.output_file,
        "--ready-file and --output-file name the same file, and the first empties it: "
        "give them different names",
    ),
)
