"""Runs inside a guest: packets selected by their nft events, beside a run that has all.

``trace_selected`` is a step of main_job.py, whose namespaces it uses; test_nft_filter.py checks it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.tracer import StepResult, Tracer, tracer
from tests.lab.net.topology import inside, run
from tests.lab.net.traffic import flush

FIRST = 7100
"""The port of packets by which the runs look up the texts of rules."""
PORTS = range(7101, 7107)
EACH = 3  # datagrams
# As long as the kernel allows, and alike but for the last letter.
LONG, OTHER = ("c" * 254 + end for end in "ab")
RULES = f"""
table inet selected {{
    chain {LONG} {{ accept; }}
    chain {OTHER} {{ counter; }}
    chain ports {{
        udp dport 7100 counter drop comment "no first port"
        udp dport 7101 counter drop comment "no such port"
        udp dport 7102 accept
        udp dport 7103 counter
    }}
    chain input {{
        type filter hook input priority -5; policy accept;
        udp dport 7100-7103 jump ports
        udp dport 7104 drop
        udp dport 7106 jump {OTHER}
        udp dport 7106 jump {LONG}
    }}
}}
"""
SENT = f"udp portrange {FIRST}-{PORTS[-1]}"
FUNCTIONS = (
    "__ip_local_out|ip_output|ip_rcv|ip_local_deliver|udp_rcv|(sk_skb|kfree_skb)(_reason.*)?"
)
SHOWN = ("--output-json", "--filter-func", FUNCTIONS)
# Run -> its flags, and the ports whose packets it shows: by the rules alone.
RUNS: Mapping[str, tuple[Sequence[str], Sequence[int]]] = {
    "all": ((), PORTS),
    "text": (("--filter-nft-text", 'dport \\d+ counter drop comment "no .* port"$'), [7101]),
    "verdict": (("--filter-nft-verdict", "drop"), [7101, 7104]),
    "chain": (
        ("--filter-nft-chain", "ports,input", "--filter-nft-table", "inet selected",
         "--filter-nft-verdict", "accept"),
        [7102, 7103, 7105],
    ),
    "long": (("--filter-nft-chain", LONG), [7106]),
}  # fmt: skip


def send(address: str, ports: Sequence[int]) -> None:
    """Send a datagram to each port in its turn."""
    with inside("near"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in ports:
            with contextlib.suppress(ConnectionRefusedError):
                sender.sendto(b"filter", (address, port))


def has_texts(one: Tracer, address: str) -> bool:
    """Send a packet, and return whether the run has printed the text of its rule."""
    send(address, [FIRST])
    return "no first port" in one.out.read_text()


def trace_selected(folder: Path, address: str) -> StepResult:
    """Send the same packets to all runs."""
    with inside("far"):
        run("nft", "-f", "-", words=RULES)
    share()
    with contextlib.ExitStack() as stack:
        runs: dict[str, Tracer] = {}
        for name, (flags, _) in RUNS.items():
            words = [*SHOWN, *flags, SENT]
            one = tracer(folder, f"nft-{name}", "pypwru", *words, start=Forked)
            runs[name] = stack.enter_context(one)
            runs[name].wait_ready()  # one after the other: the first may compile for all
        # A ruleset is listed when the first packet meets it, whose texts may not be known in time.
        for shown in (runs["all"], runs["text"]):
            shown.until("text of a rule", partial(has_texts, shown, address))
        send(address, list(PORTS) * EACH)
        flush()
        seen: StepResult = {name: one.stop() for name, one in runs.items()}
    with inside("far"):
        run("nft", "delete", "table", "inet", "selected")
    return seen
