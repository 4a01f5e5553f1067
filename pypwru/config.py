"""The configuration of one run, as an immutable Config, and the rules that span several flags.

``cli.flags.parse`` builds it, and nothing below ``cli`` sees anything else of the command line.
Each field is the value of the flag of the same name; defaults are in ``cli.flags.FLAGS``.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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


class _Fields(NamedTuple):
    pcap_filter: str
    filter_func: str
    kmods: tuple[str, ...]
    all_kmods: bool
    priority: int
    category: tuple[str, ...]
    functions: Path | None
    list_functions: bool
    function_list: Path | None
    backend: Backend | None
    filter_kprobe_batch: int
    kernel_btf: Path | None
    filter_netns: str
    filter_ifname: str
    filter_mark: MarkFilter
    filter_tunnel_pcap_l2: str
    filter_tunnel_pcap_l3: str
    filter_skb_expr: str
    filter_xdp_expr: str
    filter_nft_verdict: tuple[str, ...]
    filter_nft_table: tuple[str, ...]
    filter_nft_chain: tuple[str, ...]
    filter_nft_handle: int
    filter_nft_text: str
    drops: bool
    sample_rate: int
    sample_flow: int
    rate_limit: int
    max_hits: int
    filter_track_skb: bool
    filter_track_skb_by_stackid: bool
    filter_non_skb_funcs: tuple[str, ...]
    filter_track_bpf_helpers: bool
    filter_trace_tc: bool
    filter_trace_xdp: bool
    output_file_max_size: int
    output_file_max_backups: int
    output_file_max_age: int
    output_file_compress: bool
    output_json: bool
    output_journey: bool
    output_limit_lines: int
    output_file: Path | None
    output_text: bool
    output_pcap: Path | None
    pcap_when: tuple[str, ...]
    pcap_snaplen: int
    pcap_max_size: int
    pcap_max_files: int
    stats: bool
    stats_interval: int
    stats_file: Path | None
    top: bool
    ready_file: Path | None
    output_meta: bool
    output_tuple: bool
    output_tcp_flags: bool
    timestamp: Timestamp
    output_netns_names: bool
    netns_names_max_length: int
    output_skb_cb: bool
    output_caller: bool
    output_tunnel: bool
    output_nft: NftOutput
    output_ct: bool
    output_stack: bool
    output_skb: bool
    output_skb_shared_info: bool
    output_skb_metadata: tuple[str, ...]
    output_xdp_metadata: tuple[str, ...]
    output_bpfmap: bool
    set_percpu_buf: int
    buffer_size: int
    debug: bool
    packets: bool = False


class Config(_Fields):
    """The configuration of one run. Immutable; checked against RULES when it is made.

    Args:
        pcap_filter: the positional words joined with one space; empty matches every packet.
        filter_func: RE2 pattern of whole function names; empty matches every name.
        kmods: modules whose functions are traced as well.
        all_kmods: trace functions of every module that has BTF, regardless of ``kmods``.
        priority: trace functions of this priority and of lower numbers, 0 to 3.
        category: trace only functions of these categories; empty for all.
        functions: file with the only functions to trace; None for no such list.
        list_functions: print the functions that would be traced, instead of tracing.
        function_list: file for their names, instead of tracing; ``-`` is standard output.
        backend: None selects the first that the kernel supports.
        filter_kprobe_batch: accepted for compatibility with pwru; ignored.
        kernel_btf: file with BTF, used instead of the running kernel's.
        filter_netns: ``/path``, ``inode:N`` or a name of ``ip netns``; empty for all namespaces.
        filter_ifname: device in that namespace, else in the current one; empty for all.
        filter_mark: criterion on skb->mark.
        filter_tunnel_pcap_l2, filter_tunnel_pcap_l3: pcap filters of the inner packet, from its
            Ethernet header and from its IP header; empty matches every packet.
        filter_skb_expr, filter_xdp_expr: C expressions over ``struct sk_buff`` and ``struct
            xdp_buff``; empty matches every packet.
        filter_nft_verdict, filter_nft_table, filter_nft_chain: trace only packets for which one
            nft event (rule or policy) has one of these verdicts, tables and chains; empty for any.
        filter_nft_handle: handle of the rule of that event; 0 for any.
        filter_nft_text: RE2 pattern found in the text of that rule; empty for any.
        drops: trace only packets that are dropped in the end.
        sample_rate, sample_flow: trace one of N matching packets, or flows; 1 for all.
        rate_limit, max_hits: maximum events per second, in total and per function; 0 for no limit.
        filter_track_skb: keep tracing a packet that matched once, even if it is changed or copied.
        filter_track_skb_by_stackid: trace functions that are called while a matching packet is
            handled.
        filter_non_skb_funcs: functions without a packet argument to trace in such calls.
        filter_track_bpf_helpers: trace the helpers that BPF programs call in such calls.
        filter_trace_tc, filter_trace_xdp: trace BPF programs of these types.
        output_file_max_size: MB (2**20 bytes) of an output file before it is rotated.
        output_file_max_backups: maximum number of rotated files; 0 for no limit.
        output_file_max_age: days to keep rotated files; 0 for no limit.
        output_file_compress: compress rotated files with gzip.
        output_json: print JSON objects instead of lines of text.
        output_journey: print packet by packet instead of event by event.
        output_limit_lines: events after which the run ends; 0 for no limit.
        output_file: append to this file; None for standard output.
        output_text: print events; False if only --output-pcap is to be written.
        output_pcap: file for captured packets; ``-`` is standard output, None for no capture.
        pcap_when: events at which a packet is captured: ``first``, ``last``, ``drop``, ``every``,
            or names of functions.
        pcap_snaplen: maximum bytes captured of a packet.
        pcap_max_size: MB (2**20 bytes) of that file before it is rotated; 0 for never.
        pcap_max_files: maximum number of these files, with the current one; 0 for no limit.
        stats: print statistics; events are then printed only if an output option is given.
        stats_interval: seconds between statistics; 0 for statistics only at the end.
        stats_file: file for statistics in JSON; None prints them as text on standard error.
        top: show statistics in a live table instead of printing events.
        ready_file: created when everything is attached.
        output_meta: print the columns NETNS to LEN.
        output_tuple: print the column TUPLE.
        output_tcp_flags: print TCP flags in the column TUPLE.
        timestamp: the kind of time that is printed.
        output_netns_names: print the column NETNS NAME.
        netns_names_max_length: characters of a name in that column, at least 10.
        output_skb_cb: print the column __sk_buff->cb[].
        output_caller, output_tunnel: print the columns CALLER and TUNNEL.
        output_nft: what is printed of nftables verdicts and events.
        output_ct: print the column CT (conntrack).
        output_stack: print the kernel stack after each line.
        output_skb, output_skb_shared_info: print these structs as text after each line.
        output_skb_metadata, output_xdp_metadata: members to print, such as ``skb->mark``.
        output_bpfmap: print the arguments of functions on BPF maps.
        set_percpu_buf: bytes for the text of each struct.
        buffer_size: bytes of the ring buffer, a power of two, at least 4096.
        debug: log more, and print an error's ``detail``.
        packets: capture the packet at every event, for the Python API; there is no such flag.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers see the constructor of _Fields

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
                config.output_text or config.packets or config.has_statistics or config.list_only
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
