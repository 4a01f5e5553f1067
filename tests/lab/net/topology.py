"""The namespaces of the lab's traffic: near - router - far, tunnels from near to far, a bridge.

All devices have fixed hardware addresses and permanent neighbours, so that nothing but the traffic
is on the wire, and are made in a fixed order, so that every boot gives them the same index. A
process sleeps in each namespace: pwru reads interfaces' names through processes.

    near0 -- rtr0 (router) rtr1 -- far0     IPv4 and IPv6; rtr0 has .253, resolved by ARP
    near1 -- port0 (br0 in router) port1 -- far1
    near0.10 -- rtr0.10                     802.1Q
    vx, gr, tn, gn                          VXLAN, GRE, IPIP, Geneve between near0 and far0
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

NEAR, FAR = "192.0.2.1", "198.51.100.1"
NEAR6, FAR6 = "2001:db8:1::1", "2001:db8:2::1"
ROUTER, ARP_TARGET, ROUTER6 = "192.0.2.254", "192.0.2.253", "2001:db8:1::fe"
DNAT, SNAT = "203.0.113.1", "198.51.100.254"
INNER = {"vlan": 81, "bridge": 82, "vxlan": 77, "gre": 78, "ipip": 79, "geneve": 80}
NAMESPACES = ("near", "router", "far")
PROGRAMS = Path(__file__).with_name("traffic_programs.c")
_CLONE_NEWNET = 0x40000000


def inner(kind: str) -> tuple[str, str]:
    """Return the addresses at near's and at the other end of a link of ``INNER``."""
    return f"10.{INNER[kind]}.0.1", f"10.{INNER[kind]}.0.2"


def _pair(one: str, other: str, number: int) -> str:
    """Return a device here and its peer in router; both hardware addresses from ``number``."""
    mac = "02:00:00:00:00:{:02}".format
    peer = f"peer name {other} netns router address {mac(number + 1)}"
    return f"link add {one} address {mac(number)} type veth {peer}\n"


