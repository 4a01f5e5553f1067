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
from pypwru.kernel.netfilter import REJECT

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
    def captures_packets(self) -> bool:
        """Whether packet data is captured."""
        return self.packets or self.output_pcap is not None

    @property
    def capture_when(self) -> frozenset[str]:
        """The events at which packet data is captured: values of ``pcap_when``; empty for none."""
        if self.packets:
            return frozenset((EVERY,))
        return frozenset(self.pcap_when if self.captures_packets else ())

    @property
    def captures_every(self) -> bool:
        """Whether packet data is captured at every event.

        ``last`` needs this too: the last event of a packet is known only afterwards.
        """
        return not self.capture_when.isdisjoint((EVERY, LAST))

    @property
    def captures_beyond_first(self) -> bool:
        """Whether packets are written at other events than their first."""
        return self.output_pcap is not None and not self.capture_when <= {FIRST}

    @property
    def needs_first_flag(self) -> bool:
        """Whether records have the flag of a packet's first event."""
        return FIRST in self.capture_when

    @property
    def captures_selected(self) -> bool:
        """Whether packet data is captured at events selected by function (map `capture_points`)."""
        return not self.capture_when <= {FIRST, LAST, EVERY}

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
    def is_sampling(self) -> bool:
        """Whether only a sample of the matching packets is traced."""
        return self.sample_rate > 1 or self.sample_flow > 1

    @property
    def needs_free_events(self) -> bool:
        """Whether the handlers emit a record when a packet is freed."""
        return (
            self.drops
            or self.output_journey
            or self.has_statistics
            or self.has_nft_filter
            or self.captures_beyond_first
        )

    @property
    def needs_packet_ids(self) -> bool:
        """Whether records carry a packet_id, which distinguishes packets at a reused address."""
        prints_packet_id = self.output_json and self.output_text
        return (
            prints_packet_id
            or self.needs_free_events
            or self.is_sampling
            or self.timestamp is Timestamp.RELATIVE
        )

    @property
    def needs_seen_map(self) -> bool:
        """Whether the handlers need the map `seen`."""
        return self.needs_packet_ids or self.needs_first_flag

    @property
    def needs_drop_location(self) -> bool:
        """Whether records carry the address from which the packet was dropped."""
        return self.drops or self.output_journey or self.has_statistics

    @property
    def needs_symbols(self) -> bool:
        """Whether addresses in the kernel's code are resolved: callers, stacks, drop locations."""
        return self.output_caller or self.output_stack or self.needs_drop_location

    @property
    def needs_netns_names(self) -> bool:
        """Whether names of network namespaces are needed, for lines or for captures."""
        return self.output_netns_names or self.captures_packets

    @property
    def prints_cb(self) -> bool:
        """Whether lines have the column __sk_buff->cb[]; as in pwru, only with the meta columns."""
        return self.output_meta and (self.output_skb_cb or self.filter_trace_tc)

    @property
    def traces_nft(self) -> bool:
        """Whether nft events and verdicts are traced."""
        return self.output_nft is not NftOutput.NO

    @property
    def needs_rule_text(self) -> bool:
        """Whether the texts of nftables rules are needed, for the output or for a filter."""
        is_printed = self.output_json or self.output_nft is NftOutput.TEXT or self.has_statistics
        is_filtered = bool(self.filter_nft_text) or REJECT in self.filter_nft_verdict
        return self.traces_nft and (is_printed or is_filtered)

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
    def tracks_stack(self) -> bool:
        """Whether functions called by a function that handles a matching packet are traced."""
        return bool(
            self.filter_track_skb_by_stackid
            or self.filter_non_skb_funcs
            or self.filter_track_bpf_helpers
        )

    @property
    def traces_programs(self) -> bool:
        """Whether BPF programs are traced: those of type TC, of type XDP, or both."""
        return self.filter_trace_tc or self.filter_trace_xdp

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
