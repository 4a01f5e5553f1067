"""--output-ct in the parity boots, where connections go through a router's NAT: one more row there.

It comes last, since it changes how long the router keeps connections.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab.net.topology import inside, run
from tests.lab.parity.invocations import FEW, Invocation

NAME = "conntrack"
ROUTED = ("--filter-netns", "/run/netns/router")
ROW = Invocation(
    ("--output-ct", "--output-json", *ROUTED, *FEW),
    ("dnat", "snat", "forward4", "forward6", "udp4", "udp6"),
    filter="ip or ip6",
    cheap=True,
    peer=False,
)
MARK, ZONE = 42, 7
_RULES = f"""
table inet conntrack {{
  chain before {{ type filter hook prerouting priority -300
    udp dport 4002 ct zone set {ZONE}
    udp dport 4004 notrack
  }}
  chain forwarded {{ type filter hook forward priority 0
    ct state new ct mark set {MARK}
  }}
}}
"""
_TIMEOUTS = ("tcp_timeout_close", "icmp_timeout", "icmpv6_timeout", "udp_timeout")


def prepare() -> None:
    """Load rules that mark connections from their start, and keep these listed until all is
    sent.
    """
    with inside("router"):
        run("nft", "-f", "-", words=_RULES)
        run("conntrack", "-F")
        for name in _TIMEOUTS:
            Path("/proc/sys/net/netfilter", f"nf_conntrack_{name}").write_text("600")
