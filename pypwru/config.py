"""What one run does: a frozen Config, and the rules that span more than one flag.

``options.parse`` makes it and nothing below ``cli.py`` sees anything else of the command line. Each
field is the flag of the same name, with its default in ``options.FLAGS``.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.errors import UsageError
from pypwru.kernel.nft_words import REJECT

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
    """Which time a line shows."""

    NONE = "none"
    CURRENT = "current"
    RELATIVE = "relative"
    ABSOLUTE = "absolute"


class Nft(Enum):
    """What is shown of nftables."""

    NO = "false"
    YES = "true"
    TEXT = "text"
    HOOK = "hook"


class Mark(NamedTuple):
    """What ``skb->mark`` must be: its bits under ``mask`` are ``value``; mask 0: anything."""

    value: int
    mask: int


FIRST, LAST, DROP, EVERY = "first", "last", "drop", "every"
CAPTURE_WORDS = (FIRST, LAST, DROP, EVERY)
"""At which events a packet is written, beside the names of functions."""

STDOUT = Path("-")
"""What stands for standard output."""

_PCAPS = (".pcap", ".pcapng")


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
    filter_mark: Mark
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
    output_nft: Nft
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
    """One run, as asked for.

    Args:
        pcap_filter: the positional words joined with one space; empty matches every packet.
        filter_func: RE2 pattern of function names; empty matches every name.
        kmods: modules whose functions are traced as well.
        all_kmods: every module that has BTF, whatever ``kmods`` says.
        priority: functions of this priority and of the lower numbers are traced, 0..3.
        category: only functions of these categories; empty for all.
        functions: a list of what is traced, alone.
        list_functions: print what would be traced instead of tracing.
        function_list: write its names there instead; ``-`` is standard output.
        backend: None chooses by what the kernel allows.
        filter_kprobe_batch: pwru's; there are no batches here.
        kernel_btf: BTF instead of the running kernel's.
        filter_netns: ``/path``, ``inode:N`` or a name of ``ip netns``; empty for all namespaces.
        filter_ifname: of a device in that namespace, else in the current one; empty for all.
        filter_mark: of the packet.
        filter_tunnel_pcap_l2, filter_tunnel_pcap_l3: pcap filters of the inner packet, from its
            Ethernet header and from its IP header.
        filter_skb_expr, filter_xdp_expr: C expressions over the packet's struct.
        filter_nft_verdict, filter_nft_table, filter_nft_chain: words of what nftables said: only
            packets about which a rule of such a verdict, table and chain spoke; empty for all.
        filter_nft_handle: of that rule, 0 for any.
        filter_nft_text: RE2 pattern that is found in that rule's text; empty for any.
        drops: only packets that are dropped in the end.
        sample_rate, sample_flow: one in so many packets, or flows, that match; 1 for all.
        rate_limit, max_hits: events in a second at most, of all and of each function; 0 for any
            number.
        filter_track_skb: keep tracing a packet that matched once, whatever becomes of it.
        filter_track_skb_by_stackid: trace what is called while a matching packet is handled.
        filter_non_skb_funcs: functions without a packet to trace then.
        filter_track_bpf_helpers: trace the helpers that BPF programs call then.
        filter_trace_tc, filter_trace_xdp: trace BPF programs of these kinds.
        output_file_max_size: MB (2**20 bytes) of an output file before it is rotated.
        output_file_max_backups, output_file_max_age: rotated files, days, that are kept; 0 for all.
        output_file_compress: gzip rotated files.
        output_json: objects instead of lines of text.
        output_journey: packet by packet instead of event by event.
        output_limit_lines: events after which the run ends; 0 for no limit.
        output_file: appended to instead of standard output.
        output_text: print events at all; else only --output-pcap has them.
        output_pcap: the packets themselves go to this file; ``-`` is standard output.
        pcap_when: at which sights a packet is written: ``first``, ``last``, ``drop``, ``every``, or
            at these functions.
        pcap_snaplen: bytes of a packet that are written at most.
        pcap_max_size: MB (2**20 bytes) of that file before it is rotated; 0 never.
        pcap_max_files: how many files are kept then, the newest among them; 0 for all.
        stats: sum up; events are then printed only if an output is asked for.
        stats_interval: seconds from one statistics to the next; 0 for none before the end.
        stats_file: gets them as JSON; None: standard error gets them as text.
        top: sum up in a live table instead of printing events.
        ready_file: made when everything is attached.
        output_meta: the columns NETNS to LEN.
        output_tuple: the column TUPLE.
        output_tcp_flags: TCP flags inside TUPLE.
        timestamp: which time is shown.
        output_netns_names: the column NETNS NAME.
        netns_names_max_length: characters of a name in it, at least 10.
        output_skb_cb: the column __sk_buff->cb[].
        output_caller, output_tunnel: the columns CALLER and TUNNEL.
        output_nft: what nftables said of the packet, and the rule that said it.
        output_ct: what conntrack knows of it.
        output_stack: the kernel's stack behind each line.
        output_skb, output_skb_shared_info: the packet's structs as text behind each line.
        output_skb_metadata, output_xdp_metadata: members to print, such as ``skb->mark``.
        output_bpfmap: what helpers of BPF maps are called with.
        set_percpu_buf: bytes for each text of the packet's structs.
        buffer_size: bytes of the ring buffer, a power of two, 4096 or more.
        debug: log more, and the long story of an error.
        packets: every event carries its packet, for the Python API; no flag.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # for the type checker, the constructor is that of the fields

        def __new__(cls, *values: Any, **named: Any) -> Config:
            config = super().__new__(cls, *values, **named)
            for broken, message in RULES:
                if broken(config):
                    raise UsageError(message.format(config))
            return config

        @classmethod
        def _make(cls, values: Any) -> Config:  # what _replace() calls
            return cls(*values)

    @property
    def captures(self) -> bool:
        """Whether the bytes of packets are recorded."""
        return self.packets or self.output_pcap is not None

    @property
    def capture_when(self) -> frozenset[str]:
        """At which sights they are: words of ``pcap_when``; empty for none."""
        if self.packets:
            return frozenset((EVERY,))
        return frozenset(self.pcap_when if self.captures else ())

    @property
    def captures_all(self) -> bool:
        """Whether they are at every sight: which is a packet's last shows only later."""
        return not self.capture_when.isdisjoint((EVERY, LAST))

    @property
    def captures_first(self) -> bool:
        """Whether they tell which sight is a packet's first: also where its others are joined."""
        return not self.capture_when.isdisjoint((FIRST, LAST, EVERY))

    @property
    def captures_some(self) -> bool:
        """Whether they are at sights that are chosen by where they are."""
        return not self.capture_when <= {FIRST, LAST, EVERY}

    @property
    def lists(self) -> bool:
        """Whether functions are listed, and nothing is traced."""
        return self.list_functions or self.function_list is not None

    @property
    def sums_up(self) -> bool:
        """Whether statistics are made."""
        return self.stats or self.top or self.stats_interval > 0 or self.stats_file is not None

    @property
    def prints(self) -> bool:
        """Whether events, or journeys, are printed."""
        asked = self.output_json or self.output_journey or self.output_file is not None
        return self.output_text and not self.top and (asked or not self.stats)

    @property
    def samples(self) -> bool:
        """Whether not all packets that match are traced."""
        return self.sample_rate > 1 or self.sample_flow > 1

    @property
    def follows_ends(self) -> bool:
        """Whether records tell when a packet has ended."""
        return self.drops or self.output_journey or self.sums_up

    @property
    def identifies(self) -> bool:
        """Whether records tell which packet they are of, also when its address is given again."""
        has_key = self.output_json and self.output_text
        return has_key or self.follows_ends or self.samples or self.timestamp is Timestamp.RELATIVE

    @property
    def remembers(self) -> bool:
        """Whether something is remembered of a packet that was seen."""
        return self.identifies or self.captures_first

    @property
    def locates_drops(self) -> bool:
        """Whether records tell from where a packet is dropped."""
        return self.drops or self.output_journey or self.sums_up

    @property
    def shows_cb(self) -> bool:
        """Whether lines have ``__sk_buff->cb[]``: inside the meta columns alone, as pwru has it."""
        return self.output_meta and (self.output_skb_cb or self.filter_trace_tc)

    @property
    def asks_nft(self) -> bool:
        """Whether what nftables says is recorded."""
        return self.output_nft is not Nft.NO

    @property
    def asks_rules(self) -> bool:
        """Whether the texts of nftables' rules are asked for."""
        shows = self.output_json or self.output_nft is Nft.TEXT or self.sums_up
        asks = bool(self.filter_nft_text) or REJECT in self.filter_nft_verdict
        return self.asks_nft and (shows or asks)

    @property
    def filters_nft(self) -> bool:
        """Whether only packets of certain rules are shown."""
        return bool(
            self.filter_nft_verdict
            or self.filter_nft_table
            or self.filter_nft_chain
            or self.filter_nft_handle
            or self.filter_nft_text
        )

    @property
    def tracks_stacks(self) -> bool:
        """Whether what is called below a matching packet's function is traced."""
        return bool(
            self.filter_track_skb_by_stackid
            or self.filter_non_skb_funcs
            or self.filter_track_bpf_helpers
        )

    @property
    def dump_size(self) -> int:
        """Bytes of a record that are for texts of the packet's structs."""
        return self.set_percpu_buf * (self.output_skb + self.output_skb_shared_info)


