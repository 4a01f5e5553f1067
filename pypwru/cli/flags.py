"""The command line: one row of FLAGS for each flag, from which everything else is derived.

``parse`` (pure) follows spf13/pflag, the parser of pwru: flags may stand anywhere among the words
of the filter, ``--`` ends them, a boolean takes its value only after ``=``, a list is one CSV
record and is extended by each occurrence. Errors have pflag's wording. ``usage`` has pflag's
layout. ``make generate`` makes from the same rows the fields of Config, the keywords of the Python
API, the man page, the completions and the tables of docs/ (``tools/generate.py``).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.cli.flag_types import (
    BOOL,
    CAPTURE_POINTS,
    MARK,
    NFT_CHAINS,
    NFT_TABLES,
    NFT_VERDICTS,
    PATH,
    RATE,
    REGEX,
    RING_SIZE,
    STRING,
    STRINGS,
    FlagType,
    bool_or_choice,
    choice,
    signed,
    unsigned,
)
from pypwru.config import Backend, Config, NftOutput, Timestamp
from pypwru.errors import UsageError
from pypwru.go_values import go_quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Group(Enum):
    """Groups of flags in --help and the man page."""

    FUNCTIONS = "which functions"
    PACKETS = "which packets"
    SAMPLING = "sampling and limits"
    TRACKING = "what else is traced"
    OUTPUT = "what is printed"
    FILE = "the output file"
    PCAP = "packet capture"
    STATISTICS = "statistics"
    RUN = "how it runs"
    ABOUT = "about pypwru"


class Flag(NamedTuple):
    """A flag of the command line.

    Args:
        name: without dashes; with ``_`` for ``-``, the field of Config.
        value_type: type of the value.
        default: default value, as it would be typed.
        group: of --help and the man page.
        help: description, one line.
        metavar: placeholder of the value in the man page; empty for the name of the type.
        short: one-letter name; empty for none.
        hidden: omit it from ``--help``.
        extension: pwru has no such flag.
        requires: name of the flag without which this one has no effect, checked for pypwru's own
            flags; empty for none.
        no_keyword: why a script can't set it; empty for a keyword of the Python API.
    """

    name: str
    value_type: FlagType
    default: str
    group: Group
    help: str
    metavar: str = ""
    short: str = ""
    hidden: bool = False
    extension: bool = False
    requires: str = ""
    no_keyword: str = ""

    @property
    def field(self) -> str:
        """The name of the field of Config."""
        return self.name.replace("-", "_")

    @property
    def placeholder(self) -> str:
        """The placeholder of the value in the man page; empty for a boolean."""
        return self.metavar or self.value_type.type_name

    @property
    def label(self) -> str:
        """The name with dashes as in pflag's errors, after the short name if there is one."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


# Values of no_keyword.
_TEXT = "it changes the lines of text: events have all fields"
_FILE = "it writes a file, which a script does itself"
_PACKETS = "packets=True gives each event its packet"
_LISTING = "it traces nothing"
_STATISTICS = "a script collects statistics itself"

