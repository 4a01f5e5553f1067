"""What the manual says beyond the flags: chapters as plain text, which ``manual.py`` sets.

A block is a paragraph, a table of terms, or (a tuple of lines) an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Block: TypeAlias = str | Mapping[str, str] | tuple[str, ...]

SUMMARY = "trace packets through the functions of the Linux kernel"
DESCRIPTION = """\
Attach to every kernel function that takes a packet (struct sk_buff), and print a line whenever one
of them sees a packet that matches the filter: which packet, on which CPU, in which process, network
namespace and interface, with its addresses, and why it was dropped where it was. Command line and
output are those of pwru. Needs root, or CAP_BPF, CAP_PERFMON and CAP_SYSLOG with access to tracefs.
"""

CHAPTERS: Mapping[str, tuple[Block, ...]] = {
    "command line": (
        "Options may stand before, between and behind the words of the filter; -- ends them. A "
        "value stands behind = or is the next word; a switch takes one only behind =, as in "
        "--output-meta=false. A list is comma-separated, with double quotes around what has a "
        "comma in it, and grows with each time that its option is given. Numbers may be written "
        "as 0x10, 0b10, 0o10, 010 (octal) and 1_000; marks are hexadecimal behind 0x and decimal "
        "else.",
    ),
    "filter": (
        "Words that are no option make one expression of pcap-filter(7). Without any, every "
        "packet matches.",
        "An expression about the link layer (ether host, arp, vlan) is decided as soon as the "
        "packet has an Ethernet header, and before that does not match. What looks at len, "
        "greater or less is about the length that the kernel holds at that moment (skb->len): "
        "without the link header where it is taken off or not yet put on. A tag that the kernel "
        "keeps beside the packet (skb->vlan_tci) counts for vlan. protochain follows 64 headers "
        "at most.",
        "--filter-tunnel-pcap-l2 and --filter-tunnel-pcap-l3 are about the packet inside a tunnel "
        "(VXLAN, Geneve, GRE, IPIP), which must match as well. A packet in which the kernel knows "
        "of no tunnel does not match them.",
        "All filters must hold: the expression, the namespace, the interface, the mark, what is "
        "inside the tunnel and --filter-skb-expr. --filter-ifname without --filter-netns is about "
        "the namespace that pypwru runs in. A function that runs before a packet has a device "
        "sees no interface, and does not match one.",
    ),
    "expressions": (
        "--filter-skb-expr is C about skb, a struct sk_buff *; --filter-xdp-expr is C about xdp, "
        "a struct xdp_buff *. The types are those of the running kernel.",
        {
            "skb->len > 1500": "members by -> and ., through pointers and structs",
            "skb->cb[0] == 1": "arrays, with a constant index",
            "skb->pkt_type == 4": "bit fields",
            "skb->dev->reg_state != NETREG_REGISTERED": "enumerators, by their name or value",
            'skb->dev->name == "eth0"': "strings, in an array or behind a char *",
            "skb->protocol == 0x0800 && !(skb->mark & 0xff)": (
                "comparison, arithmetic, bit operators, && || ! and parentheses"
            ),
        },
        "Numbers have 64 bits, and each member keeps its value: a big-endian one is compared by "
        "what it says. Where memory can't be read, behind a pointer that is NULL say, nothing "
        "matches; skb->dev == NULL || skb->dev->mtu > 1500 asks first. An error points at the "
        "column.",
        "--output-skb-metadata and --output-xdp-metadata print members behind the function, as "
        "name=value, where the name is the member's last.",
    ),
    "tracking": (
        "Without an option of tracking, a line is printed for each function that sees a packet "
        "that matches there and then: a packet whose addresses NAT has changed is lost to a "
        "filter by address.",
        {
            "--filter-track-skb": (
                "What matched once is traced until the kernel frees it, whatever it has become, "
                "and so are its clones and copies."
            ),
            "--filter-track-skb-by-stackid": (
                "What is called below a function that handles a matching packet counts as that "
                "packet's."
            ),
            "--filter-non-skb-funcs, --filter-track-bpf-helpers": (
                "Functions that take no packet, or all that BPF programs call, are traced then, "
                "too. With --output-bpfmap, functions of BPF maps show the map, the key and the "
                "value."
            ),
            "--filter-trace-tc, --filter-trace-xdp": (
                "BPF programs are traced as functions are; FUNC ends with (tc) or (xdp). Programs "
                "that are loaded during the trace are traced as well. A program that can't be is "
                "named in the log."
            ),
        },
    ),
    "output": (
        {
            "TIME": "local time of the event; only with --timestamp absolute",
            "SKB": "address of the packet's struct sk_buff",
            "CPU": "where it was seen",
            "PROCESS": "the current program and its pid; in softirq, a bystander",
            "TIMESTAMP": (
                "nanoseconds of the kernel's clock (current, absolute), or since the packet's "
                "previous line (relative)"
            ),
            "NETNS": "inode of the packet's network namespace",
            "MARK/x": "its mark, hexadecimal",
            "IFACE": "its device and ifindex",
            "PROTO": "its EtherType",
            "MTU": "that of its route, or of its device",
            "LEN": "its length",
            "__sk_buff->cb[]": (
                "what BPF programs see as cb; with --output-skb-cb or --filter-trace-tc"
            ),
            "NETNS NAME": "the namespace's name in ip-netns(8); with --output-netns-names",
            "TUPLE": "its addresses, ports and protocol; TCP flags with --output-tcp-flags",
            "FUNC": "the function, and the drop reason in parentheses",
            "CALLER": "the function that called it; with --output-caller",
            "CT": (
                "what conntrack knows of the packet, with --output-ct: nothing before conntrack "
                "has seen it, or where it is invalid; else state and direction (words of nft's ct "
                "state), zone and mark unless they are 0, status, the connection's tuple, and "
                "after reply that of its answers as they are before NAT"
            ),
            "NFT-CHAIN, NFT-RULE": (
                "what nftables says, or has said of the packet; nothing where it has not"
            ),
            "TUNNEL": "as TUPLE, of the packet inside the tunnel; with --output-tunnel",
        },
        "Behind the line come the stack (--output-stack), the packet's structs (--output-skb, "
        "--output-skb-shared-info) and the arguments of functions on BPF maps (--output-bpfmap), "
        "each on lines of its own.",
        "With --output-json an event is one line, an object with pwru's keys and some more; there "
        "is no header.",
    ),
    "nftables": (
        "Which rule of nftables, in whichever network namespace, did what to a packet that is "
        "traced is told without a change to any ruleset. Where a rule speaks, a chain is entered, "
        "left or returns, or a policy decides, there is a line, and the last final verdict stands "
        "on every later line of the packet:",
        {
            "inet filter web  handle 12 drop": "this rule of this chain spoke, just now",
            "inet filter input  handle 9 jump web": (
                "so did this one; there is also goto, return, continue (a rule that only counted, "
                "say), queue, stolen"
            ),
            "inet filter web  return": "the end of a chain",
            "inet filter input  policy drop": "no rule of the base chain decided",
            "inet filter input  enter, exit drop": (
                "a base chain begins, and ends with what the hook gets of it"
            ),
            "inet filter input -> web  #12 drop": (
                "on lines of a packet: this rule decided, and that is how it was come to"
            ),
            "ip filter INPUT  legacy drop": (
                "iptables-legacy: table, hook and verdict; its rules have no handles"
            ),
        },
        "A name that isn't known is ? and the handle. --output-nft=text puts the rule's text and "
        'comment behind it, as in "handle 12 drop: tcp dport 80 drop comment "no web"", and '
        "--output-nft=hook hook and priority of the base chain; objects of --output-json have all "
        "of it. Texts are read from the packet's own namespace (with nft and iptables-nft-save) "
        "when they are first needed, and again when the kernel tells of a change. For this, lines "
        "wait for a tenth of a second, and where a text isn't known yet for one second at most. "
        "A rule that was gone before anybody could read it is (text unknown), or null, and never "
        "has the text of another.",
        "--filter-nft-verdict, -table, -chain, -handle and -text choose packets: of those that "
        "pass the other filters only packets about which one rule, or policy, spoke that meets "
        "all of them are shown, with their whole path. What is seen of a packet before is held "
        "until such a rule speaks or the packet is freed; when more than 131,072 sights of 65,536 "
        "packets would be held, those of the packet that was quiet for longest are thrown away "
        "(lost_held). A packet may have been seen by functions before, and pass the filter only "
        "later: --filter-track-skb shows what came after NAT, too.",
        "Hardware and flowtables that forward packets past nftables are not seen, as nftables "
        "doesn't see them. It takes kprobes; without them, or on a kernel without nf_tables, lines "
        "have nothing of it. A kernel that loads nf_tables during the trace is told of from then "
        "on. Where the kernel refuses the network namespace of our own that makes it tell (no "
        "CAP_NET_ADMIN, or the sysctl user.max_net_namespaces is 0), the expressions that give "
        "verdicts are traced, and the log says so: then neither rules without a verdict are seen "
        "nor the ends of chains, and a rule that could not be looked up, being behind the 4,096th "
        "of its chain (before Linux 5.17 the 2,048th), is handle ?.",
    ),
    "output file": (
        "--output-file appends to a file, which is made with its folders if need be. Before it "
        "would grow beyond --output-file-max-size it is renamed after the local time, trace.log "
        "to trace-2026-11-23T04-18-33.584.log, and a new one is begun with the same owner and "
        "mode. An event is never split over two files. What is no regular file, such as a pipe, "
        "is not rotated.",
        "When something is printed for the first time, and at each rotation, rotated files beyond "
        "--output-file-max-backups and --output-file-max-age are removed and the others packed if "
        "--output-file-compress asks for it, whichever run rotated them. The end waits for that; "
        "another signal ends the wait, and leaves the rest unpacked.",
    ),
    "packets in a file": (
        "--output-pcap writes the packets that match, as the kernel held them, while the trace "
        "goes on: to pcapng where the file's name ends in .pcapng, to classic pcap with "
        "nanoseconds where it ends in .pcap, and as pcapng to standard output where it is -; then "
        "text goes to standard error. All that was read at a time is written at once, and a reader "
        "that goes away ends the trace:",
        (
            "pypwru --output-pcap - --output-text=false FILTER | wireshark -k -i -",
            "pypwru --output-pcap - FILTER | tcpdump -nr -",
        ),
        "Which sight of a packet is written is what --pcap-when says. Several words write what any "
        "of them asks for, a sight once:",
        {
            "first": "the first function that sees it match; the default",
            "last": (
                "the last one, known when the kernel frees the packet, or gives its address to "
                "another; else at the end. More than 65,536 packets or 64 MB are not held: that "
                "which was quiet for longest is written then, and once more if it is seen again"
            ),
            "drop": "where it is thrown away: the first function that says so",
            "every": "all of them",
            "ip_rcv, br_forward[bridge], tp:net_dev_queue": (
                "these functions and tracepoints, as FUNC shows them; the module may be left out. "
                "They must be among those that are traced"
            ),
        },
        "What is written begins with the Ethernet header where the packet has one, with a VLAN tag "
        "that the kernel keeps beside the packet (skb->vlan_tci) in its place, and else with the "
        "network header. pcapng has link types of both, Ethernet and raw IP. Classic pcap, and "
        "standard output, which tcpdump reads only as long as the link type stays the same, are "
        "all Ethernet: what has no such header gets one whose addresses are zero; so does in any "
        "file what is neither IPv4 nor IPv6. Beyond --pcap-snaplen bytes, and where memory can't "
        "be read, a packet is cut, and its length still told. Times are the wall clock's at the "
        "event itself.",
        "pcapng says more. An interface is a device in a network namespace, with a link type: its "
        "name is the device's, its description has the namespace. A packet has its direction where "
        "the function tells it, the queue of its device, a packet id that all sights of it share, "
        "and how many were lost in front of it (see losses). At the end of the file stand, for "
        "each interface, how many packets matched (received, accepted), were lost (dropped) and "
        "were written (delivered). A file that ends without that, after a kill -9, is valid up to "
        "what was written last. The comment of a packet is one line of key=value; quotes are "
        "around a value with spaces, and a key without a value is left out:",
        {
            "func": "the function",
            "skb": "address of the struct sk_buff",
            "process, pid, cpu": "the current program, with its path; its pid; where it ran",
            "netns, netns_name, iface": (
                "inode and name of the network namespace, name of the interface"
            ),
            "type": "function_call, drop, tc, xdp, map, nft_rule or nft_chain",
            "drop_reason": "of a drop, as FUNC shows it",
            "nft.chain, nft.rule, nft.verdict": "what nftables says, or has said, of the packet",
            "nft.text, nft.comment": "the rule's; with --output-nft=text or --output-json",
        },
        "A file takes the place of an older one of its name. With --pcap-max-size it is renamed "
        "after the local time before it would grow beyond that, as the output file is, and a new "
        "one is begun; each is a whole file, with the counts of its own packets. --pcap-max-files "
        "keeps so many, with the one that is written, whichever run made them. What is no regular "
        "file, such as a named pipe, is not rotated. A file that can't be opened, or written any "
        "more, is named in the log, and text goes on without it; with --output-text=false that is "
        "an error.",
    ),
    "following packets": (
        "--filter-track-skb remembers the address of each packet that matched, and of what is made "
        "of it: clones, copies, segments, fragments, and with --filter-trace-xdp the frame that "
        "an XDP program passes on. Such a packet need not pass any filter again. An address that "
        "the kernel gives to a new packet is no longer tracked.",
        "--filter-track-skb-by-stackid, --filter-non-skb-funcs and --filter-track-bpf-helpers "
        "trace what is called below a function that was seen with a matching packet, on the same "
        "stack and deeper. They need kprobes, but no frame pointers.",
    ),
    "python": (
        "Scripts trace as the command line does, and get events instead of lines:",
        (
            "from pypwru import trace",
            "",
            'with trace("tcp port 443", priority=1, packets=True) as events:',
            "    for event in events:",
            '        if event.type == "drop":',
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
    "losses": (
        "The last line of the log tells where every sight of a matching packet went:",
        {
            "produced": "what the handlers saw; printed are events",
            "lost_ring_full": "no room in the ring: take a larger --buffer-size",
            "not_shown": (
                "beyond --output-limit-lines, of packets that filters by nftables leave out, or "
                "the output had no reader any more"
            ),
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
        "SIGINT and SIGTERM end the trace: probes are detached, and what they saw is printed. A "
        "second one does not wait for that.",
    ),
    "exit status": (
        {
            "0": "--output-limit-lines, a signal, or the reader of the output is gone",
            "1": "an error, which is the last line on standard error",
            "2": "a wrong command line",
            "130": "a second signal",
        },
    ),
    "environment": (
        {
            "PYPWRU_CACHE": (
                "a folder for what was compiled for a kernel, instead of /var/cache/pypwru; it "
                "must be the user's alone"
            ),
        },
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
        "A day in files of 50 MB, packed, for jq:",
        (
            "pypwru --output-json --output-file /var/log/pypwru.json \\",
            "    --output-file-max-size 50 --output-file-max-age 1 --output-file-compress icmp",
        ),
    ),
    "see also": ("pcap-filter(7), tcpdump(8), bpftool(8), ip-netns(8)",),
}
