"""The configuration of one run, as an immutable Config, and the rules that span several flags.

``cli.flags.parse`` builds it, and nothing below ``cli`` sees anything else of the command line.
Each field is the value of the flag of the same name (``config_fields``, made from ``FLAGS``).
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.config_fields import ConfigFields
from pypwru.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


class Backend(Enum):
    """How functions are hooked, in the order in which the automatic choice tries them."""

    FENTRY_MULTI = "fentry-multi"
    KPROBE_MULTI = "kprobe-multi"
    FENTRY = "fentry"
    KPROBE = "kprobe"
    TRACEPOINT = "tracepoint"


class Timestamp(Enum):
    """The kind of time that is printed for each event."""

    NONE = "none"
    CURRENT = "current"
    RELATIVE = "relative"
    ABSOLUTE = "absolute"


class NftOutput(Enum):
    """What is printed of nftables verdicts and events."""

    NO = "false"
    YES = "true"
    TEXT = "text"
    HOOK = "hook"


class MarkFilter(NamedTuple):
    """Criterion on skb->mark: ``skb->mark & mask == value``; mask 0 matches every packet."""

    value: int
    mask: int


FIRST, LAST, DROP, EVERY = "first", "last", "drop", "every"
CAPTURE_KEYWORDS = (FIRST, LAST, DROP, EVERY)
"""Keywords of --pcap-when; its other values are names of functions."""

STDOUT = Path("-")
"""A file argument that stands for standard output."""

_PCAP_SUFFIXES = (".pcap", ".pcapng")


class Config(ConfigFields):
    """The configuration of one run. Immutable; checked against RULES when it is made."""

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers see the constructor of ConfigFields

        def __new__(cls, *values: Any, **named: Any) -> Config:
            """Make a Config; raise UsageError if its flags contradict each other."""
            config = super().__new__(cls, *values, **named)
            for is_violated, message in RULES:
                if is_violated(config):
                    raise UsageError(message.format(config))
            return config

        @classmethod
        def _make(cls, values: Any) -> Config:  # called by _replace()
            return cls(*values)

    @property
    def capture_when(self) -> frozenset[str]:
        """The events at which packet data is captured: values of ``pcap_when``; empty for none."""
        if self.packets:
            return frozenset((EVERY,))
        return frozenset(() if self.output_pcap is None else self.pcap_when)

    @property
    def list_only(self) -> bool:
        """Whether the run only lists functions."""
        return self.list_functions or self.function_list is not None

    @property
    def has_statistics(self) -> bool:
        """Whether the run collects statistics."""
        return self.stats or self.top or self.stats_interval > 0 or self.stats_file is not None

    @property
    def prints_events(self) -> bool:
        """Whether events or journeys are printed."""
        has_output_option = self.output_json or self.output_journey or self.output_file is not None
        return self.output_text and not self.top and (has_output_option or not self.stats)

    @property
    def traces_nft(self) -> bool:
        """Whether nft events and verdicts are traced."""
        return self.output_nft is not NftOutput.NO

    @property
    def has_nft_filter(self) -> bool:
        """Whether packets are filtered by their nft events."""
        return bool(
            self.filter_nft_verdict
            or self.filter_nft_table
            or self.filter_nft_chain
            or self.filter_nft_handle
            or self.filter_nft_text
        )

    @property
    def dump_size(self) -> int:
        """Bytes of a record reserved for the texts of the packet's structs."""
        return self.set_percpu_buf * (self.output_skb + self.output_skb_shared_info)


# Metadata expressions: pwru's limit, and the size of the array in struct part_metadata.
_MAX_METADATA = 4

