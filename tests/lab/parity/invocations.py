"""The command lines that pwru and pypwru are compared on: one row an invocation.

Together they have every flag (test_parity_flags.py proves it). ``{inode}`` in a word is the inode
of the namespace near, ``{folder}`` a folder of the tracer's own, ``{btf}`` a file of the kernel's
types; a kind of traffic adds its pcap filter unless the row has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.lab.net.topology import DNAT, NEAR, ROUTER, inner
from tests.lab.net.traffic import KINDS

# A few functions that every kernel has, on every packet's way; `ip_rcv|ip_rcv_core` would not do,
# since an alternative that is a prefix of the name stops RE2 from looking at the next.
BRIEF = (
    "(ip_rcv|ip_local_deliver|ip_forward|ip_output|ipv6_rcv|ip6_forward|ip6_output|icmp_rcv|"
    "icmpv6_rcv|arp_rcv|tcp_v4_rcv|tcp_v6_rcv|udp_rcv|__dev_queue_xmit|dev_hard_start_xmit|"
    "skb_release_data|sk_skb_reason_drop|kfree_skb_reason|kfree_skb|kfree_skbmem)"
)
FEW = ("--filter-func", BRIEF)
BRIDGE = inner("bridge")[1]

NO_FLOW = "(?!)"  # a pattern that matches nothing

# Flags of Debian's pwru 1.0.5; an invocation with others is compared with 1.0.12's output.
OLD_FLAGS = frozenset(
    [
        "all-kmods",
        "backend",
        "filter-func",
        "filter-ifname",
        "filter-mark",
        "filter-netns",
        "filter-track-skb",
        "kernel-btf",
        "kmods",
        "output-limit-lines",
        "output-meta",
        "output-tuple",
        "ready-file",
    ]
)


class Invocation(NamedTuple):
    """One command line.

    Args:
        words: the arguments.
        kinds: the kinds of packets that are sent while it runs; none: it ends by itself.
        filter: the pcap filter in place of the kinds' own; None for that.
        programs: the lab's TC and XDP programs are attached meanwhile.
        ends: it ends by itself while packets are sent.
        cheap: also run on the kernels that attach slowly.
        steady: a pattern of the flows whose functions have the same order in every boot: not
            TCP's, whose acknowledgements depend on the time.
        output: the file, in ``{folder}``, with the events; standard output when empty.
        peer: pwru runs as well.
    """

    words: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    filter: str | None = None
    programs: bool = False
    ends: bool = False
    cheap: bool = False
    steady: str = ""
    output: str = ""
    peer: bool = True

    @property
    def flags(self) -> set[str]:
        """Return the names of its flags."""
        return {
            word[2:].partition("=")[0]
            for word in self.words
            if word.startswith("--") and len(word) > 2
        }

    @property
    def old(self) -> bool:
        """Return whether pwru 1.0.5 has all its flags; its mark has no mask, and 0 is any there."""
        newer = "filter-mark" in self.flags and any(
            "/" in word or word == "0" for word in self.words
        )
        return self.flags <= OLD_FLAGS and not newer

    @property
    def also_json(self) -> bool:
        """Return whether it also runs with --output-json."""
        return bool(self.kinds) and self.peer and "output-json" not in self.flags

    def own(self, values: Mapping[str, str]) -> list[str]:
        """Return pypwru's arguments, without nft events, which pwru lacks."""
        return ["--output-nft=false"] * bool(self.kinds) + self.command(values)

    def command(self, values: Mapping[str, str]) -> list[str]:
        """Return the arguments with ``values`` filled in."""
        words = [word.format_map(values) if "{" in word else word for word in self.words]
        if not self.kinds:
            return words
        if self.filter is not None:
            return [*words, self.filter] if self.filter else words
        return [*words, " or ".join(f"({KINDS[kind].selected})" for kind in self.kinds)]


def _error(*words: str) -> Invocation:
    return Invocation(words, cheap=True)


def _traced(*words: str, on: str = "ping4", cheap: bool = False, **more: object) -> Invocation:
    kinds = tuple(on.split())
    return Invocation(words, kinds, cheap=cheap, **more)  # type: ignore[arg-type]


EVERY_KIND = (
    "ping4 ping6 forward4 forward6 udp4 udp6 tcp4 tcp6 dnat snat vxlan gre ipip geneve vlan bridge "
    "arp drop_nft drop_legacy sctp fragments4 fragments6"
)

