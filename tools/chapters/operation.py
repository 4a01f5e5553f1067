"""Chapters about a run: losses, signals, exit status, files, capabilities, Python, examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.chapters.block import Block

CHAPTERS: Mapping[str, tuple[Block, ...]] = {
    "losses": (
        "The log warns of each loss, with the cure, on a terminal also when it begins. It reports "
        "when no packet matched, and how many others reached the probes. The last line accounts "
        "for every event of a matching packet:",
        {
            "produced": "events of matching packets; the counter events has the printed ones",
            "lost_ring_full": "no room in the ring: use a larger --buffer-size",
            "not_shown": (
                "beyond --output-limit-lines, of packets that filters by nftables exclude, or "
                "the output had no reader any more"
            ),
            "not_sampled": "events of packets that sampling did not choose",
            "over_rate, throttled": "events over --rate-limit, over --max-hits of a function",
            "lost_packet_ids": "packets evicted from the full map of packet ids",
            "lost_free_events": "frees of packets for which the ring had no room",
            "lost_journeys": "packets that --output-journey had no room for",
            "lost_recursion": (
                "hits that the kernel skipped since a handler was interrupted on that CPU; it is "
                "unknown whether they were of matching packets"
            ),
            "lost_missed": "hits that ftrace or kprobes skipped for the same reason",
            "lost_nested": (
                "the same of functions without a packet, which handlers call themselves: mostly no "
                "loss"
            ),
            "lost_tracking": "tracked packets evicted from the full map of 65,536",
            "lost_verdicts": "the same of packets with a verdict of nftables",
            "capture_requested": (
                "with --output-pcap: events whose packet data was requested; the packets were "
                "written (pcap_packets), lost (lost_packets) or not selected by --pcap-when in the "
                "end"
            ),
            "capture_truncated": (
                "of these, packets of which fewer bytes could be read than --pcap-snaplen allows"
            ),
            "lost_packets": "no room for packet data: use a larger --buffer-size",
            "lost_pending": (
                "events evicted for lack of room, of packets that such filters might have "
                "selected later; they are among not_shown"
            ),
        },
    ),
    "signals": (
        "SIGUSR1 reports the state so far: statistics where they are enabled, else the counters, "
        "in the log. SIGINT, SIGTERM and SIGHUP (but under nohup(1)) end the trace: probes "
        "are detached, and the events that they recorded are printed, to a slow reader for two "
        "seconds more. A further signal, a second later or more, ends that wait.",
    ),
    "exit status": (
        {
            "0": "--output-limit-lines, a signal, or the reader of the output is gone",
            "1": "an error, which is the last line on standard error",
            "2": "an invalid command line",
            "130": "a second signal, more than a second after the first",
        },
    ),
    "environment": (
        {
            "PYPWRU_CACHE": (
                "a folder for compiled programs and facts about the kernel's functions, "
                "instead of /var/cache/pypwru; it must be the user's alone (mode 0700), else "
                "nothing is cached, and the log has the reason; only pypwru's own files in it are "
                "removed"
            ),
        },
    ),
    "files": (
        {
            "/sys/kernel/btf": "the types of the kernel and of its modules",
            "/sys/kernel/tracing": "tracefs: which functions can be traced, and kprobes",
            "/proc/kallsyms": "addresses of functions, and their names",
            "/var/cache/pypwru": (
                "compiled programs, and facts about the kernel's functions, valid until the next "
                "boot or change of modules; root's alone; others have ~/.cache/pypwru"
            ),
            "/run/netns": "names of network namespaces",
            "$TMPDIR/pypwru-debug-*": (
                "with --debug, for a bug report: the macros and struct layouts that the programs "
                "were compiled with, the disassembly of each loaded program (HANDLER.ebpf), and "
                "the verifier's log of one that it refused (HANDLER.verifier.log); without TMPDIR, "
                "in the system's folder for temporary files. pypwru doesn't remove them"
            ),
            "PREFIX/share/bash-completion/completions/pypwru.bash": (
                "completion for bash, with the package bash-completion"
            ),
            "PREFIX/share/zsh/site-functions/_pypwru": "completion for zsh",
            "PREFIX/share/pypwru/wireshark": "a dissector and a profile for --output-pcap",
        },
        "Both shells complete functions, modules, interfaces, namespaces, categories and chains as "
        "this machine has them at the moment, in lists as well; what only root can list is "
        "completed only for root.",
    ),
    "capabilities": (
        {
            "CAP_BPF": "maps and programs",
            "CAP_PERFMON": "kprobes, tracepoints and memory of the kernel",
            "CAP_SYSLOG": "addresses in /proc/kallsyms",
            "CAP_NET_ADMIN": (
                "the private network namespace that enables nftables' trace events, and programs "
                "of TC and XDP"
            ),
            "CAP_SYS_ADMIN": (
                "other network namespaces, and their names; BPF programs that are loaded "
                "(--filter-trace-tc, --filter-trace-xdp, --filter-track-bpf-helpers); page "
                "fragments of packets, for captures and for filters of payload"
            ),
        },
        "The first three suffice for a trace. Files of tracefs are root's. Lists, --help and "
        "completion need none. A kernel that is locked down for confidentiality lets no process "
        "trace.",
    ),
    "python": (
        "Scripts trace as the command line does, and get events instead of lines:",
        (
            "from pypwru import trace",
            "",
            'with trace("tcp port 443", priority=1, packets=True) as events:',
            "    for event in events:",
            '        if event.type == "drop" and event.packet:',
            "            print(event.drop_reason, event.iface, event.packet.summary())",
        ),
        "Options are those above with _ for -, and Python's values, such as "
        'category=["drop", "nft"] or filter_mark=(0xa00, 0xf00); those about lines of text and '
        "files are left out. An invalid option, and what the kernel refuses, raises "
        "pypwru.PypwruError with the message of the command line.",
        {
            "event": (
                "has every column as a value, and those that options add; "
                "help(pypwru.Event) describes each"
            ),
            "event.packet, event.data": (
                "the packet as the kernel held it, as scapy's and as bytes; with packets=True"
            ),
            "events.stop()": (
                "ends the loop after the events recorded until now; from any thread or signal "
                "handler, of which none is installed"
            ),
            "events.counters, events.lost": (
                "the counters of LOSSES, once the trace is over; those that count losses"
            ),
            "events.warnings": "the warnings of the log; log=sys.stderr prints the log",
        },
        "Everything is detached when the loop ends, for whatever reason, at the latest at the end "
        "of the with. Without one a variable, or a traceback, may keep a trace alive.",
    ),
    "examples": (
        "Where are packets to a port lost, and why?",
        ("pypwru --category drop 'tcp and dst port 8443'",),
        "All of a connection through NAT, with TCP flags:",
        ("pypwru --filter-track-skb --output-tcp-flags host 192.0.2.7 and tcp",),
        "Which functions hand large packets to a bridge in the namespace blue?",
        ("pypwru --filter-netns blue --filter-func 'br_.*' --output-caller 'greater 1500'",),
        "Which rule drops packets to port 8443?",
        ("pypwru --output-nft=text --filter-nft-verdict drop 'tcp and dst port 8443'",),
        "The packets that are dropped, with the reason, for Wireshark:",
        ("pypwru --output-pcap drops.pcapng --pcap-when drop tcp",),
        "Which functions of nftables and netfilter does priority 1 trace? Trace just these later:",
        ("pypwru --list-functions --priority 1 --category nft,netfilter",),
        ("pypwru --function-list list.txt --priority 1 --category nft,netfilter",),
        ("pypwru --functions list.txt tcp",),
        "What does this kernel have, and what does it lack?",
        ("pypwru --features",),
        "Statistics of a minute of a busy machine, one packet in a hundred:",
        ("timeout -s INT 60 pypwru --priority 2 --sample-rate 100 --stats",),
        "Whole connections, one in ten, both directions:",
        ("pypwru --sample-flow 10 --filter-track-skb tcp",),
        "All dropped packets with their paths, packet by packet:",
        ("pypwru --drops --output-journey 'not arp'",),
        "A day in files of 50 MB, compressed, for jq:",
        (
            "pypwru --output-json --output-file /var/log/pypwru.json \\",
            "    --output-file-max-size 50 --output-file-max-age 1 --output-file-compress icmp",
        ),
    ),
    "see also": ("pcap-filter(7), tcpdump(8), bpftool(8), ip-netns(8)",),
}