# Rules that span several flags: a condition that must not hold, and the error's message, which
# includes the remedy and pwru's wording if pwru has the same error; {0} is the Config.
RULES: tuple[tuple[Callable[[Config], bool], str], ...] = (
    (
        lambda config: config.features and config.list_only,
        "--features prints no functions: leave it out, or --list-functions and --function-list",
    ),
    (
        lambda config: config.ready_file is not None and config.ready_file == config.output_file,
        "--ready-file and --output-file name the same file, and the first empties it: "
        "give them different names",
    ),
    (
        lambda config: bool(config.filter_ifname) and config.filter_netns.startswith("inode:"),
        "inode netns specifier cannot be used with --filter-ifname: {0.filter_netns} can't be "
        "entered to look for {0.filter_ifname}; name the namespace, or give its path",
    ),
    (
        lambda config: (
            config.kernel_btf is not None
            and config.backend in (Backend.FENTRY, Backend.FENTRY_MULTI)
        ),
        "--backend {0.backend.value} uses the BTF of the running kernel: leave out "
        "--kernel-btf {0.kernel_btf}",
    ),
    (
        lambda config: config.has_nft_filter and not config.traces_nft,
        "--filter-nft-* need the nftables events that --output-nft=false disables: leave one of "
        "them out",
    ),
    (
        lambda config: (
            config.top
            and (config.output_json or config.output_journey or config.output_pcap == STDOUT)
        ),
        "--top draws on standard output, to which --output-json, --output-journey and "
        "--output-pcap - write: leave it out, or take --stats",
    ),
    (
        lambda config: (
            config.stats_file is not None
            and config.stats_file in (config.output_file, config.ready_file, config.output_pcap)
        ),
        "--stats-file {0.stats_file} is also the file of another output: give them different names",
    ),
    (
        lambda config: config.stats_file == STDOUT,
        "--stats-file - is no file: --stats prints statistics on standard error, as text; name a "
        "file for JSON",
    ),
    (
        lambda config: (
            config.list_functions
            and config.function_list is not None
            and config.function_list == (config.output_file or STDOUT)
        ),
        "--list-functions and --function-list {0.function_list} write the same output: give them "
        "different names, or leave one out",
    ),
    (
        lambda config: len(config.output_skb_metadata) > _MAX_METADATA,
        "too many skb metadata exprs, max 4: take some out of --output-skb-metadata",
    ),
    (
        lambda config: len(config.output_xdp_metadata) > _MAX_METADATA,
        "too many xdp metadata exprs, max 4: take some out of --output-xdp-metadata",
    ),
    (
        lambda config: (
            config.output_bpfmap
            and not (config.filter_track_bpf_helpers or config.filter_non_skb_funcs)
        ),
        "--output-bpfmap has no function to trace: add --filter-track-bpf-helpers, or name "
        "functions of BPF maps with --filter-non-skb-funcs",
    ),
    (
        lambda config: (
            config.output_pcap not in (None, STDOUT)
            and config.output_pcap.suffix not in _PCAP_SUFFIXES
        ),
        "--output-pcap {0.output_pcap} has no known suffix: end it in .pcapng, or in .pcap for "
        "the classic format, or take - for pcapng on standard output",
    ),
    (
        lambda config: (
            config.output_pcap is not None
            and config.output_pcap in (config.output_file, config.ready_file)
        ),
        "--output-pcap {0.output_pcap} is also the file of --output-file or --ready-file: give "
        "them different names",
    ),
    (
        lambda config: (
            config.output_pcap is None
            and not (
                config.output_text
                or config.packets
                or config.has_statistics
                or config.list_only
                or config.features
            )
        ),
        "--output-text=false leaves nothing to write: add --output-pcap or --stats, or take it out",
    ),
    (
        lambda config: not config.pcap_when,
        "--pcap-when is empty: take first, last, drop, every or names of functions",
    ),
    (
        lambda config: config.output_pcap in (None, STDOUT) and config.pcap_max_size > 0,
        "--pcap-max-size {0.pcap_max_size} needs a file: name one with --output-pcap",
    ),
    (
        lambda config: config.pcap_max_files > 0 and not config.pcap_max_size,
        "--pcap-max-files {0.pcap_max_files} needs a size at which a new file is begun: add "
        "--pcap-max-size",
    ),
    (
        # A record is contiguous on the ring, and records that follow need room while it is read.
        lambda config: config.dump_size > config.buffer_size // 4,
        "--set-percpu-buf {0.set_percpu_buf} makes a record of {0.dump_size} bytes, more than a "
        "quarter of the ring buffer ({0.buffer_size} bytes): raise --buffer-size, or lower it",
    ),
)
