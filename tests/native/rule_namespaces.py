"""Network namespaces with nftables rules, which nft loads and lists."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pypwru.kernel.netlink import GET_CHAIN, GET_RULE, GET_TABLE, Message, NetfilterSocket
from pypwru.kernel.netns import run_in_namespace
from pypwru.nft.rule_service import RuleService
from tests.support.need import need

TIMEOUT = 30.0
_numbers = itertools.count()

# Every kind of rule that may be hard to parse, of 17.
EVERYTHING = """
table inet filter {
    comment "of a table"
    set blocked { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.0.2.1 }; }
    set seen { type ipv4_addr; flags dynamic, timeout; timeout 1m; }
    map ports { type inet_service : verdict; elements = { 80 : jump web, 22 : accept }; }
    map marks { type ipv4_addr : mark; elements = { 192.0.2.1 : 0x17 }; }
    counter hits { }
    chain web {
        ip saddr 198.51.100.1 counter drop comment "grüße aus Köln, 你好 🐧"
        tcp flags & (syn | ack) == syn counter name hits return
    }
    chain input {
        type filter hook input priority filter + 5; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        tcp dport vmap @ports
        ip saddr . tcp dport vmap { 192.0.2.7 . 80 : drop, 192.0.2.8 . 443 : jump web }
        ip saddr @blocked log prefix "in: " level debug counter drop comment "a set"
        add @seen { ip saddr limit rate over 5/second } meta mark set ip saddr map @marks
        meta l4proto { tcp, udp } limit rate 5/second burst 3 packets accept
        tcp dport { 8000-8100, 9000 } reject with tcp reset comment "jump out # handle 3"
        quota over 25 mbytes drop
        goto web
    }
}
table ip nat {
    chain post { type nat hook postrouting priority srcnat; oifname "eth*" masquerade; }
    chain pre { type nat hook prerouting priority dstnat; tcp dport 80 redirect to :8080; }
}
table ip6 filter { chain input { type filter hook input priority -7; ip6 saddr ::1 accept; }; }
table arp filter { chain input { type filter hook input priority 0; arp operation 1 accept; }; }
table bridge filter { chain f { type filter hook forward priority 0; ether type ip accept; }; }
table netdev filter {
    chain dev { type filter hook ingress device "lo" priority -500; ip saddr 192.0.2.9 drop; }
}
"""


# Listings that are hard to parse: strings of several lines, one of which looks like the first of a
# chain, and rules with rules of their own.
HARD = r"""
table inet filter {
    comment "of a
}
table"
    set s { type ipv4_addr; comment "set
}
	chain input { # handle 2
x"; }
    chain other { drop; }
    chain input {
        comment "two
		drop # handle 10
lines"
        type filter hook input priority 0; policy accept;
        tcp dport { 22, 80 } jump {
            ip saddr 192.0.2.4 accept
            counter accept comment "in
ner"
            drop
        } comment "ssh"
        ip saddr 192.0.2.9 goto { udp dport 5 accept; }
        tcp dport { 22 comment "a
b", 25 } accept
        iifname "x y" log prefix "pre
fix # handle 16
" drop
        udp dport 9 jump other
        udp dport 10 jump { }
    }
}
"""
# Text of each of its rules by chain, in their order.
HARD_TEXTS = {
    "other": ["drop"],
    "input": [
        r'tcp dport { 22, 80 } jump { ip saddr 192.0.2.4 accept; counter accept comment "in\nner"; '
        r'drop; } comment "ssh"',
        "ip saddr 192.0.2.9 goto { udp dport 5 accept; }",
        r'tcp dport { 22 comment "a\nb", 25 } accept',
        r'iifname "x y" log prefix "pre\nfix # handle 16\n" drop',
        "udp dport 9 jump other",
        "udp dport 10 jump { }",
    ],
    "input#10": ["ip saddr 192.0.2.4 accept", r'counter accept comment "in\nner"', "drop"],
    "input#13": ["udp dport 5 accept"],
}


class RuleNamespace(NamedTuple):
    """A namespace with a name."""

    name: str
    inode: int

    def run(self, *words: str, stdin: str | None = None) -> str:
        """Return the output of a command in it."""
        ran = subprocess.run(
            ["ip", "netns", "exec", self.name, *words],
            input=stdin, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def load(self, rules: str) -> None:
        """Load rules by nft, in one transaction."""
        self.run("nft", "-f", "-", stdin=rules)

    def table(self, name: str = "t") -> int:
        """Return the handle of a table; some kernels count those of all namespaces as one."""
        objects = json.loads(self.run("nft", "-j", "-a", "list", "ruleset"))["nftables"]
        (found,) = (o["table"] for o in objects if o.get("table", {}).get("name") == name)
        return int(found["handle"])

    def handles(self) -> dict[tuple[int, int, int], dict[str, object]]:
        """Map (table, chain, rule) handles of each rule to nft's JSON of it."""
        objects = json.loads(self.run("nft", "-j", "-a", "list", "ruleset"))["nftables"]
        tables, chains, rules = (
            [each[what] for each in objects if what in each] for what in ("table", "chain", "rule")
        )
        table_of = {(t["family"], t["name"]): t["handle"] for t in tables}
        chain_of = {(c["family"], c["table"], c["name"]): c["handle"] for c in chains}
        return {
            (
                table_of[r["family"], r["table"]],
                chain_of[r["family"], r["table"], r["chain"]],
                r["handle"],
            ): r
            for r in rules
        }

    def dumps(self) -> list[list[Message]]:
        """Return the kernel's tables, chains and rules; nft lists no chain bound to a rule."""

        def dump_all() -> list[list[Message]]:
            with NetfilterSocket() as netfilter:
                return [netfilter.dump(kind) for kind in (GET_TABLE, GET_CHAIN, GET_RULE)]

        with open(f"/run/netns/{self.name}") as file:
            return run_in_namespace(file.fileno(), dump_all)


@contextmanager
def rule_namespace() -> Iterator[RuleNamespace]:
    """Make a new namespace, and delete it at the end."""
    need(os.geteuid() == 0, "root, to make network namespaces")
    for command, package in (("ip", "iproute2"), ("nft", "nftables")):
        need(shutil.which(command), f"{command}, of {package}")
    name = f"pypwru-rules-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield RuleNamespace(name, os.stat(f"/run/netns/{name}").st_ino)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def list_rules(rules: RuleService, namespace: RuleNamespace) -> RuleService:
    """Return ``rules`` once they have listed a namespace as it is now."""
    rules.request(namespace.inode)
    assert rules.relist(TIMEOUT)
    return rules


def until(fact: Callable[[], object]) -> None:
    """Poll ``fact`` until it is true; it calls threads of ``RuleService``, or the kernel."""
    end = time.monotonic() + TIMEOUT
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.001)


def thread_namespaces() -> set[str]:
    """Return the network namespaces that this process's threads are in."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/task/{task}/ns/net"))
    return found