# fmt: off
# ruff: noqa: E501 -- a table with one row per flag, as long as its help text
FLAGS: tuple[Flag, ...] = (
    Flag("filter-func", STRING, "", Group.FUNCTIONS, "trace only functions whose whole name this RE2 regular expression matches", metavar="regex"),
    Flag("kmods", STRINGS, "", Group.FUNCTIONS, "also trace functions of these kernel modules, comma-separated", metavar="modules"),
    Flag("all-kmods", BOOL, "false", Group.FUNCTIONS, "also trace functions of every kernel module that has BTF"),
    Flag("priority", unsigned(0, 3), "3", Group.FUNCTIONS, "trace functions up to this priority: 0 the most informative few, 3 all", metavar="0..3", extension=True),
    Flag("category", STRINGS, "", Group.FUNCTIONS, "trace only functions of these categories, comma-separated", metavar="names", extension=True),
    Flag("functions", PATH, "", Group.FUNCTIONS, "trace only the functions of this list: one name per line, or JSON of --list-functions", metavar="file", extension=True),
    Flag("list-functions", BOOL, "false", Group.FUNCTIONS, "print the functions that would be traced, and exit; as a JSON object with --output-json", extension=True, no_keyword=_LISTING),
    Flag("function-list", PATH, "", Group.FUNCTIONS, "write the names of the functions that would be traced to this file, one per line, and exit; - for standard output", metavar="file", extension=True, no_keyword=_LISTING),
    Flag("backend", choice(Backend), "", Group.FUNCTIONS, f"how to attach: {', '.join(b.value for b in Backend)}; by default the first that the kernel supports", metavar="word"),
    Flag("filter-kprobe-batch", unsigned(minimum=1), "10", Group.FUNCTIONS, "accepted for compatibility with pwru, and ignored: pypwru attaches all kprobes together", metavar="number", no_keyword="it does nothing"),
    Flag("kernel-btf", PATH, "", Group.FUNCTIONS, "read the kernel's types from this file: raw BTF, ELF, or a vmlinuz", metavar="file"),
    Flag("filter-netns", STRING, "", Group.PACKETS, "trace only packets of this network namespace: /path, inode:N, or a name of ip netns", metavar="namespace"),
    Flag("filter-ifname", STRING, "", Group.PACKETS, "trace only packets on this interface of --filter-netns, else of the current namespace", metavar="interface"),
    Flag("filter-mark", MARK, "0x0/0x0", Group.PACKETS, "trace only packets with this skb mark, such as 0xa00/0xf00; all bits count without a mask"),
    Flag("filter-tunnel-pcap-l2", STRING, "", Group.PACKETS, "pcap filter of the frame inside a tunnel", metavar="filter"),
    Flag("filter-tunnel-pcap-l3", STRING, "", Group.PACKETS, "pcap filter of the IP packet inside a tunnel", metavar="filter"),
    Flag("filter-skb-expr", STRING, "", Group.PACKETS, "trace only packets for which this C expression holds, such as 'skb->len > 1500'", metavar="expression"),
    Flag("filter-xdp-expr", STRING, "", Group.PACKETS, "trace only XDP frames for which this C expression holds, such as 'xdp->rxq->queue_index == 1'", metavar="expression"),
    Flag("filter-nft-verdict", NFT_VERDICTS, "", Group.PACKETS, "trace only packets to which a rule or policy of nftables gave one of these verdicts: accept, drop, reject, jump, goto, return, continue, queue, ...", metavar="verdicts", extension=True),
    Flag("filter-nft-table", NFT_TABLES, "", Group.PACKETS, "trace only packets to which a rule or policy of these nftables tables gave a verdict: name, or family and name", metavar="tables", extension=True),
    Flag("filter-nft-chain", NFT_CHAINS, "", Group.PACKETS, "trace only packets to which a rule or policy of these nftables chains gave a verdict: name, or the full text of the column NFT-CHAIN", metavar="chains", extension=True),
    Flag("filter-nft-handle", unsigned(), "0", Group.PACKETS, "trace only packets to which the nftables rule with this handle gave a verdict; 0 for any", metavar="number", extension=True),
    Flag("filter-nft-text", REGEX, "", Group.PACKETS, "trace only packets to which an nftables rule gave a verdict, if this RE2 regular expression is found in the rule's text", metavar="regex", extension=True),
    Flag("drops", BOOL, "false", Group.PACKETS, "trace only packets that are dropped in the end: their complete path, and where they were dropped", extension=True),
    Flag("sample-rate", unsigned(1, bits=32), "1", Group.SAMPLING, "trace one in this many matching packets, each with its complete path", metavar="number", extension=True),
    Flag("sample-flow", unsigned(1, bits=32), "1", Group.SAMPLING, "trace one in this many matching flows, both directions", metavar="number", extension=True),
    Flag("rate-limit", unsigned(bits=32), "0", Group.SAMPLING, "maximum events per second; 0 for no limit", metavar="number", extension=True),
    Flag("max-hits", RATE, "0", Group.SAMPLING, "maximum events per second of each function; 0 for no limit", metavar="number[/s]", extension=True),
    Flag("filter-track-skb", BOOL, "false", Group.TRACKING, "keep tracing a packet that matched once: through NAT, encapsulation, clones"),
    Flag("filter-track-skb-by-stackid", BOOL, "false", Group.TRACKING, "also trace what is called while a matching packet is handled"),
    Flag("filter-non-skb-funcs", STRINGS, "", Group.TRACKING, "also trace these functions without a packet, when called while a matching packet is handled", metavar="functions"),
    Flag("filter-track-bpf-helpers", BOOL, "false", Group.TRACKING, "also trace the helpers that BPF programs call while they handle a matching packet"),
    Flag("filter-trace-tc", BOOL, "false", Group.TRACKING, "also trace TC BPF programs"),
    Flag("filter-trace-xdp", BOOL, "false", Group.TRACKING, "also trace XDP BPF programs"),
    Flag("output-json", BOOL, "false", Group.OUTPUT, "print one JSON object per event", no_keyword=_TEXT),
    Flag("timestamp", choice(Timestamp), "none", Group.OUTPUT, f"print a time: {', '.join(t.value for t in Timestamp)}", metavar="word", no_keyword="events have time_ns and wall_ns"),
    Flag("output-meta", BOOL, "true", Group.OUTPUT, "print the columns NETNS, MARK, IFACE, PROTO, MTU and LEN", no_keyword=_TEXT),
    Flag("output-netns-names", BOOL, "false", Group.OUTPUT, "print the column NETNS NAME", no_keyword=_TEXT),
    Flag("netns-names-max-length", unsigned(bits=8, clamp_to=10), "16", Group.OUTPUT, "characters of a name in the column NETNS NAME, at least 10", metavar="number", no_keyword=_TEXT),
    Flag("output-skb-cb", BOOL, "false", Group.OUTPUT, "print the column __sk_buff->cb[]"),
    Flag("output-tuple", BOOL, "true", Group.OUTPUT, "print the column TUPLE: addresses, ports and protocol", no_keyword=_TEXT),
    Flag("output-tcp-flags", BOOL, "false", Group.OUTPUT, "print TCP flags in the column TUPLE", no_keyword=_TEXT),
    Flag("output-tunnel", BOOL, "false", Group.OUTPUT, "print the column TUNNEL: addresses, ports and protocol of the inner packet"),
    Flag("output-caller", BOOL, "false", Group.OUTPUT, "print the column CALLER"),
    Flag("output-nft", bool_or_choice(NftOutput), "true", Group.OUTPUT, "print nftables events, and the columns NFT-CHAIN and NFT-RULE with the rule of the last verdict; =text adds its text, =hook its hook and priority, =false disables all", extension=True),
    Flag("output-ct", BOOL, "false", Group.OUTPUT, "print the column CT: state, direction, zone, mark and tuples of conntrack", extension=True),
    Flag("output-skb-metadata", STRINGS, "", Group.OUTPUT, "print these members, such as skb->mark,skb->hash; at most 4", metavar="members"),
    Flag("output-xdp-metadata", STRINGS, "", Group.OUTPUT, "print these members for XDP programs, such as xdp->rxq->queue_index; at most 4", metavar="members"),
    Flag("output-stack", BOOL, "false", Group.OUTPUT, "print the kernel's stack after each line"),
    Flag("output-skb", BOOL, "false", Group.OUTPUT, "print struct sk_buff after each line"),
    Flag("output-skb-shared-info", BOOL, "false", Group.OUTPUT, "print struct skb_shared_info after each line"),
    Flag("set-percpu-buf", unsigned(minimum=64, bits=32), "4096", Group.OUTPUT, "bytes for each text of --output-skb and --output-skb-shared-info", metavar="bytes"),
    Flag("output-bpfmap", BOOL, "false", Group.OUTPUT, "print map, key and value when a function traced by --filter-track-bpf-helpers or --filter-non-skb-funcs uses a BPF map"),
    Flag("output-limit-lines", unsigned(), "0", Group.OUTPUT, "exit after this many events; 0 for no limit", metavar="number"),
    Flag("output-journey", BOOL, "false", Group.OUTPUT, "print packet by packet, each once it is freed: its path, the time that each step took, and the outcome", extension=True, no_keyword="a script groups events itself, by their packet_id"),
    Flag("output-file", PATH, "", Group.FILE, "append to this file instead of standard output", metavar="file", no_keyword=_FILE),
    Flag("output-file-max-size", signed(0), "100", Group.FILE, "MB of the output file before it is rotated; 0 for 100", metavar="MB", no_keyword=_FILE),
    Flag("output-file-max-backups", signed(0), "0", Group.FILE, "rotated files to keep; 0 for all", metavar="number", no_keyword=_FILE),
    Flag("output-file-max-age", signed(0), "0", Group.FILE, "days to keep rotated files; 0 for no limit", metavar="days", no_keyword=_FILE),
    Flag("output-file-compress", BOOL, "false", Group.FILE, "compress rotated files with gzip", no_keyword=_FILE),
    Flag("output-pcap", PATH, "", Group.PCAP, "write packets to this file: .pcapng, .pcap, or - for pcapng on standard output, while text goes to standard error", metavar="file", extension=True, no_keyword=_PACKETS),
    Flag("pcap-when", CAPTURE_POINTS, "first", Group.PCAP, "at which events to write a packet: first, last, drop, every, or names of functions", metavar="words", extension=True, requires="output-pcap", no_keyword=_PACKETS),
    Flag("pcap-snaplen", unsigned(1, 1 << 18), "65535", Group.PCAP, "maximum bytes to write of a packet", metavar="bytes", extension=True, requires="output-pcap"),
    Flag("pcap-max-size", unsigned(), "0", Group.PCAP, "MB of the capture file before it is rotated; 0 for never", metavar="MB", extension=True, requires="output-pcap", no_keyword=_FILE),
    Flag("pcap-max-files", unsigned(), "0", Group.PCAP, "capture files to keep, including the current one; 0 for all", metavar="number", extension=True, requires="output-pcap", no_keyword=_FILE),
    Flag("output-text", BOOL, "true", Group.PCAP, "print events; =false if --output-pcap is the only output", extension=True, no_keyword=_TEXT),
    Flag("stats", BOOL, "false", Group.STATISTICS, "print statistics instead of events; with --output-json, --output-journey or --output-file both", extension=True, no_keyword=_STATISTICS),
    Flag("stats-interval", unsigned(bits=32), "0", Group.STATISTICS, "seconds between statistics; 0 for statistics only at the end", metavar="seconds", extension=True, no_keyword=_STATISTICS),
    Flag("stats-file", PATH, "", Group.STATISTICS, "write statistics to this file as JSON; each replaces the previous one", metavar="file", extension=True, no_keyword=_STATISTICS),
    Flag("top", BOOL, "false", Group.STATISTICS, "show statistics in a live table on the terminal; h lists the keys", extension=True, no_keyword=_STATISTICS),
    Flag("buffer-size", RING_SIZE, "16M", Group.RUN, "bytes of the ring buffer, a power of two; k, M or G may follow", extension=True),
    Flag("ready-file", PATH, "", Group.RUN, "create this file once everything is attached", metavar="file", hidden=True, no_keyword="trace() returns once everything is attached"),
    Flag("debug", BOOL, "false", Group.RUN, "log more, with the kernel's full error messages; keep generated code in a new folder"),
    Flag("features", BOOL, "false", Group.ABOUT, "print what this kernel has for tracing, with cost and cure of what it lacks, and exit; as a JSON object with --output-json", extension=True, no_keyword=_LISTING),
    Flag("help", BOOL, "false", Group.ABOUT, "print this message and exit", short="h", no_keyword="see help(pypwru.trace)"),
    Flag("version", BOOL, "false", Group.ABOUT, "print the version and exit", no_keyword="see pypwru.__version__"),
)
# fmt: on

