"""The fields of a Config. ``make generate`` makes this from ``cli/flags.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from pypwru.config import Backend, MarkFilter, NftOutput, Timestamp


class ConfigFields(NamedTuple):
    """The values of the flags, by the flags' names.

    Args:
        pcap_filter: the positional words joined with one space; empty matches every packet.
        filter_func: trace only functions whose whole name this RE2 regular expression matches.
        kmods: also trace functions of these kernel modules, comma-separated.
        all_kmods: also trace functions of every kernel module that has BTF.
        priority: trace functions up to this priority: 0 the most informative few, 3 all.
        category: trace only functions of these categories, comma-separated.
        functions: trace only the functions of this list: one name per line, or JSON of
            --list-functions; None by default.
        list_functions: print the functions that would be traced, and exit; as a JSON object with
            --output-json.
        function_list: write the names of the functions that would be traced to this file, one per
            line, and exit; - for standard output; None by default.
        backend: how to attach: fentry-multi, kprobe-multi, fentry, kprobe, tracepoint; by default
            the first that the kernel supports; None by default.
        filter_kprobe_batch: accepted for compatibility with pwru, and ignored: pypwru attaches all
            kprobes together.
        kernel_btf: read the kernel's types from this file: raw BTF, ELF, or a vmlinuz; None by
            default.
        filter_netns: trace only packets of this network namespace: /path, inode:N, or a name of ip
            netns.
        filter_ifname: trace only packets on this interface of --filter-netns, else of the current
            namespace.
        filter_mark: trace only packets with this skb mark, such as 0xa00/0xf00; all bits count
            without a mask.
        filter_tunnel_pcap_l2: pcap filter of the frame inside a tunnel.
        filter_tunnel_pcap_l3: pcap filter of the IP packet inside a tunnel.
        filter_skb_expr: trace only packets for which this C expression holds, such as 'skb->len >
            1500'.
        filter_xdp_expr: trace only XDP frames for which this C expression holds, such as
            'xdp->rxq->queue_index == 1'.
        filter_nft_verdict: trace only packets to which a rule or policy of nftables gave one of
            these verdicts: accept, drop, reject, jump, goto, return, continue, queue, ...
        filter_nft_table: trace only packets to which a rule or policy of these nftables tables gave
            a verdict: name, or family and name.
        filter_nft_chain: trace only packets to which a rule or policy of these nftables chains gave
            a verdict: name, or the full text of the column NFT-CHAIN.
        filter_nft_handle: trace only packets to which the nftables rule with this handle gave a
            verdict; 0 for any.
        filter_nft_text: trace only packets to which an nftables rule gave a verdict, if this RE2
            regular expression is found in the rule's text.
        drops: trace only packets that are dropped in the end: their complete path, and where they
            were dropped.
        sample_rate: trace one in this many matching packets, each with its complete path.
        sample_flow: trace one in this many matching flows, both directions.
        rate_limit: maximum events per second; 0 for no limit.
        max_hits: maximum events per second of each function; 0 for no limit.
        filter_track_skb: keep tracing a packet that matched once: through NAT, encapsulation,
            clones.
        filter_track_skb_by_stackid: also trace what is called while a matching packet is handled.
        filter_non_skb_funcs: also trace these functions without a packet, when called while a
            matching packet is handled.
        filter_track_bpf_helpers: also trace the helpers that BPF programs call while they handle a
            matching packet.
        filter_trace_tc: also trace TC BPF programs.
        filter_trace_xdp: also trace XDP BPF programs.
        output_json: print one JSON object per event.
        timestamp: print a time: none, current, relative, absolute.
        output_meta: print the columns NETNS, MARK, IFACE, PROTO, MTU and LEN.
        output_netns_names: print the column NETNS NAME.
        netns_names_max_length: characters of a name in the column NETNS NAME, at least 10.
        output_skb_cb: print the column __sk_buff->cb[].
        output_tuple: print the column TUPLE: addresses, ports and protocol.
        output_tcp_flags: print TCP flags in the column TUPLE.
        output_tunnel: print the column TUNNEL: addresses, ports and protocol of the inner packet.
        output_caller: print the column CALLER.
        output_nft: print nftables events, and the columns NFT-CHAIN and NFT-RULE with the rule of
            the last verdict; =text adds its text, =hook its hook and priority, =false disables all.
        output_ct: print the column CT: state, direction, zone, mark and tuples of conntrack.
        output_skb_metadata: print these members, such as skb->mark,skb->hash; at most 4.
        output_xdp_metadata: print these members for XDP programs, such as xdp->rxq->queue_index; at
            most 4.
        output_stack: print the kernel's stack after each line.
        output_skb: print struct sk_buff after each line.
        output_skb_shared_info: print struct skb_shared_info after each line.
        set_percpu_buf: bytes for each text of --output-skb and --output-skb-shared-info.
        output_bpfmap: print map, key and value when a function traced by --filter-track-bpf-helpers
            or --filter-non-skb-funcs uses a BPF map.
        output_limit_lines: exit after this many events; 0 for no limit.
        output_journey: print packet by packet, each once it is freed: its path, the time that each
            step took, and the outcome.
        output_file: append to this file instead of standard output; None by default.
        output_file_max_size: MB of the output file before it is rotated; 0 for 100.
        output_file_max_backups: rotated files to keep; 0 for all.
        output_file_max_age: days to keep rotated files; 0 for no limit.
        output_file_compress: compress rotated files with gzip.
        output_pcap: write packets to this file: .pcapng, .pcap, or - for pcapng on standard output,
            while text goes to standard error; None by default.
        pcap_when: at which events to write a packet: first, last, drop, every, or names of
            functions.
        pcap_snaplen: maximum bytes to write of a packet.
        pcap_max_size: MB of the capture file before it is rotated; 0 for never.
        pcap_max_files: capture files to keep, including the current one; 0 for all.
        output_text: print events; =false if --output-pcap is the only output.
        stats: print statistics instead of events; with --output-json, --output-journey or
            --output-file both.
        stats_interval: seconds between statistics; 0 for statistics only at the end.
        stats_file: write statistics to this file as JSON; each replaces the previous one; None by
            default.
        top: show statistics in a live table on the terminal; h lists the keys.
        buffer_size: bytes of the ring buffer, a power of two; k, M or G may follow.
        ready_file: create this file once everything is attached; None by default.
        debug: log more, with the kernel's full error messages; keep generated code in a new folder.
        features: print what this kernel has for tracing, with cost and cure of what it lacks, and
            exit; as a JSON object with --output-json.
        packets: capture the packet at every event, for the Python API; there is no such flag.
    """

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
    output_json: bool
    timestamp: Timestamp
    output_meta: bool
    output_netns_names: bool
    netns_names_max_length: int
    output_skb_cb: bool
    output_tuple: bool
    output_tcp_flags: bool
    output_tunnel: bool
    output_caller: bool
    output_nft: NftOutput
    output_ct: bool
    output_skb_metadata: tuple[str, ...]
    output_xdp_metadata: tuple[str, ...]
    output_stack: bool
    output_skb: bool
    output_skb_shared_info: bool
    set_percpu_buf: int
    output_bpfmap: bool
    output_limit_lines: int
    output_journey: bool
    output_file: Path | None
    output_file_max_size: int
    output_file_max_backups: int
    output_file_max_age: int
    output_file_compress: bool
    output_pcap: Path | None
    pcap_when: tuple[str, ...]
    pcap_snaplen: int
    pcap_max_size: int
    pcap_max_files: int
    output_text: bool
    stats: bool
    stats_interval: int
    stats_file: Path | None
    top: bool
    buffer_size: int
    ready_file: Path | None
    debug: bool
    features: bool
    packets: bool = False
