"""The keywords of ``pypwru.trace``. ``make generate`` makes this from ``cli/flags.py``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict

from pypwru.config import Backend, NftOutput

if TYPE_CHECKING:
    from typing import TypeAlias

    Words: TypeAlias = "str | Iterable[str]"
    """Names, or a single string with names separated by commas."""
    File: TypeAlias = "str | os.PathLike[str]"


class TraceOptions(TypedDict, total=False):
    """The keywords of ``trace``.

    Args:
        filter_func (str): trace only functions whose whole name this RE2 regular expression
            matches.
        kmods (Words): also trace functions of these kernel modules, comma-separated.
        all_kmods (bool): also trace functions of every kernel module that has BTF.
        priority (int): trace functions up to this priority: 0 the most informative few, 3 all.
        category (Words): trace only functions of these categories, comma-separated.
        functions (File | None): trace only the functions of this list: one name per line, or JSON
            of --list-functions.
        backend (Backend | str | None): how to attach: fentry-multi, kprobe-multi, fentry, kprobe,
            tracepoint; by default the first that the kernel supports.
        kernel_btf (File | None): read the kernel's types from this file: raw BTF, ELF, or a
            vmlinuz.
        filter_netns (str): trace only packets of this network namespace: /path, inode:N, or a name
            of ip netns.
        filter_ifname (str): trace only packets on this interface of --filter-netns, else of the
            current namespace.
        filter_mark (int | str | tuple[int, int]): trace only packets with this skb mark, such as
            0xa00/0xf00; all bits count without a mask.
        filter_tunnel_pcap_l2 (str): pcap filter of the frame inside a tunnel.
        filter_tunnel_pcap_l3 (str): pcap filter of the IP packet inside a tunnel.
        filter_skb_expr (str): trace only packets for which this C expression holds, such as
            'skb->len > 1500'.
        filter_xdp_expr (str): trace only XDP frames for which this C expression holds, such as
            'xdp->rxq->queue_index == 1'.
        filter_nft_verdict (Words): trace only packets to which a rule or policy of nftables gave
            one of these verdicts: accept, drop, reject, jump, goto, return, continue, queue, ...
        filter_nft_table (Words): trace only packets to which a rule or policy of these nftables
            tables gave a verdict: name, or family and name.
        filter_nft_chain (Words): trace only packets to which a rule or policy of these nftables
            chains gave a verdict: name, or the full text of the column NFT-CHAIN.
        filter_nft_handle (int): trace only packets to which the nftables rule with this handle gave
            a verdict; 0 for any.
        filter_nft_text (str): trace only packets to which an nftables rule gave a verdict, if this
            RE2 regular expression is found in the rule's text.
        drops (bool): trace only packets that are dropped in the end: their complete path, and where
            they were dropped.
        sample_rate (int): trace one in this many matching packets, each with its complete path.
        sample_flow (int): trace one in this many matching flows, both directions.
        rate_limit (int): maximum events per second; 0 for no limit.
        max_hits (int | str): maximum events per second of each function; 0 for no limit.
        filter_track_skb (bool): keep tracing a packet that matched once: through NAT,
            encapsulation, clones.
        filter_track_skb_by_stackid (bool): also trace what is called while a matching packet is
            handled.
        filter_non_skb_funcs (Words): also trace these functions without a packet, when called while
            a matching packet is handled.
        filter_track_bpf_helpers (bool): also trace the helpers that BPF programs call while they
            handle a matching packet.
        filter_trace_tc (bool): also trace TC BPF programs.
        filter_trace_xdp (bool): also trace XDP BPF programs.
        output_skb_cb (bool): print the column __sk_buff->cb[].
        output_tunnel (bool): print the column TUNNEL: addresses, ports and protocol of the inner
            packet.
        output_caller (bool): print the column CALLER.
        output_nft (NftOutput | bool | str): print nftables events, and the columns NFT-CHAIN and
            NFT-RULE with the rule of the last verdict; =text adds its text, =hook its hook and
            priority, =false disables all.
        output_ct (bool): print the column CT: state, direction, zone, mark and tuples of conntrack.
        output_skb_metadata (Words): print these members, such as skb->mark,skb->hash; at most 4.
        output_xdp_metadata (Words): print these members for XDP programs, such as
            xdp->rxq->queue_index; at most 4.
        output_stack (bool): print the kernel's stack after each line.
        output_skb (bool): print struct sk_buff after each line.
        output_skb_shared_info (bool): print struct skb_shared_info after each line.
        set_percpu_buf (int): bytes for each text of --output-skb and --output-skb-shared-info.
        output_bpfmap (bool): print map, key and value when a function traced by
            --filter-track-bpf-helpers or --filter-non-skb-funcs uses a BPF map.
        output_limit_lines (int): exit after this many events; 0 for no limit.
        pcap_snaplen (int): maximum bytes to write of a packet.
        buffer_size (int | str): bytes of the ring buffer, a power of two; k, M or G may follow.
        debug (bool): log more, with the kernel's full error messages; keep generated code in a new
            folder.
    """

    filter_func: str
    kmods: Words
    all_kmods: bool
    priority: int
    category: Words
    functions: File | None
    backend: Backend | str | None
    kernel_btf: File | None
    filter_netns: str
    filter_ifname: str
    filter_mark: int | str | tuple[int, int]
    filter_tunnel_pcap_l2: str
    filter_tunnel_pcap_l3: str
    filter_skb_expr: str
    filter_xdp_expr: str
    filter_nft_verdict: Words
    filter_nft_table: Words
    filter_nft_chain: Words
    filter_nft_handle: int
    filter_nft_text: str
    drops: bool
    sample_rate: int
    sample_flow: int
    rate_limit: int
    max_hits: int | str
    filter_track_skb: bool
    filter_track_skb_by_stackid: bool
    filter_non_skb_funcs: Words
    filter_track_bpf_helpers: bool
    filter_trace_tc: bool
    filter_trace_xdp: bool
    output_skb_cb: bool
    output_tunnel: bool
    output_caller: bool
    output_nft: NftOutput | bool | str
    output_ct: bool
    output_skb_metadata: Words
    output_xdp_metadata: Words
    output_stack: bool
    output_skb: bool
    output_skb_shared_info: bool
    set_percpu_buf: int
    output_bpfmap: bool
    output_limit_lines: int
    pcap_snaplen: int
    buffer_size: int | str
    debug: bool
