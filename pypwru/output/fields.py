"""The fields of an event that outputs show: one row per key of JSON, in the order of an object.

That order is that of pwru's jsonPrinter; keys that pwru lacks are next to related ones.

``make generate`` makes from them the schema of ``--output-json`` and the tables of the man page and
of docs/. How a field is made of a record, and its column of text, are a row of
``output.columns.COLUMNS`` with the same name.
"""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """A field of an event.

    Args:
        key: key of JSON and name of the column.
        titles: titles of its columns of text, for the documentation; empty if it has none.
        schema: type in JSON, of ``$defs`` in ``tools/data/event.schema.json``.
        doc: description, one line.
        option: flags of which the run must have one; empty for a field of every run.
        in_journey_lines: whether text output of --output-journey appends it to an event's line; the
            others are in the header of the journey, or in its layout.
    """

    key: str
    titles: tuple[str, ...]
    schema: str
    doc: str
    option: str = ""
    in_journey_lines: bool = False


# fmt: off
# ruff: noqa: E501 -- a table: one row per key, as long as its description
FIELDS: tuple[Field, ...] = (
    Field("skb", ("SKB",), "address", "address of the struct sk_buff: the same packet until the kernel reuses it; of an XDP event, of the frame"),
    Field("packet_id", (), "packet_id", "number of the packet: the same in all events of the packet and of its clones, copies and segments, also when its address is reused"),
    Field("skb_shared_info", (), "skb_shared_info", "struct skb_shared_info as text, on lines of its own", "--output-skb-shared-info", in_journey_lines=True),
    Field("cpu", ("CPU",), "u16", "CPU on which the function ran"),
    Field("process", ("PROCESS",), "process", "program and pid of the current task, which in softirq is a bystander; the task's name if the program isn't known, as in a container without the host's pids; the last 15 characters of a longer one behind a ~"),
    Field("func", ("FUNC",), "name", "the function, with [module] behind it, and a drop reason in parentheses; (tc) or (xdp) behind a BPF program; tp: before a tracepoint"),
    Field("type", (), "type", "kind of the event: a packet in a function, or in one that drops it; the verdict of an nftables rule or policy; the entry or exit of an nftables chain; a packet in a TC or XDP program; the use of a BPF map"),
    Field("caller_func", ("CALLER",), "name", "the function that called it; of a tracepoint, the function that contains it", "--output-caller", in_journey_lines=True),
    Field("location", ("LOCATION",), "location", "function and offset where the packet was dropped, in the event of the drop: the caller of the outermost function that frees packets, lists and queues (by kprobes, the caller of the first)", "--drops"),
    Field("nft", ("NFT-CHAIN", "NFT-RULE"), "nft", "the rule, chain or policy of nftables that acts on the packet, else the last final verdict on it; nothing without one", "--output-nft"),
    Field("time", ("TIME", "TIMESTAMP"), "time", "ns of CLOCK_MONOTONIC (current), ns since the packet's previous event (relative), or local time and ns of CLOCK_MONOTONIC (absolute)", "--timestamp"),
    Field("timestamp", (), "u64", "ns of CLOCK_MONOTONIC, beside the local time", "--timestamp absolute"),
    Field("netns", ("NETNS",), "u32", "inode of the network namespace, as lsns -t net shows it; this field and those up to the length are absent with --output-meta=false"),
    Field("netns_name", ("NETNS NAME",), "name", "name of the namespace in ip-netns(8), if it has one", "--output-netns-names"),
    Field("mark", ("MARK/x",), "u32", "skb->mark; hexadecimal in text"),
    Field("iface", ("IFACE",), "iface", "name:ifindex of the device in that namespace, or the ifindex alone; 0 before the packet has a device; the last 15 characters of a longer one behind a ~"),
    Field("proto", ("PROTO",), "u16", "EtherType, skb->protocol; 0 if the kernel hasn't set it yet"),
    Field("mtu", ("MTU",), "u32", "MTU of the packet's route, or of its device, in bytes"),
    Field("len", ("LEN",), "u32", "length of the packet in bytes, skb->len"),
    Field("cb", ("__sk_buff->cb[]",), "cb", "what BPF programs see as __sk_buff->cb", "--output-skb-cb or --filter-trace-tc", in_journey_lines=True),
    Field("tuple", ("TUPLE",), "tuple", "source:port->destination:port(protocol); --output-tcp-flags adds the flags, --output-tuple=false removes the column"),
    Field("tunnel_tuple", ("TUNNEL",), "tuple", "the tuple of the packet inside a VXLAN, Geneve, GRE or IPIP packet", "--output-tunnel", in_journey_lines=True),
    Field("ct", ("CT",), "ct", "the packet's connection in conntrack: state and direction (words of nft's ct state), zone and mark unless they are 0, status (words of nft's ct status, and helper, offload, hw-offload), its tuple, and after reply that of its answers as they are before NAT; nothing before conntrack has processed the packet, or if it is invalid", "--output-ct", in_journey_lines=True),
    Field("stack", (), "stack", "functions of the kernel's stack, innermost first, on lines of their own", "--output-stack", in_journey_lines=True),
    Field("skb_metadata", (), "skb_metadata", "struct sk_buff as text, on lines of its own (the key is pwru's)", "--output-skb", in_journey_lines=True),
    Field("skb_members", (), "members", "the members, with their values", "--output-skb-metadata", in_journey_lines=True),
    Field("xdp_members", (), "members", "the members, with their values", "--output-xdp-metadata", in_journey_lines=True),
    Field("bpfmap", (), "bpfmap", "arguments of a function on a BPF map, on lines of their own; at most 256 bytes each of key and value", "--output-bpfmap", in_journey_lines=True),
)
# fmt: on
KEYS = tuple(field.key for field in FIELDS)
"""The keys of an object, in their order."""