# fmt: off
# ruff: noqa: E501 -- a table: one row an invocation, long as its words
INVOCATIONS: Mapping[str, Invocation] = {
    # Outputs without a trace, and errors of invalid runs.
    "version": _error("--version"),
    "help": _error("--help"),
    "help_short": _error("-h"),
    "unknown_flag": _error("--nosuch"),
    "unknown_letter": _error("-x"),
    "no_value": _error("--filter-func"),
    "bad_switch": _error("--output-meta=maybe"),
    "bad_number": _error("--netns-names-max-length", "300"),
    "bad_mark": _error("--filter-mark", "1/2/3"),
    "bad_list": _error("--kmods", '"a'),
    "bad_backend": _error("--backend", "foo"),
    "bad_batch": _error("--backend", "kprobe", "--filter-func", "ip_rcv", "--filter-kprobe-batch", "0"),
    "bad_timestamp": _error("--timestamp", "bogus", *FEW, "--output-limit-lines", "1"),
    "bad_function": _error("--filter-func", "ip_(rcv"),
    "no_function": _error("--filter-func", "no_such_function"),
    "bad_filter": _error(*FEW, "foo", "bar"),
    "bad_tunnel_filter": _error(*FEW, "--filter-tunnel-pcap-l3", "zork", "ip"),
    "no_interface": _error(*FEW, "--filter-ifname", "nosuch0"),
    "no_namespace": _error(*FEW, "--filter-netns", "/nonexistent"),
    "bad_inode": _error(*FEW, "--filter-netns", "inode:x"),
    "inode_and_interface": _error(*FEW, "--filter-netns", "inode:{inode}", "--filter-ifname", "near0"),
    "no_module": _error("--kmods", "nosuch", *FEW),
    "no_btf": _error("--kernel-btf", "/nonexistent", *FEW),
    "not_btf": _error("--kernel-btf", "/etc/passwd", *FEW),
    "no_ready_folder": _error(*FEW, "--ready-file", "/nonexistent/ready"),
    "bad_skb_expression": _error(*FEW, "--filter-skb-expr", "packet->len > 1"),
    "no_member": _error(*FEW, "--filter-skb-expr", "skb->nosuch == 1"),
    "bad_xdp_expression": _error(*FEW, "--filter-xdp-expr", "skb->len > 1"),
    "no_metadata": _error(*FEW, "--output-skb-metadata", "packet->len"),
    "five_metadata": _error(*FEW, "--output-skb-metadata", "skb->len,skb->mark,skb->hash,skb->priority,skb->protocol"),
    # Columns.
    "plain": _traced("--output-meta", "--output-tuple"),
    "plain6": _traced(on="ping6"),
    "plain_few": _traced(*FEW, on="forward4", cheap=True),
    "every_kind": _traced(*FEW, on=EVERY_KIND, filter="", steady=NO_FLOW),
    "no_meta": _traced("--output-meta=false", *FEW, on="udp4", cheap=True),
    "no_tuple": _traced("--output-tuple=false", *FEW, on="udp6", cheap=True),
    "nothing_but_function": _traced("--output-meta=false", "--output-tuple=false", *FEW),
    "current": _traced("--timestamp", "current", *FEW, on="udp4", cheap=True),
    "relative": _traced("--timestamp=relative", *FEW, on="udp6"),
    "absolute": _traced("--timestamp", "absolute", *FEW, on="ping4", cheap=True),
    "tcp_flags": _traced("--output-tcp-flags", *FEW, on="tcp4", steady="SYN", cheap=True),
    "tcp6_flags": _traced("--output-tcp-flags", *FEW, on="tcp6", steady="SYN"),
    "caller": _traced("--output-caller", *FEW, on="udp4", cheap=True),
    "stack": _traced("--output-stack", "--filter-func", "(ip_rcv|ip_output)"),
    "skb": _traced("--output-skb", "--filter-func", "(ip_rcv|ip_output)"),
    "shared_info": _traced("--output-skb-shared-info", "--filter-func", "(ip_rcv|ip_output)"),
    "small_buffer": _traced("--output-skb", "--set-percpu-buf", "8192", "--filter-func", "ip_rcv"),
    "cb": _traced("--output-skb-cb", *FEW, on="udp4", cheap=True),
    "namespaces": _traced("--output-netns-names", *FEW, on="forward4"),
    "namespaces_short": _traced("--output-netns-names", "--netns-names-max-length", "5", "--output-meta=false", *FEW, on="forward6"),
    "tunnel": _traced("--output-tunnel", *FEW, on="vxlan"),
    "tunnels": _traced("--output-tunnel", *FEW, on="gre ipip geneve"),
    "metadata": _traced("--output-skb-metadata", "skb->len,skb->protocol", "--output-skb-metadata=skb->dev->ifindex", *FEW, on="udp4", cheap=True),
    "everything": _traced("--timestamp", "absolute", "--output-netns-names", "--output-skb-cb", "--output-tcp-flags", "--output-caller", "--output-tunnel", "--output-skb-metadata", "skb->mark", "--output-stack", *FEW, on="vxlan"),
    # JSON.
    "json": _traced("--output-json", *FEW, on="udp4", cheap=True),
    "json_everything": _traced("--output-json", "--timestamp", "current", "--output-netns-names", "--output-skb-cb", "--output-tcp-flags", "--output-caller", "--output-tunnel", "--output-stack", *FEW, on="tcp6", steady="SYN"),
    "json_bare": _traced("--output-json", "--output-meta=false", "--output-tuple=false", "--timestamp", "absolute", *FEW, on="ping6"),
    "json_structs": _traced("--output-json", "--output-skb", "--output-skb-shared-info", "--filter-func", "ip_rcv"),
    # Files and limits.
    "limit": _traced("--output-limit-lines", "5", *FEW, on="forward4", ends=True, cheap=True),
    "limit_json": _traced("--output-limit-lines=0x3", "--output-json", *FEW, on="forward4", ends=True),
    "file": _traced("--output-file", "{folder}/sub/trace.log", *FEW, on="udp4", output="sub/trace.log", cheap=True),
    "file_rotated": _traced("--output-file", "{folder}/trace.log", "--output-file-max-size", "1", "--output-file-max-backups", "2", "--output-file-max-age", "1", "--output-file-compress", *FEW, on="ping4", output="trace.log"),
    # Which functions.
    "words_anywhere": _traced("udp", *FEW, "port", "4002", "--output-meta=1", "--", "and", "greater 20", on="udp4", filter="", cheap=True),
    "module": _traced("--kmods", "veth", "--filter-func", "veth_xmit", on="forward4"),  # 5.10 has no types of modules
    "modules": _traced("--all-kmods", "--filter-func", "(br_handle_frame|veth_xmit|vxlan_rcv)", on="bridge vxlan"),
    "kprobe": _traced("--backend", "kprobe", "--filter-kprobe-batch", "3", "--filter-func", "(ip_rcv|icmp_rcv)", cheap=True),
    "kprobe_multi": _traced("--backend=kprobe-multi", *FEW, on="ping6"),
    "btf_file": _traced("--kernel-btf", "{btf}", *FEW, on="udp4"),
    "debug": _traced("--debug", *FEW, on="ping6"),
    # Which packets.
    "mark": _traced("--filter-mark", "42", *FEW, on="marked ping4", cheap=True),
    "mark_mask": _traced("--filter-mark", "0x20/0x20", *FEW, on="marked ping4"),
    "mark_zero": _traced("--filter-mark", "0", *FEW, on="marked ping4"),
    "namespace_path": _traced("--filter-netns", "/run/netns/near", *FEW, on="forward4", cheap=True),
    "namespace_inode": _traced("--filter-netns", "inode:{inode}", *FEW, on="forward6"),
    "interface": _traced("--filter-netns", "/run/netns/router", "--filter-ifname", "rtr1", *FEW, on="forward4", cheap=True),
    "tunnel_l3": _traced("--filter-tunnel-pcap-l3", f"icmp and host {inner('vxlan')[1]}", *FEW, on="vxlan gre"),
    "tunnel_l3_none": _traced("--filter-tunnel-pcap-l3", "tcp", *FEW, on="vxlan gre"),
    "tunnel_l2": _traced("--filter-tunnel-pcap-l2", "ether host 02:00:00:00:77:02", *FEW, on="vxlan"),
    "skb_expression": _traced("--filter-skb-expr", "skb->len > 50", *FEW, on="udp4", cheap=True),
    "skb_expression_deep": _traced("--filter-skb-expr", "skb->dev->ifindex == 3", *FEW, on="forward4"),
    "skb_expression_order": _traced("--filter-skb-expr", "skb->protocol == 0x0806", *FEW, on="arp ping4", filter=""),
    # Tracking.
    "tracked_nat": _traced("--filter-track-skb", *FEW, on="dnat", filter=f"dst host {DNAT}", steady=NO_FLOW),
    "tracked_tunnel": _traced("--filter-track-skb", *FEW, on="vxlan", filter=f"icmp and dst host {inner('vxlan')[1]}"),
    "tracked_stack": _traced("--filter-track-skb", "--filter-track-skb-by-stackid", *FEW, on="ping4", filter=f"icmp and dst host {ROUTER} and src host {NEAR}"),
    "tracked_non_skb": _traced("--filter-track-skb", "--filter-non-skb-funcs", "fib_table_lookup", *FEW, on="forward4"),
    "tracked_clone": _traced("--filter-track-skb", "--filter-netns", "/run/netns/near", "--filter-ifname", "near0", *FEW, on="mirrored"),
    "tracked_segments": _traced("--filter-track-skb", *FEW, on="segments", filter="tcp port 4402 and greater 4000", steady=NO_FLOW),
    # BPF programs.
    "tracked_veth": _traced("--filter-track-skb", "--filter-netns", "/run/netns/near", *FEW, on="bridge", programs=True),
    "tc": _traced("--filter-trace-tc", *FEW, on="bridge", programs=True),
    "xdp": _traced("--filter-trace-xdp", "--output-xdp-metadata", "xdp->rxq->queue_index", *FEW, on="bridge", programs=True),
    "xdp_expression": _traced("--filter-trace-xdp", "--filter-xdp-expr", "xdp->rxq->queue_index == 1000", *FEW, on="bridge", programs=True),
    "programs_alone": _traced("--filter-trace-tc", "--filter-trace-xdp", "--filter-func", "no_such_function", on="bridge", programs=True),
    "tracked_xdp": _traced("--filter-track-skb", "--filter-trace-xdp", "--filter-trace-tc", *FEW, on="bridge", filter=f"icmp and dst host {BRIDGE}", programs=True),
    "helpers": _traced("--filter-track-skb", "--filter-trace-tc", "--filter-track-bpf-helpers", "--output-bpfmap", *FEW, on="bridge", programs=True),
}
# fmt: on
