"""Chapters about the selection of packets: command line, filters, tracking, sampling, drops."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.chapters.block import Block

CHAPTERS: Mapping[str, tuple[Block, ...]] = {
    "command line": (
        "Options may stand before, between and behind the words of the filter; -- ends them. A "
        "value stands behind = or is the next word; an on/off option takes one only behind =, as "
        "in --output-meta=false. A list is comma-separated, with double quotes around an element "
        "that has a comma in it, and grows with each occurrence of its option. Numbers may be "
        "written as 0x10, 0b10, 0o10, 010 (octal) and 1_000; marks are hexadecimal behind 0x and "
        "decimal else.",
    ),
    "filter": (
        "Words that are not options make one expression of pcap-filter(7). Without any, every "
        "packet matches.",
        "An expression about the link layer (ether host, ether[0], arp, vlan) is evaluated as soon "
        "as the packet has an Ethernet header, and before that does not match. len, greater and "
        "less compare the length that the kernel holds at that moment (skb->len): without the "
        "link header where it is removed or not yet added. A tag that the kernel keeps beside the "
        "packet (skb->vlan_tci) counts for vlan, wherever that stands. protochain follows 64 "
        "headers at most.",
        "Bytes behind the headers mostly lie in page fragments, and are read there: "
        "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420 is HTTP's GET. A test of bytes that can't "
        "be read does not match: bytes behind the first 16384 of a packet in several pieces, "
        "behind its 16th piece, in the memory of a device, or in fragments of a frame of an XDP "
        "program.",
        "--filter-tunnel-pcap-l2 and --filter-tunnel-pcap-l3 match the packet inside a tunnel "
        "(VXLAN, Geneve, GRE, IPIP), which must match as well: from its Ethernet header, and from "
        "its IP header. A packet that is in no tunnel passes, as in pwru; exclude it by the filter "
        "(udp port 4789, for example). A packet received from the wire is recognised as a "
        "tunnel's by its outer headers: VXLAN by the UDP ports 4789 and 8472, Geneve by 6081. GRE "
        "and IPIP mostly carry IP packets, which have no Ethernet header and don't match a test "
        "of one.",
        "All criteria must hold: the expression, the namespace, the interface, the mark, the inner "
        "packet of the tunnel and --filter-skb-expr. --filter-ifname without --filter-netns refers "
        "to the namespace that pypwru runs in, and follows the name when another device gets it. "
        "A function that runs before a packet has a device has no interface to compare, and does "
        "not match. The namespace of --filter-netns is kept, with its devices, until the trace "
        "ends, since the kernel would give its inode to another.",
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
        "Numbers have 64 bits, and each member keeps its value: a big-endian member is compared "
        "by its value. Where memory can't be read, because a pointer is NULL for example, the "
        "packet does not match; skb->dev == NULL || skb->dev->mtu > 1500 tests the pointer first. "
        "An error points at the column.",
        "--output-skb-metadata and --output-xdp-metadata print members behind the function, as "
        "name=value, where the name is the member's last.",
    ),
    "tracking": (
        "Without an option of tracking, a line is printed for each function that is called with a "
        "packet that matches at that moment: a packet whose addresses NAT has changed no longer "
        "matches a filter by address.",
        {
            "--filter-track-skb": (
                "A packet that matched once is traced until the kernel frees it, however it "
                "changes, and so are its clones and copies."
            ),
            "--filter-track-skb-by-stackid": (
                "Functions that are called below a function that handles a matching packet are "
                "traced as that packet's."
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
    "following packets": (
        "--filter-track-skb remembers the address of each packet that matched, and of what is made "
        "of it: clones, copies, segments, fragments, and with --filter-trace-xdp the frame that "
        "an XDP program passes on. Such a packet need not match any filter again. An address that "
        "the kernel gives to a new packet is no longer tracked.",
        "--filter-track-skb-by-stackid, --filter-non-skb-funcs and --filter-track-bpf-helpers "
        "trace the functions that are called below a function that was called with a matching "
        "packet, on the same stack and deeper. They need kprobes, but no frame pointers.",
    ),
    "sampling and limits": (
        "On a busy machine not every packet need be traced. Sampling chooses packets in the "
        "kernel, after all filters, when a packet first matches. The decision holds for its whole "
        "path and for its clones, copies and fragments: a sampled packet has the lines that it "
        "would have without sampling.",
        {
            "--sample-rate": (
                "one of each N packets on a CPU, drawn at random: never every N-th, which might "
                "always be the same"
            ),
            "--sample-flow": (
                "one of N flows, by a hash of addresses, ports and protocol that is the same for "
                "both directions (not across NAT on this machine), in each run and on every "
                "machine. A packet without addresses is in. "
                "With --sample-rate as well, both must choose a packet"
            ),
            "--rate-limit": "events in a second, of all functions and CPUs; the rest is counted",
            "--max-hits": (
                "events in a second of each function; the log names the functions that were "
                "throttled, and the number of skipped events"
            ),
        },
        "Limits leave gaps in the paths of packets, and sampling doesn't. Skipped events are "
        "counted by cause: see LOSSES.",
    ),
    "drops": (
        "--drops shows only packets that are dropped in the end, each with its whole path, its "
        "lines together, once it is freed: a tenth of a second later, or half a second where the "
        "kernel frees in bulk. The last free counts: a function that drops one of several "
        "references to a packet does not drop the packet. LOCATION stands on the line of the drop "
        "itself; functions that free packets call each other, so that more lines of one packet "
        "may have a reason.",
        "A drop is what the kernel calls one: a packet freed for any reason but SKB_CONSUMED. "
        "Messages of Unix, netlink and PF_KEY sockets are no packets, and never shown. "
        "Before Linux 5.17 there are no reasons, and kfree_skb() also frees packets that did their "
        "work, such as IGMP's.",
        "Some losses the kernel frees as if the packet had arrived, and no event reports a drop: "
        "connections for which an accept queue has no room, packets that WireGuard refuses. At the "
        "end of --drops, --stats and --output-journey the log has the growth of the counters of "
        "the first (TcpExtListenDrops), and of rx_errors of WireGuard's devices, in each network "
        "namespace and whatever the filter; what is no message of WireGuard at all has no counter.",
        "Functions that report drops are traced whatever --filter-func, --priority, --category "
        "and --functions select; the log names them. 131,072 events of 65,536 packets are held at "
        "most; beyond that the packet that was quiet for longest is evicted (lost_pending).",
    ),
}
