"""The lab's reader of the kernel's trace records, compared with ``nft monitor trace``.

unshare --net python -m tests.native.test_trace_records     its guts, in a network of its own
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.net.topology import run
from tests.lab.truth.comparison import compare, compare_counts
from tests.lab.truth.records import Record, listening, received
from tests.lab.truth.rulesets import counts
from tests.support.need import need

pytestmark = pytest.mark.native
RULES = """
table inet traced {
	chain first { type filter hook output priority -500; meta nftrace set 1; }
	chain output {
		type filter hook output priority 0; policy drop;
		counter
		udp dport 7001 counter jump web
		udp dport vmap { 7002 : goto web, 7003 : drop, 7004 : accept }
		udp dport 7005 limit rate 1/day burst 1 packets counter accept
		ip daddr . udp dport { 127.0.0.1 . 7006 } counter reject
	}
	chain web {
		udp dport 7001 counter return
		counter accept
	}
}
table ip other {
	chain input {
		type filter hook input priority 0;
		counter jump empty
	}
	chain empty { }
}
"""
PORTS = [*range(7001, 7008), *range(7001, 7008)]
SECONDS = 30
_RULE = r"trace id \w+ (\w+ \w+ \w+) rule .* # handle (\d+) \(verdict (\w+(?: \w+)?)\)"
_POLICY = r"trace id \w+ (\w+ \w+ \w+) policy (\w+)"


def is_listening(process: subprocess.Popen[bytes]) -> bool:
    """Return whether it is in the group NFNLGRP_NFTRACE of its netlink socket."""
    rows = [row.split() for row in Path("/proc/net/netlink").read_text().splitlines()[1:]]
    return any(row[2] == str(process.pid) and int(row[3], 16) & 1 << 8 for row in rows)


def parse_monitor(text: str) -> list[tuple[str, str]]:
    """Return chains and decisions; nft prints no line for the end of a chain."""
    found = []
    for line in text.splitlines():
        if rule := re.match(_RULE, line):
            found.append((rule[1], f"handle {rule[2]} {rule[3]}"))
        elif policy := re.match(_POLICY, line):
            found.append((policy[1], f"policy {policy[2]}"))
    return found


def wait_until(fact: str, seen: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not seen():
        if time.monotonic() > end:
            raise RuntimeError(f"no {fact}")
        select.select([], [], [], 0.05)


def main() -> None:
    """Print both readers' view of a few datagrams, as JSON."""
    run("ip", "link", "set", "lo", "up")
    run("nft", "-f", "-", words=RULES)
    with subprocess.Popen(
        ["stdbuf", "-oL", "nft", "-a", "monitor", "trace"], stdout=subprocess.PIPE
    ) as monitor:
        wait_until("nft monitor", lambda: is_listening(monitor))
        with listening() as kernel, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in PORTS:
                with contextlib.suppress(OSError):
                    sender.sendto(b"datagram", ("127.0.0.1", port))
            kernel_records = received(kernel)
        assert monitor.stdout
        shown, expected_lines = b"", sum(record.decision != "return" for record in kernel_records)
        while len(parse_monitor(shown.decode())) < expected_lines:
            if not select.select([monitor.stdout], [], [], SECONDS)[0]:
                break
            shown += os.read(monitor.stdout.fileno(), 1 << 16)
        monitor.kill()
    listed = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, check=True)
    counted = list(counts(json.loads(listed.stdout)["nftables"]))
    print(json.dumps({"kernel": kernel_records, "shown": shown.decode(), "counted": counted}))


def test_records_are_those_of_nft_monitor() -> None:
    need(os.geteuid() == 0, "root, for a network namespace")
    need(shutil.which("nft"), "nft (package nftables)")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.native.test_trace_records"],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS * 3,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    kernel_records = [Record(*each) for each in seen["kernel"]]
    deciding = [record for record in kernel_records if record.decision != "return"]

    shown = [Record(chain, decision, "", 0) for chain, decision in parse_monitor(seen["shown"])]
    assert compare([record._replace(flow="", packet=0) for record in deciding], shown) == (
        len(deciding),
        [],
    )
    assert len(deciding) > 2 * len(PORTS)
    assert {record.decision for record in kernel_records} >= {
        "return",
        "policy accept",
        "policy drop",
    }
    assert compare_counts(seen["counted"], kernel_records).mismatches == []
    assert len(seen["counted"]) == 7


if __name__ == "__main__":
    main()
