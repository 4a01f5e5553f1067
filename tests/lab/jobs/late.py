"""Runs inside a guest: nf_tables is loaded while pypwru traces a flood; a step of main_job.py.

The oracles of test_late.py are the sender's own count, and the rule's counter.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.lab.jobs.forked import Forked
from tests.lab.jobs.tracer import Start, StepResult, tracer

FLOODED, DROPPED = 9998, 9997  # ports of lo without a socket
SENT = f"udp and dst portrange {DROPPED}-{FLOODED}"
# A ring that is full after a second or two of the flood.
WORDS = ("--buffer-size", "256k", "--filter-func", "ip_rcv", "--output-json", SENT)
BEFORE, AFTER = 200, 10  # datagrams of the flood first, and to the rule in the end
PACE = 0.002  # seconds from one to the next
RULES = f"""
table inet late {{
    chain input {{
        type filter hook input priority 0
        udp dport {DROPPED} counter drop
    }}
}}
"""


class Flood:
    """Sends until it is stopped.

    Attributes:
        count: datagrams so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._stop = threading.Event()

    def send(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not self._stop.wait(PACE):
                sendto(sender, FLOODED)
                self.count += 1

    def wait(self, more: int) -> None:
        """Wait until so many more were sent."""
        end = self.count + more
        while self.count < end:
            time.sleep(PACE)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.send)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def sendto(sender: socket.socket, port: int) -> None:
    """An error of an earlier datagram keeps this one from being sent."""
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            sender.sendto(b"datagram", ("127.0.0.1", port))
            return


def trace_module_load(folder: Path, start: Start = Forked) -> StepResult:
    """Load the module only after the tracer has started."""
    there = Path("/sys/module/nf_tables").exists()
    flood = Flood()
    with tracer(folder, "late", "pypwru", *WORDS, start=start) as own:
        own.wait_ready()
        with flood.running():
            flood.wait(BEFORE)
            subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True)
            began = time.monotonic()
            own.wait_word("Attached to nftables")
            took = time.monotonic() - began
            flood.wait(BEFORE)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(AFTER):
                sendto(sender, DROPPED)
        listed = subprocess.run(
            ["nft", "--json", "list", "table", "inet", "late"], capture_output=True, check=True
        ).stdout
        subprocess.run(["nft", "delete", "table", "inet", "late"], check=True)
        done = own.stop()
    events = [json.loads(line) for line in str(done["out"]).splitlines()]
    kinds = Counter(
        f"{event['type']} {event['nft']['verdict'] if event['type'] == 'nft_rule' else ''}".strip()
        for event in events
    )
    return {
        **done,
        "out": kinds,
        "there": there,
        "sent": flood.count + AFTER,
        "counters": listed.decode(),
        "attached": took,
    }


if __name__ == "__main__":
    print(json.dumps(trace_module_load(Path(sys.argv[1]))))
