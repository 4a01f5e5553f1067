"""The namespaces of the ground truth: near - router - far, a bridge, and one for marks.

    near0 -- rtr0 (router) rtr1 -- far0     IPv4 and IPv6
    near1 -- port0 (br0 in router) port1 -- far1

Neighbours are permanent and there are no link-local addresses: nothing but the traffic is on the
wire. ``mark`` has a loopback and one rule: packets there show how far the traffic is.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.lab.net.topology import inside, run

NEAR, ROUTER, FAR = "192.0.2.1", "192.0.2.254", "198.51.100.1"
NEAR6, ROUTER6, FAR6 = "2001:db8:1::1", "2001:db8:1::fe", "2001:db8:2::1"
PUBLIC = "203.0.113.1"  # of no host: for DNAT
BRIDGED_NEAR, BRIDGED_FAR = "10.82.0.1", "10.82.0.2"
TRACED = ("near", "router", "far")
MARK = "mark"
# Modules that the rules need, those of old kernels too. All at once: nf_tables begins a whole
# ruleset again for each module that it has to load in the middle.
_MODULES = """
bridge ip6t_REJECT ipt_REJECT nf_conntrack_netlink nf_log_bridge nf_log_ipv4 nf_log_ipv6
nf_log_syslog nf_tables nfnetlink_queue nft_chain_nat nft_compat nft_counter nft_ct nft_dup_ipv4
nft_fib_inet nft_limit nft_log nft_masq nft_meta_bridge nft_nat nft_numgen nft_objref nft_queue
nft_quota nft_redir nft_reject_bridge nft_reject_inet veth xt_LOG xt_MASQUERADE xt_REDIRECT
xt_comment xt_conntrack xt_limit xt_mark xt_multiport xt_nat xt_tcpudp
"""
_MAC = "02:00:00:00:00:"
DEVICES = {
    "near": ("near0", "near1"),
    "router": ("rtr0", "rtr1", "port0", "port1"),
    "far": ("far0", "far1"),
}
_MARK_RULES = """
table inet marks { chain input { type filter hook input priority 0; udp dport 1-65535 counter; }; }
"""
# A device and its peer in router; the last octet of its hardware address, the peer's is the next.
_PAIRS = (
    ("near", "near0", "rtr0", 1),
    ("far", "far0", "rtr1", 3),
    ("near", "near1", "port0", 5),
    ("far", "far1", "port1", 7),
)
_BRIDGE = f"link add br0 netns router address {_MAC}09 type bridge mcast_snooping 0"
_ADDRESSES = {
    "near": (f"{NEAR}/24 dev near0", f"{NEAR6}/64 dev near0 nodad", f"{BRIDGED_NEAR}/24 dev near1"),
    "router": (
        f"{ROUTER}/24 dev rtr0",
        f"{ROUTER6}/64 dev rtr0 nodad",
        "198.51.100.254/24 dev rtr1",
        "2001:db8:2::fe/64 dev rtr1 nodad",
    ),
    "far": (f"{FAR}/24 dev far0", f"{FAR6}/64 dev far0 nodad", f"{BRIDGED_FAR}/24 dev far1"),
}
_NEIGHBOURS = {
    "near": (
        (ROUTER, 2, "near0"),
        (ROUTER6, 2, "near0"),
        (BRIDGED_FAR, 7, "near1"),
    ),
    "router": ((NEAR, 1, "rtr0"), (NEAR6, 1, "rtr0"), (FAR, 3, "rtr1"), (FAR6, 3, "rtr1")),
    "far": (
        ("198.51.100.254", 4, "far0"),
        ("2001:db8:2::fe", 4, "far0"),
        (BRIDGED_NEAR, 5, "far1"),
    ),
}
_GATEWAYS = {"near": (ROUTER, ROUTER6), "router": (), "far": ("198.51.100.254", "2001:db8:2::fe")}
# Errors by ICMP at any rate, which new kernels limit in each namespace and old ones in all; and a
# joined group is reported at once, not later.
ANSWERS = {
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv6/icmp/ratelimit": "0",
    "net/ipv4/icmp_msgs_per_sec": "100000",
    "net/ipv4/icmp_msgs_burst": "100000",
    "net/ipv4/conf/default/igmpv3_unsolicited_report_interval": "1",
    "net/ipv6/conf/default/mldv2_unsolicited_report_interval": "1",
}
_SETTINGS = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", **ANSWERS}


def wire() -> None:
    """Make it all; only the guest's end undoes it."""
    subprocess.run(
        ["modprobe", "--all", "--quiet", *_MODULES.split()], check=False, stderr=subprocess.DEVNULL
    )
    run("ip", "-batch", "-", words="".join(f"netns add {name}\n" for name in (*TRACED, MARK)))
    for name in TRACED:  # devices get what is the default when they are made
        with inside(name):
            set_all(_SETTINGS if name == "router" else ANSWERS)
    set_all(ANSWERS)
    run("ip", "-batch", "-", words="\n".join([*_pairs(), _BRIDGE]) + "\n")
    for name in TRACED:
        run("ip", "-n", name, "-batch", "-", words="\n".join(_lines(name)) + "\n")
    for number, port in ((5, "port0"), (7, "port1")):  # what the bridge learns would grow old
        words = f"fdb add {_MAC}{number:02} dev {port} master static"
        run("bridge", "-n", "router", *words.split())
    mark_rules()
    run("ip", "link", "set", "lo", "up")


def mark_rules() -> None:
    """Load the rule that makes events of the datagrams in ``mark``."""
    run("ip", "-n", MARK, "link", "set", "lo", "up")
    with inside(MARK):
        run("nft", "-f", "-", words=_MARK_RULES)


def _pairs() -> Iterator[str]:
    for namespace, device, peer, number in _PAIRS:
        yield (
            f"link add {device} netns {namespace} address {_MAC}{number:02} "
            f"type veth peer name {peer} netns router address {_MAC}{number + 1:02}"
        )


def _lines(name: str) -> list[str]:
    links = ("lo", *DEVICES[name], *(["br0"] if name == "router" else []))
    lines = [f"link set {device} addrgenmode none" for device in links if device != "lo"]
    lines += [f"addr add {address}" for address in _ADDRESSES[name]]
    if name == "router":
        lines += ["link set port0 master br0", "link set port1 master br0"]
    lines += [f"link set {device} up" for device in links]
    lines += [f"route add default via {gateway}" for gateway in _GATEWAYS[name]]
    for address, number, device in _NEIGHBOURS[name]:
        lines.append(f"neigh add {address} lladdr {_MAC}{number:02} dev {device}")
    return lines


def set_all(settings: Mapping[str, str]) -> None:
    """Set these settings of this thread's network, as far as the kernel has them."""
    for name, value in settings.items():
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys", name).write_text(value)