# pwru's limit, and that of struct part_metadata.
_MEMBERS = 4

# Cross-flag rules: what must not be, and the line that says why and what to change; {0} is the
# Config. Where pwru has a word for it, it is in the line.
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
        "--backend {0.backend.value} goes by the types of the running kernel: leave out "
        "--kernel-btf {0.kernel_btf}",
    ),
    (
        lambda config: config.filters_nft and not config.asks_nft,
        "--filter-nft-* choose packets by what nftables said of them, which --output-nft=false "
        "does not ask: leave one of them out",
    ),
    (
        lambda config: (
            config.top
            and (config.output_json or config.output_journey or config.output_pcap == STDOUT)
        ),
        "--top draws on standard output, where --output-json, --output-journey and --output-pcap - "
        "write: leave it out, or take --stats",
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
        lambda config: len(config.output_skb_metadata) > _MEMBERS,
        "too many skb metadata exprs, max 4: take some out of --output-skb-metadata",
    ),
    (
        lambda config: len(config.output_xdp_metadata) > _MEMBERS,
        "too many xdp metadata exprs, max 4: take some out of --output-xdp-metadata",
    ),
    (
        lambda config: (
            config.output_bpfmap
            and not (config.filter_track_bpf_helpers or config.filter_non_skb_funcs)
        ),
        "--output-bpfmap has no function to look at: add --filter-track-bpf-helpers, or name "
        "functions of BPF maps with --filter-non-skb-funcs",
    ),
    (
        lambda config: (
            config.output_pcap not in (None, STDOUT) and config.output_pcap.suffix not in _PCAPS
        ),
        "--output-pcap {0.output_pcap} does not say which format: end it in .pcapng, or in .pcap "
        "for the classic one, or take - for pcapng on standard output",
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
            and not (config.output_text or config.packets or config.sums_up or config.lists)
        ),
        "--output-text=false leaves nothing to write: add --output-pcap or --stats, or take it out",
    ),
    (
        lambda config: not config.pcap_when,
        "--pcap-when has no word: take first, last, drop, every or names of functions",
    ),
    (
        lambda config: config.output_pcap in (None, STDOUT) and config.pcap_max_size > 0,
        "--pcap-max-size {0.pcap_max_size} is about a file: name one with --output-pcap",
    ),
    (
        lambda config: config.pcap_max_files > 0 and not config.pcap_max_size,
        "--pcap-max-files {0.pcap_max_files} needs a size at which a new file is begun: add "
        "--pcap-max-size",
    ),
    (
        # A record is whole on the ring, and what comes while it is read needs room too.
        lambda config: config.dump_size > config.buffer_size // 4,
        "--set-percpu-buf {0.set_percpu_buf} makes a record of {0.dump_size} bytes, more than a "
        "quarter of the ring buffer ({0.buffer_size} bytes): raise --buffer-size, or lower it",
    ),
)
