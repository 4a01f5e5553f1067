"""How a run goes, what it counts, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.chapters.block import Block

CHAPTERS: Mapping[str, tuple[Block, ...]] = {
    "losses": (
        "What was lost is said in the log, with the cure; on a terminal when it begins, too. So is "
        "that no packet matches, and how often others hit the probes. The last line tells where "
        "every sight of a matching packet went:",
        {
            "produced": "what the handlers saw; printed are events",
            "lost_ring_full": "no room in the ring: take a larger --buffer-size",
            "not_shown": (
                "beyond --output-limit-lines, of packets that filters by nftables leave out, or "
                "the output had no reader any more"
            ),
            "not_sampled": "sights of packets that sampling did not choose",
            "over_rate, throttled": "sights over --rate-limit, over --max-hits of a function",
            "lost_identities": "packets thrown out of the full map of who they are",
            "lost_ends": "ends of packets for which the ring had no room",
            "lost_journeys": "packets that --output-journey had no room for",
            "lost_recursion": (
                "hits that the kernel skipped since a handler was interrupted on that CPU; nobody "
                "knows whether they were of matching packets"
            ),
            "lost_missed": "hits that ftrace or kprobes skipped for the same reason",
            "lost_nested": (
                "the same of functions without a packet, which handlers call themselves: mostly no "
                "loss"
            ),
            "lost_tracking": "tracked packets thrown out of the full map of 65,536",
            "lost_verdicts": "the same of packets that carry a verdict of nftables",
            "packets_wanted": (
                "with --output-pcap: sights whose bytes were to be had; they were written "
                "(pcap_packets), lost (lost_packets) or not among what was asked for in the end"
            ),
            "packets_cut": (
                "of these, packets of which less could be read than --pcap-snaplen asks for"
            ),
            "lost_packets": "no room for the bytes: take a larger --buffer-size",
            "lost_held": (
                "sights thrown away for lack of room, of packets that such filters might have "
                "chosen later; they are among not_shown"
            ),
        },
    ),
    "signals": (
        "SIGUSR1 tells what there is so far: statistics where they are made, else where sights "
        "went, in the log. SIGINT, SIGTERM and SIGHUP (but under nohup(1)) end the trace: probes "
        "are detached, and what they saw is printed, to a slow reader for two seconds more. One "
        "that comes a second later or more does not wait for that.",
    ),
    "exit status": (
        {
            "0": "--output-limit-lines, a signal, or the reader of the output is gone",
            "1": "an error, which is the last line on standard error",
            "2": "a wrong command line",
            "130": "a second signal, more than a second after the first",
        },
    ),
    "environment": (
        {
            "PYPWRU_CACHE": (
                "a folder for compiled programs and what is known of the kernel's functions, "
                "instead of /var/cache/pypwru; it must be the user's alone (mode 0700), else "
                "nothing is kept, and the log says why; only pypwru's own files in it are removed"
            ),
        },
    ),
    "files": (
        {
            "/sys/kernel/btf": "the types of the kernel and of its modules",
            "/sys/kernel/tracing": "tracefs: which functions can be hooked, and kprobes",
            "/proc/kallsyms": "addresses of functions, and their names",
            "/var/cache/pypwru": (
                "compiled programs, and what is known of the kernel's functions until the next "
                "boot or change of modules; root's alone; others have ~/.cache/pypwru"
            ),
            "/run/netns": "names of network namespaces",
            "PREFIX/share/bash-completion/completions/pypwru.bash": (
                "completion for bash, with the package bash-completion"
            ),
            "PREFIX/share/zsh/site-functions/_pypwru": "completion for zsh",
            "PREFIX/share/pypwru/wireshark": "a dissector and a profile for --output-pcap",
        },
        "Both shells complete functions, modules, interfaces, namespaces, categories and chains as "
        "this machine has them at the moment, in lists as well; what only root can see only for "
        "root.",
    ),
    "capabilities": (
        {
            "CAP_BPF": "maps and programs",
            "CAP_PERFMON": "kprobes, tracepoints and memory of the kernel",
            "CAP_SYSLOG": "addresses in /proc/kallsyms",
            "CAP_NET_ADMIN": (
                "the namespace that makes nftables tell of its rules, and programs of TC and XDP"
            ),
            "CAP_SYS_ADMIN": (
                "other network namespaces, and their names; BPF programs that are loaded "
                "(--filter-trace-tc, --filter-trace-xdp, --filter-track-bpf-helpers); page "
                "fragments of packets, for captures and for filters of payload"
            ),
        },
        "The first three suffice for a trace. Files of tracefs are root's. Lists, --help and "
        "completion need nothing. A kernel that is locked down for confidentiality lets nobody "
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
        "files are left out. What can't be meant, or had, raises pypwru.PypwruError with the "
        "words that the command line has for it.",
        {
            "event": (
                "has every column as a value, and what options ask for beside; "
                "help(pypwru.Event) tells of each"
            ),
            "event.packet, event.octets": (
                "the packet as the kernel held it, as scapy's and as bytes; with packets=True"
            ),
            "events.stop()": (
                "ends the loop behind what was seen until now; from any thread or handler of "
                "signals, of which none is installed"
            ),
            "events.account, events.lost": (
                "the numbers of LOSSES, once the trace is over; those that are of losses"
            ),
            "events.warnings": "what the log warned of; log=sys.stderr shows the log",
        },
        "Everything is detached when the loop ends, for whatever reason, at the latest at the end "
        "of the with. Without one a variable, or a traceback, may keep a trace alive.",
    ),
    "examples": (
        "Where do packets to a port get lost, and why?",
        ("pypwru --category drop 'tcp and dst port 8443'",),
        "All of a connection through NAT, with TCP flags:",
        ("pypwru --filter-track-skb --output-tcp-flags host 192.0.2.7 and tcp",),
        "Who hands large packets to a bridge in the namespace blue?",
        ("pypwru --filter-netns blue --filter-func 'br_.*' --output-caller 'greater 1500'",),
        "Which rule drops what comes to port 8443?",
        ("pypwru --output-nft=text --filter-nft-verdict drop 'tcp and dst port 8443'",),
        "The packets that are dropped, with the reason, for Wireshark:",
        ("pypwru --output-pcap drops.pcapng --pcap-when drop tcp",),
        "What would be traced of nftables and netfilter at priority 1? Trace just that later:",
        ("pypwru --list-functions --priority 1 --category nft,netfilter",),
        ("pypwru --function-list list.txt --priority 1 --category nft,netfilter",),
        ("pypwru --functions list.txt tcp",),
        "A minute of a busy machine, one packet in a hundred, summed up:",
        ("timeout -s INT 60 pypwru --priority 2 --sample-rate 100 --stats",),
        "Whole connections, one in ten, both directions:",
        ("pypwru --sample-flow 10 --filter-track-skb tcp",),
        "Everything that is dropped, with its way, packet by packet:",
        ("pypwru --drops --output-journey 'not arp'",),
        "A day in files of 50 MB, packed, for jq:",
        (
            "pypwru --output-json --output-file /var/log/pypwru.json \\",
            "    --output-file-max-size 50 --output-file-max-age 1 --output-file-compress icmp",
        ),
    ),
    "see also": ("pcap-filter(7), tcpdump(8), bpftool(8), ip-netns(8)",),
}
