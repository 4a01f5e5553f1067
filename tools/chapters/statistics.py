"""Chapters about aggregates of events: JSON, journeys, statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.chapters.block import Block

CHAPTERS: Mapping[str, tuple[Block, ...]] = {
    "json": (
        "--output-json prints an object for an event, one on a line, with pwru's keys in pwru's "
        "order and those that pwru leaves out: zeros, type (function_call, drop, tc, xdp, map, "
        "nft_rule, nft_chain), nft, timestamp, skb_members and xdp_members, ct, bpfmap, and "
        "packet_id, which all events of a packet and of what is made of it share. "
        "event.schema.json in pypwru/data has the content of each and the option that it needs.",
    ),
    "journeys": (
        "--output-journey prints packet by packet, each once it is freed, in the order of their "
        "ends. A head has the packet's address and id, its first addresses, namespace and "
        "device, its length, the number of its events and their time span, and the local time of "
        "the first. Then comes each function with the time since the one before, with CPU and "
        "program where they change; between them the changes to the packet, and below them the "
        "outcome:",
        {
            "NAT old => new": "addresses were rewritten; tuple where a tunnel did that",
            "dev old => new, mark old => new": (
                "the packet went to another device; its mark was set"
            ),
            "nft ...": "a rule of nftables acted on it",
            "dropped: REASON at LOCATION by RULE": "without the last, by no rule",
            "delivered to PROCESS:PID in FUNC": "a process read it",
            "sent on DEV": "the device's driver has it",
            "handled by the kernel in FUNC": (
                "ICMP, ARP, or a TCP segment without bytes for a process"
            ),
            "merged into another packet in FUNC, cut into smaller packets in FUNC": (
                "by GRO, TCP's queue or fragments: its bytes have another journey"
            ),
            "freed, last seen in FUNC": "none of these was traced",
            "still under way when the trace ended, last seen in FUNC": (
                "by tracepoints, also datagrams that a process has read"
            ),
            "cut off by --output-limit-lines, last seen in FUNC": "later events are not shown",
        },
        "Clones, copies and segments have journeys of their own, with the id that they share. "
        "Functions that report outcomes are traced whatever was selected, those of modules only "
        "with --kmods. With --output-json a journey is an object on a line (journey.schema.json in "
        "pypwru/data). As many events are held as with --drops, and evicted packets are counted as "
        "lost_journeys.",
    ),
    "statistics": (
        "--stats aggregates events instead of printing them; with --output-json, --output-journey "
        "or --output-file it does both. The report comes on standard error at the end, on SIGUSR1, "
        "and every --stats-interval seconds. --stats-file has the same as JSON, whole, each time "
        "in place of the one before (statistics.schema.json in pypwru/data describes it); without "
        "--stats there is no report then.",
        {
            "events, packets, flows": (
                "events; packets, each once; flows, both directions together: addresses, ports and "
                "protocol"
            ),
            "INCOMPLETE": "losses, by cause; without these lines nothing was lost",
            "left out": "events skipped by sampling, limits and filters",
            "first to last event": (
                "how long packets were under way, as p50, p90, p99 and maximum: exact for "
                "a million packets, and beyond that of a sample, which the report marks; where a "
                "traced function frees them (kfree_skbmem), that can be long after a process has "
                "read them"
            ),
            "functions": "hits of each, and a second",
            "drops": (
                "by reason and location, as caller+offset; each drop once; of "
                "packets alone, not of messages of Unix, netlink and PF_KEY sockets"
            ),
            "nftables rules": "by verdict, with chain, handle and text",
            "hops": (
                "from one function to the next that the packet passed: which took longest; not the "
                "time in which a clone of it was under way, as of a TCP segment until it is sent "
                "again"
            ),
            "flows": "the busiest",
            "cost": "nanoseconds a hit of each handler, where the kernel counts them",
            "throttled functions": "events that --max-hits skipped, of each",
        },
        "--top draws these tables on the terminal, one at a time, anew each second. 1 to 7 choose "
        "the table, letters at the bottom the column that sorts it, v reverses the order, h lists "
        "all keys, and q quits and prints the report.",
    ),
}
