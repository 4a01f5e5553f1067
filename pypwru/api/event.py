"""What a script gets of each sight of a packet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pypwru.output.tuples import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scapy.packet import Packet

    from pypwru.api.packet import Seen
    from pypwru.output.parts import Map
    from pypwru.output.tuples import Tuple


Numbers = tuple[int, ...]
Lines = tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Event:
    """A packet, seen in a function of the kernel.

    What is None unless an option asks for it names the option. Numbers are as in the kernel's
    structs, in host order.

    Args:
        skb: address of the ``struct sk_buff``: the same packet, until the kernel frees it; of an
            XDP program, address of the frame.
        cpu: that it ran on.
        pid: of the current task (its thread group), which in softirq is a bystander; 0 for none.
        comm: that task's name in the kernel (``task_struct.comm``).
        process: path of its program; ``comm`` where it is gone; empty for none.
        time_ns: CLOCK_MONOTONIC, nanoseconds, as ``time.monotonic_ns()``.
        wall_ns: the same moment as ``time.time_ns()`` has it.
        netns: inode of the packet's network namespace.
        netns_name: that ``ip netns`` gave it; None for none.
        mark: ``skb->mark``.
        iface: name of ``skb->dev`` in its namespace; None where it isn't known, or there is none.
        ifindex: its number; 0 before the packet has a device.
        proto: ``skb->protocol``, an EtherType; 0 where the kernel hasn't set it yet.
        mtu: bytes; of the packet's route, else of its device.
        len: ``skb->len``, bytes from where the kernel has come to in the packet.
        tuple: its addresses, ports, IP protocol and TCP flags; None where there is no IP header.
        func: the function, and in brackets its module; ``tp:NAME`` for a tracepoint.
        type: ``function_call``, or ``drop`` for the end of a packet that is thrown away;
            ``nft_rule`` and ``nft_chain`` for nftables speaking; ``tc``, ``xdp``, ``map``.
        drop_reason: of a drop the word of ``enum skb_drop_reason``, a number where it has none;
            else None.
        caller: who called the function. output_caller.
        nft: what nftables says now, else the last final verdict on the packet, with the keys of
            ``nft`` in JSON; None where it has said nothing.
        ct: what conntrack knows of the packet, with the keys of ``ct`` in JSON. output_ct.
        cb: ``__sk_buff->cb``. output_skb_cb, filter_trace_tc.
        tunnel: as tuple, of the packet inside a tunnel's. output_tunnel.
        skb_members: expression to value. output_skb_metadata.
        xdp_members: expression to value. output_xdp_metadata.
        stack: functions, innermost first. output_stack.
        skb_metadata: ``struct sk_buff`` as text. output_skb.
        skb_shared_info: ``struct skb_shared_info`` as text. output_skb_shared_info.
        bpfmap: what a function on a BPF map was called with. output_bpfmap.
        packet_id: the same for all events of a packet, and of what is made of it, also once its
            address is given to another; None where it isn't known.
        location: of the sight that dropped its packet, from where: ``tcp_v4_rcv+0x9a1``. drops.
        seen: the packet, of which ``packet``, ``octets``, ``length`` and ``linktype`` tell.
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
    tuple: Tuple | None
    func: str
    type: str
    drop_reason: str | None
    time_ns: int
    wall_ns: int
    caller: str | None = None
    nft: Mapping[str, Any] | None = None
    ct: Mapping[str, Any] | None = None
    cb: Numbers | None = None
    tunnel: Tuple | None = None
    skb_members: Mapping[str, Any] | None = None
    xdp_members: Mapping[str, Any] | None = None
    stack: Lines | None = None
    skb_metadata: str | None = None
    skb_shared_info: str | None = None
    bpfmap: Map | None = None
    packet_id: int | None = None
    location: str | None = None
    seen: Seen | None = None

    def __repr__(self) -> str:
        """The columns of a short line."""
        reason = f"({self.drop_reason})" if self.drop_reason else ""
        ends = f" {text(self.tuple, flags=True)}" if self.tuple else ""
        where = f" {self.iface}" if self.iface else ""
        return (
            f"<Event {self.func}{reason} skb={self.skb:#x} cpu={self.cpu} {self.comm}:{self.pid}"
            f"{where}{ends}>"
        )

    @property
    def packet(self) -> Packet | None:
        """The packet as scapy knows it, the same one whenever it is asked for: an Ether, its VLAN
        tag in its place; or where there is no Ethernet header an IP or IPv6. ``packet.time`` is
        the wall clock's.

        None without packets=True, and where the packet's bytes could not be had.
        """
        return self.seen.packet if self.seen else None

    @property
    def octets(self) -> bytes | None:
        """Its bytes; fewer than it has where some could not be read, or beyond pcap_snaplen."""
        return self.seen.frame.octets if self.seen else None

    @property
    def length(self) -> int | None:
        """How many bytes it has."""
        return self.seen.frame.length if self.seen else None

    @property
    def linktype(self) -> int | None:
        """What they begin with, LINKTYPE_*: 1 for Ethernet, 101 for IPv4 or IPv6."""
        return self.seen.frame.linktype if self.seen else None
