"""The event type of the Python API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pypwru.output.tuples import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scapy.packet import Packet

    from pypwru.api.packet_data import PacketData
    from pypwru.output.tuples import FiveTuple
    from pypwru.wire.fields import MapCall


IntTuple = tuple[int, ...]
StrTuple = tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Event:
    """A matching packet in a traced function of the kernel.

    Fields marked with an option in parentheses are None unless that option is set. Integers are in
    host byte order.

    Args:
        skb: address of the ``struct sk_buff``, which identifies the packet until the kernel frees
            it; for an XDP program, address of the frame.
        cpu: number of the CPU on which the function ran.
        pid: tgid of the current task, which in softirq is unrelated to the packet; 0 for none.
        comm: name of that task (``task_struct.comm``).
        process: path of its executable; ``comm`` if the process is gone; empty for none.
        time_ns: CLOCK_MONOTONIC, ns, as ``time.monotonic_ns()``.
        wall_ns: the same time in ns since the epoch, as ``time.time_ns()``.
        netns: inode of the packet's network namespace.
        netns_name: name of the namespace by ``ip netns``; None for none.
        mark: ``skb->mark``.
        iface: name of ``skb->dev`` in its namespace; None if unknown, or without device.
        ifindex: of ``skb->dev``; 0 before the packet has a device.
        proto: ``skb->protocol``, an EtherType; 0 if the kernel has not set it yet.
        mtu: of the packet's route, else of its device, in bytes.
        len: ``skb->len`` in bytes, which excludes headers that the kernel has pulled already.
        tuple: addresses, ports, IP protocol and TCP flags; None without an IP header.
        func: name of the function, with its module in brackets; ``tp:NAME`` for a tracepoint.
        type: ``function_call``; ``drop`` for a function that drops the packet; ``nft_rule`` and
            ``nft_chain`` for nft events; ``tc``, ``xdp``, ``map``.
        drop_reason: of a drop, the name in ``enum skb_drop_reason``, or the number if it has no
            name; else None.
        packet_id: the same for all events of a packet and of its clones and copies; unlike ``skb``
            it is never reused.
        caller: the function's caller (output_caller).
        nft: the nft event, else the last final verdict on the packet, with the keys of ``nft`` in
            JSON; None if there was none yet, or with output_nft=False.
        ct: conntrack state of the packet, with the keys of ``ct`` in JSON (output_ct).
        cb: ``__sk_buff->cb`` (output_skb_cb, filter_trace_tc).
        tunnel: as ``tuple``, of the packet inside a tunnel (output_tunnel).
        skb_members: expression -> value (output_skb_metadata).
        xdp_members: expression -> value (output_xdp_metadata).
        stack: kernel functions, innermost first (output_stack).
        skb_metadata: ``struct sk_buff`` as text (output_skb).
        skb_shared_info: ``struct skb_shared_info`` as text (output_skb_shared_info).
        bpfmap: map, key and value of a call on a BPF map (output_bpfmap).
        location: of an event that dropped its packet, where: ``tcp_v4_rcv+0x9a1`` (drops).
        captured: captured packet data, behind the properties ``packet``, ``data``, ``length`` and
            ``linktype``; None without packets=True, or if it could not be captured.
    """

    skb: int
    cpu: int
    pid: int
    comm: str
    process: str
    netns: int
    netns_name: str | None
    mark: int
    iface: str | None
    ifindex: int
    proto: int
    mtu: int
    len: int
    tuple: FiveTuple | None
    func: str
    type: str
    drop_reason: str | None
    time_ns: int
    wall_ns: int
    packet_id: int
    caller: str | None = None
    nft: Mapping[str, Any] | None = None
    ct: Mapping[str, Any] | None = None
    cb: IntTuple | None = None
    tunnel: FiveTuple | None = None
    skb_members: Mapping[str, Any] | None = None
    xdp_members: Mapping[str, Any] | None = None
    stack: StrTuple | None = None
    skb_metadata: str | None = None
    skb_shared_info: str | None = None
    bpfmap: MapCall | None = None
    location: str | None = None
    captured: PacketData | None = None

    def __repr__(self) -> str:
        """Return the most important fields on one line."""
        reason = f"({self.drop_reason})" if self.drop_reason else ""
        endpoints = f" {text(self.tuple, flags=True)}" if self.tuple else ""
        where = f" {self.iface}" if self.iface else ""
        return (
            f"<Event {self.func}{reason} skb={self.skb:#x} cpu={self.cpu} {self.comm}:{self.pid}"
            f"{where}{endpoints}>"
        )

    @property
    def packet(self) -> Packet | None:
        """The scapy packet, made on first access and then cached.

        An Ether with its VLAN tag in place, or an IP or IPv6 without an Ethernet header.
        ``packet.time`` is wall-clock time. None without packets=True, or if the packet could not be
        captured.
        """
        return self.captured.packet if self.captured else None

    @property
    def data(self) -> bytes | None:
        """The captured bytes; fewer than ``length`` if cut by pcap_snaplen or partly unreadable."""
        return self.captured.frame.data if self.captured else None

    @property
    def length(self) -> int | None:
        """The packet's length in bytes."""
        return self.captured.frame.length if self.captured else None

    @property
    def linktype(self) -> int | None:
        """LINKTYPE_* of the captured bytes: 1 for Ethernet, 101 for IPv4 or IPv6."""
        return self.captured.frame.linktype if self.captured else None
