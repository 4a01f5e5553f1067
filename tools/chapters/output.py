"""Chapters about output: columns, nftables, the output file, captures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.event_fields import by_title

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.chapters.block import Block

CHAPTERS: Mapping[str, tuple[Block, ...]] = {
    "output": (
        by_title(),
        "Behind the line come the stack (--output-stack), the packet's structs (--output-skb, "
        "--output-skb-shared-info) and the arguments of functions on BPF maps (--output-bpfmap), "
        "each on lines of its own.",
        "Names of programs, devices, namespaces and rules are chosen by others: in text, control "
        "characters and what a terminal can't show are escaped as in JSON (\\n, \\u001b), and a "
        "byte that is not UTF-8 is \\xff.",
        "With --output-json an event is one line, an object with pwru's keys and some more; there "
        "is no header.",
    ),
    "nftables": (
        "The rules of nftables that act on a traced packet, in any network namespace, are reported "
        "without a change to any ruleset. For each rule that is evaluated, chain that is entered, "
        "left or returns, and policy that decides, there is a line, and the last final verdict "
        "stands on every later line of the packet:",
        {
            "inet filter web  handle 12 drop": "this rule of this chain was evaluated",
            "inet filter input  handle 9 jump web": (
                "so was this one; there is also goto, return, continue (a rule that only counted, "
                "for example), queue, stolen"
            ),
            "inet filter web  return": "the end of a chain",
            "inet filter input  policy drop": "no rule of the base chain decided",
            "inet filter input  enter, exit drop": (
                "a base chain begins; it ends, with the verdict that the hook gets"
            ),
            "inet filter input -> web  #12 drop": (
                "on lines of a packet: the rule that decided, and the chains that led to it"
            ),
            "ip filter INPUT  legacy drop": (
                "iptables-legacy: table, hook and verdict; its rules have no handles"
            ),
            "bridge broute BROUTING  legacy route": (
                "ebtables-legacy's DROP in the table broute: the packet is routed, not bridged"
            ),
            "no rule seen: conntrack, or another hook function": (
                "on a drop with reason NETFILTER_DROP: the hook function was neither nftables' nor "
                "iptables-legacy's; conntrack -S has the drops of conntrack"
            ),
        },
        "A name that isn't known is ? and the handle. --output-nft=text puts the rule's text and "
        'comment behind it, as in "handle 12 drop: tcp dport 80 drop comment "no web"", and '
        "--output-nft=hook hook and priority of the base chain; objects of --output-json have all "
        "of it. Texts are read from the packets' own namespaces at the start, and again when the "
        "kernel notifies of a change: with nft, and those of rules with a match or target of "
        "iptables with iptables-nft-save and its like. A set of more than 200 characters is shown "
        "as { 3000 elements }. The chain of a rule that has rules of its own (jump { ... }) is "
        'named after the rule, as in "inet filter input#9", where texts are read, and else '
        "__chain1. For all this, lines wait until all changes of rules up to their time are known, "
        "about a tenth of a second, and where a text isn't known yet for one second at most, or "
        "five while rules are being read. A rule that was deleted "
        "before it could be read is (text unknown), or null, and never has the text of another.",
        "--filter-nft-verdict, -table, -chain, -handle and -text choose among the packets that "
        "match the other filters: a packet is shown, with its whole path, when one rule or policy "
        "that acted on it meets all of them. A chain is given by its name, or as the "
        "column NFT-CHAIN has it. The verdict of a rule that rejects is drop; reject is found by "
        "the rule's text. Events of a packet are held "
        "until such a rule acts on it or the packet is freed; when more than 131,072 events of "
        "65,536 packets would be held, those of the packet that was quiet for longest are evicted "
        "(lost_pending). A packet may have passed functions before it matched the filter: "
        "--filter-track-skb shows what came after NAT, too.",
        "Packets that hardware and flowtables forward past nftables have no events, as nftables "
        "doesn't process them. It takes kprobes; without them, or on a kernel without nf_tables, "
        "the columns are empty. A kernel that loads nf_tables during the trace is traced from then "
        "on. Where the kernel refuses the private network namespace that enables nftables' trace "
        "events (no CAP_NET_ADMIN, or the sysctl user.max_net_namespaces is 0), the expressions "
        "that set verdicts are traced, and the log reports it: then rules without a verdict and "
        "the ends of chains have no events, and a rule that could not be looked up, being behind "
        "the 4,096th of its chain (before Linux 5.17 the 2,048th), is handle ?.",
    ),
    "output file": (
        "--output-file appends to a file, which is created with its folders if need be. Before it "
        "would grow beyond --output-file-max-size it is renamed after the local time, trace.log "
        "to trace-2026-11-23T04-18-33.584.log, and a new one is begun with the same owner and "
        "mode. An event is never split over two files. What is no regular file, such as a pipe, "
        "is not rotated.",
        "At the first output, and at each rotation, rotated files beyond "
        "--output-file-max-backups and --output-file-max-age are removed and the others compressed "
        "with --output-file-compress, whichever run rotated them. The end waits for that; "
        "another signal ends the wait, and leaves the rest uncompressed.",
    ),
    "packets in a file": (
        "--output-pcap writes the packets that match, as the kernel held them, while the trace "
        "goes on: to pcapng where the file's name ends in .pcapng, to classic pcap with "
        "nanoseconds where it ends in .pcap, and as pcapng to standard output where it is -; then "
        "text goes to standard error. All that was read at a time is written at once, and a reader "
        "that goes away ends the trace:",
        (
            "pypwru --output-pcap - --output-text=false FILTER | wireshark -k -i -",
            "pypwru --output-pcap - --output-text=false FILTER | tcpdump -nr -",
        ),
        "--pcap-when selects the events of a packet at which it is written. With several words "
        "each event that any of them selects is written once:",
        {
            "first": "the first function in which it matches; the default",
            "last": (
                "the last one, known when the kernel frees the packet, or gives its address to "
                "another; else at the end. At most 65,536 packets or 64 MB are held: beyond that "
                "the one that was quiet for longest is written, and once more if it has another "
                "event"
            ),
            "drop": "at its drop: the first function that reports it",
            "every": "all of them",
            "ip_rcv, br_forward[bridge], tp:net_dev_queue": (
                "these functions and tracepoints, as FUNC shows them; the module may be left out. "
                "They must be among those that are traced"
            ),
        },
        "A captured packet begins with the Ethernet header where it has one, with a VLAN tag "
        "that the kernel keeps beside the packet (skb->vlan_tci) in its place, and else with the "
        "network header. pcapng has link types of both, Ethernet and raw IP. Classic pcap, and "
        "standard output, which tcpdump reads only as long as the link type stays the same, are "
        "all Ethernet: a packet without such a header gets one whose addresses are zero; so does "
        "in any file what is neither IPv4 nor IPv6. Beyond --pcap-snaplen bytes, and where memory "
        "can't be read, a packet is truncated, and its original length recorded. Times are the "
        "wall clock's at the event itself.",
        "pcapng has more. An interface is a device in a network namespace, with a link type: its "
        "name is the device's, its description has the namespace. A packet has its direction where "
        "the function determines it, the queue of its device, a packet id that all its events "
        "share (packet_id of JSON), and how many were lost in front of it (see losses). At the end "
        "of the file stand, for each interface, how many packets matched (received, accepted), "
        "were lost (dropped) and were written (delivered). A file that ends without that, after a "
        "kill -9, is valid up to its last packet. The comment of a packet is one line of "
        "key=value; quotes are around a value with spaces, and a key without a value is left out:",
        {
            "func": "the function",
            "skb": "address of the struct sk_buff",
            "process, pid, cpu": "the current program, with its path; its pid; where it ran",
            "netns, netns_name, iface": (
                "inode and name of the network namespace, name of the interface"
            ),
            "type": "function_call, drop, tc, xdp, map, nft_rule or nft_chain",
            "drop_reason": "of a drop, as FUNC shows it",
            "nft.chain, nft.rule, nft.verdict": "the nft event, or the last verdict on the packet",
            "nft.text, nft.comment": "the rule's; with --output-nft=text or --output-json",
        },
        "A file takes the place of an older one of its name. With --pcap-max-size it is renamed "
        "after the local time before it would grow beyond that, as the output file is, and a new "
        "one is begun; each is a whole file, with the counts of its own packets. --pcap-max-files "
        "keeps so many, with the one that is written, whichever run made them. What is no regular "
        "file, such as a named pipe, is not rotated. A new file is its owner's alone (0600). One "
        "that can't be opened, that is also another output's, by whichever name, or that another "
        "pypwru writes to, is an error. One that can't be written any more is named in the log, "
        "and text goes on without it; the exit status is 1 in the end, and with "
        "--output-text=false that is at once.",
    ),
}