# namespace -> lines for ip -batch.
_DEVICES = {
    "near": _pair("near0", "rtr0", 1) + _pair("near1", "port0", 5),
    "far": _pair("far0", "rtr1", 3) + _pair("far1", "port1", 7),
    "router": "link add br0 address 02:00:00:00:00:09 type bridge\n",
}
_TUNNELS = """
link add vx address 02:00:00:00:77:{own} type vxlan id 42 local {local} remote {remote} \
dstport 4789 srcport 4790 4791
link add gr type gre local {local} remote {remote}
link add tn type ipip local {local} remote {remote}
link add gn address 02:00:00:00:80:{own} type geneve id 43 remote {remote}
"""
_UP = {
    "near": """
link add link near0 name near0.10 type vlan id 10
addr add 192.0.2.1/24 dev near0
addr add 2001:db8:1::1/64 dev near0 nodad
addr add 10.81.0.1/24 dev near0.10
addr add 10.82.0.1/24 dev near1
""",
    "router": """
link add link rtr0 name rtr0.10 type vlan id 10
addr add 192.0.2.254/24 dev rtr0
addr add 192.0.2.253/24 dev rtr0
addr add 198.51.100.254/24 dev rtr1
addr add 2001:db8:1::fe/64 dev rtr0 nodad
addr add 2001:db8:2::fe/64 dev rtr1 nodad
addr add 10.81.0.2/24 dev rtr0.10
link set port0 master br0
link set port1 master br0
""",
    "far": """
addr add 198.51.100.1/24 dev far0
addr add 2001:db8:2::1/64 dev far0 nodad
addr add 10.82.0.2/24 dev far1
""",
}
_LINKS = {
    "near": ("lo", "near0", "near1", "near0.10", "vx", "gr", "tn", "gn"),
    "router": ("lo", "rtr0", "rtr1", "port0", "port1", "rtr0.10", "br0"),
    "far": ("lo", "far0", "far1", "vx", "gr", "tn", "gn"),
}
_ROUTES = {
    "near": """
route add default via 192.0.2.254
route add default via 2001:db8:1::fe
neigh replace 192.0.2.254 lladdr 02:00:00:00:00:02 dev near0
neigh replace 2001:db8:1::fe lladdr 02:00:00:00:00:02 dev near0
neigh replace 10.81.0.2 lladdr 02:00:00:00:00:02 dev near0.10
neigh replace 10.82.0.2 lladdr 02:00:00:00:00:07 dev near1
neigh replace 10.77.0.2 lladdr 02:00:00:00:77:02 dev vx
neigh replace 10.80.0.2 lladdr 02:00:00:00:80:02 dev gn
""",
    "router": """
neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev rtr0
neigh replace 198.51.100.1 lladdr 02:00:00:00:00:03 dev rtr1
neigh replace 2001:db8:1::1 lladdr 02:00:00:00:00:01 dev rtr0
neigh replace 2001:db8:2::1 lladdr 02:00:00:00:00:03 dev rtr1
neigh replace 10.81.0.1 lladdr 02:00:00:00:00:01 dev rtr0.10
""",
    "far": """
route add default via 198.51.100.254
route add default via 2001:db8:2::fe
neigh replace 198.51.100.254 lladdr 02:00:00:00:00:04 dev far0
neigh replace 2001:db8:2::fe lladdr 02:00:00:00:00:04 dev far0
neigh replace 10.82.0.1 lladdr 02:00:00:00:00:05 dev far1
neigh replace 10.77.0.1 lladdr 02:00:00:00:77:01 dev vx
neigh replace 10.80.0.1 lladdr 02:00:00:00:80:01 dev gn
""",
}
_NAT = f"""
table ip nat {{
  chain before {{ type nat hook prerouting priority -100
    ip daddr {DNAT} tcp dport 80 dnat to {FAR}
  }}
  chain after {{ type nat hook postrouting priority 100
    oifname "rtr1" tcp dport 81 snat to {SNAT}
  }}
}}
"""
_DROP_NFT, _DROP_LEGACY = 9, 10
_SETTINGS = (
    ("router", "net/ipv4/ip_forward", "1"),
    ("router", "net/ipv6/conf/all/forwarding", "1"),
)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Move this thread's network to the namespace for the block; sockets made there stay in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    there = Path("/run/netns", namespace)
    with open("/proc/thread-self/ns/net", "rb") as here, there.open("rb") as entered:
        if libc.setns(entered.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {namespace}")
        try:
            yield
        finally:
            libc.setns(here.fileno(), _CLONE_NEWNET)


def run(*command: str, words: str | None = None) -> None:
    """Run a command that must succeed; the error has its standard error."""
    done = subprocess.run(command, input=words, text=True, check=False, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stderr.strip()}")


def wire() -> None:
    """Make it all; only the guest's end undoes it."""
    setting = Path("/proc/sys/net/core/fb_tunnels_only_for_init_net")
    setting.write_text("2")  # no tunl0 and gre0 in our namespaces
    for name in NAMESPACES:
        run("ip", "netns", "add", name)
        subprocess.Popen(["ip", "netns", "exec", name, "sleep", "infinity"])
    for table in (_DEVICES, _tunnels(), _UP, _links_up(), _ROUTES):
        for name, lines in table.items():
            run("ip", "-n", name, "-batch", "-", words=lines.strip() + "\n")
    for name, setting_name, value in _SETTINGS:
        with inside(name):
            Path("/proc/sys", setting_name).write_text(value)
    with inside("near"):  # what leaves near1 is cut to its MTU by the kernel, not by the receiver
        run("ethtool", "-K", "near1", "tso", "off")
    with inside("router"):
        run("nft", "-f", "-", words=_NAT)
    with inside("far"):
        for command, port in (("iptables-nft", _DROP_NFT), ("iptables-legacy", _DROP_LEGACY)):
            run(command, *f"-A INPUT -p udp --dport {port} -j DROP".split())


def _tunnels() -> dict[str, str]:
    near = _TUNNELS.format(own="01", local=NEAR, remote=FAR)
    return {"near": near, "far": _TUNNELS.format(own="02", local=FAR, remote=NEAR)}


def _links_up() -> dict[str, str]:
    """Return links without link-local addresses, so that they look for no router and join no group.

    In one command the kernel would set the device up first: a tunnel, which has its carrier at
    once, then sends such packets to the other end, and neighbours are resolved.
    """
    lines = {
        name: [f"link set {link} {what}" for link in links for what in ("addrgenmode none", "up")]
        for name, links in _LINKS.items()
    }
    for kind, device in (("vxlan", "vx"), ("gre", "gr"), ("ipip", "tn"), ("geneve", "gn")):
        for name, address in zip(("near", "far"), inner(kind), strict=True):
            lines[name].append(f"addr add {address}/24 dev {device}")
    return {name: "\n".join(each) for name, each in lines.items()}


def build_programs(folder: Path) -> Path:
    """Compile traffic_programs.c to an object file in ``folder``."""
    built = folder / "traffic_programs.o"
    flags = ["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3"]
    flags += [f"-I/usr/include/{platform.machine()}-linux-gnu"]  # asm/types.h, as on any Debian
    run("clang", *flags, "-c", str(PROGRAMS), "-o", str(built))
    return built


def attach_programs(built: Path) -> None:
    """Attach a TC program with map helpers and an XDP program to far1, at the end of the bridge."""
    with inside("far"):
        run("tc", *["qdisc", "add", "dev", "far1", "clsact"])
        run("tc", *f"filter add dev far1 ingress bpf da object-file {built} section tc".split())
        run("ip", *f"link set dev far1 xdpdrv object {built} section xdp".split())