_BY_NAME = {flag.name: flag for flag in FLAGS}
_BY_SHORT_NAME = {flag.short: flag for flag in FLAGS if flag.short}


class InfoRequest(Enum):
    """A request for information instead of a run; if there are both, the first one is answered."""

    HELP = "help"
    VERSION = "version"


def usage(program: str = "pypwru") -> str:
    """Return the text of ``--help``: pflag's lines, in groups; ``program`` is argv[0]."""
    columns = {flag: _usage_column(flag) for flag in FLAGS if not flag.hidden}
    width = max(map(len, columns.values()))
    lines = [
        f"Usage: {program} [options] [pcap-filter]",
        '    Available pcap-filter: see "man 7 pcap-filter"',
        "    Available options:",
    ]
    for group in Group:
        lines += ["", f"{group.value}:"]
        for flag, column in columns.items():
            if flag.group is group:
                lines.append(f"{column:{width}}   {flag.help}{_default_note(flag)}")
    return "\n".join(lines) + "\n"


def _usage_column(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    return f"  {short}--{flag.name} {flag.value_type.type_name}".rstrip()


def _default_note(flag: Flag) -> str:
    if flag.default in {"", "0", "false"}:  # zero values, for which pflag prints no default
        return ""
    is_quoted = flag.value_type.type_name == STRING.type_name
    return f" (default {go_quote(flag.default) if is_quoted else flag.default})"


def parse(argv: Sequence[str]) -> Config | InfoRequest:
    """Parse the command line.

    Args:
        argv: the arguments without the program's name.

    Returns:
        The configuration of the run, or a request for information.

    Raises:
        UsageError: an unknown flag, an invalid value, or flags that exclude each other; in pflag's
            wording if pflag has the same error.
    """
    positionals: list[str] = []
    values: dict[str, Any] = {}
    for flag, text in _iter_flags(argv, positionals):
        value = parse_value(flag, text)
        if (
            isinstance(value, tuple) and flag.value_type.type_name == STRINGS.type_name
        ):  # extend the list
            value = (*values.get(flag.field, ()), *value)
        values[flag.field] = value
    _check_required_flags(values)
    for flag in FLAGS:
        values.setdefault(flag.field, parse_value(flag, flag.default))
    requests = [request for request in InfoRequest if values.pop(request.value)]
    if requests:
        return requests[0]
    # Any: each field's type is what its kind parses to, which a test verifies.
    return Config(pcap_filter=" ".join(positionals), **values)


def _check_required_flags(given: Mapping[str, object]) -> None:
    """Raise UsageError if the flag that another one needs (``requires``) was not given."""
    for flag in FLAGS:
        if flag.requires and flag.field in given and not given.get(_BY_NAME[flag.requires].field):
            raise UsageError(
                f"--{flag.name} has no effect without --{flag.requires}: add that, or leave it out"
            )


def _quoted_label(flag: Flag) -> str:
    return f"{go_quote(flag.label)} flag"


def parse_value(flag: Flag, text: str, display_name: str = "") -> object:
    """Parse the value of ``flag``.

    Args:
        flag: its type is applied.
        text: the value as typed.
        display_name: the flag's name in an error; empty for its name on the command line.

    Raises:
        UsageError: ``text`` is invalid.
    """
    # As in pwru, an empty value stands for the automatic choice if that is the default.
    if flag.value_type.choices and text == flag.default == "":
        return None
    try:
        return flag.value_type.parse(text)
    except ValueError as error:
        display_name = display_name or _quoted_label(flag)
        message = f"invalid argument {go_quote(text)} for {display_name}: {error}"
        raise UsageError(message, hint=_choice_hint(flag, text)) from error


def _choice_hint(flag: Flag, text: str) -> str:
    if not flag.value_type.choices:
        return ""
    from pypwru.cli.hints import hint_for_choice

    return hint_for_choice(f"--{flag.name}", text, flag.value_type.choices)


def _iter_flags(argv: Sequence[str], positionals: list[str]) -> Iterator[tuple[Flag, str]]:
    """Yield each flag of ``argv`` with its text; append positional words to ``positionals``."""
    rest = iter(argv)
    for word in rest:
        if word == "--":
            positionals.extend(rest)
        elif word.startswith("--"):
            yield _parse_long(word, rest)
        elif word.startswith("-") and word != "-":
            yield from _parse_shorthand(word[1:], rest)
        else:
            positionals.append(word)


def _parse_long(word: str, rest: Iterator[str]) -> tuple[Flag, str]:
    name, equals, text = word[2:].partition("=")
    if not name or name.startswith("-"):
        raise UsageError(f"bad flag syntax: {word}")
    if name not in _BY_NAME:
        from pypwru.cli.hints import hint_for_flag

        hint = hint_for_flag(name, text or _skip_value(rest))
        raise UsageError(f"unknown flag: --{name}", hint=hint)
    flag = _BY_NAME[name]
    return flag, text if equals else _next_value(flag, rest, f"--{name}")


def _parse_shorthand(letters: str, rest: Iterator[str]) -> Iterator[tuple[Flag, str]]:
    """Parse shorthand flags such as ``-h`` or ``-h=false``; booleans can be combined in one word.

    Args:
        letters: the word without its dash.
        rest: the following words, from which values are taken.
    """
    while letters:
        flag = _BY_SHORT_NAME.get(letters[0])
        where = f"{go_quote(letters[0], quote_char=chr(39))} in -{letters}"
        if flag is None:
            from pypwru.cli.hints import hint_for_short_flag

            hint = hint_for_short_flag(letters[0], letters[1:].lstrip("=") or _skip_value(rest))
            raise UsageError(f"unknown shorthand flag: {where}", hint=hint)
        if len(letters) > 2 and letters[1] == "=":
            yield flag, letters[2:]
            return
        if flag.value_type.type_name and len(letters) > 1:
            yield flag, letters[1:]
            return
        yield flag, _next_value(flag, rest, where)
        letters = letters[1:]


def _skip_value(rest: Iterator[str]) -> str:
    """Return the word after an unknown flag, which may be its value; empty if it is a flag."""
    word = next(rest, "")
    return "" if word.startswith("-") and word != "-" else word


def _next_value(flag: Flag, rest: Iterator[str], where: str) -> str:
    """Return the text of a flag without ``=``.

    Args:
        flag: of the command line.
        rest: the following words.
        where: the flag's name in an error.
    """
    if not flag.value_type.type_name:  # a boolean never takes the next word
        return "true"
    text = next(rest, None)
    if text is None:
        raise UsageError(f"flag needs an argument: {where}")
    return text
