"""Loss is exact: every sight is printed or counted, whatever the ring holds."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.native.tracing import network, tracing

pytestmark = pytest.mark.native

# Sends datagrams to argv[1], port 9, for argv[2] seconds, and prints how many.
FLOOD = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    end, sent = time.monotonic() + float(sys.argv[2]), 0
    while time.monotonic() < end:
        for _ in range(100):
            try:
                sender.sendto(b"flood", (sys.argv[1], 9))
            except ConnectionRefusedError:
                pass
            sent += 1
print(sent)
"""
SECONDS = 1.5


@pytest.mark.parametrize(
    ("pages", "stop"), [(1, signal.SIGTERM), (2, signal.SIGINT), (16, signal.SIGINT)]
)
def test_printed_and_lost_are_all(pages: int, stop: int) -> None:
    with network() as net:
        expression = f"udp and dst host {net.v4(1)} and dst port 9"
        with tracing(f"--buffer-size={4 * pages}k", expression, stop=stop) as run:
            found = net.run(sys.executable, "-c", FLOOD, net.v4(1), str(SECONDS))
            sent = int(found.stdout)
    assert run.status == 0
    done = run.done
    assert len(run.lines) == done["events"] > 0
    assert done["lost_ring_full"] > 0, "the flood was too slow for this ring"
    assert done["events"] + done["lost_ring_full"] == done["produced"]
    assert done["not_shown"] == 0
    assert done["produced"] >= 5 * sent
    print(f"{pages} pages: {done}")


def test_the_handlers_count_what_the_sender_sent() -> None:
    """One tracepoint that each datagram passes once: the sender's count judges the handlers'."""
    with network() as net:
        expression = f"udp and dst host {net.v4(1)} and dst port 9"
        with tracing("--buffer-size=4k", "--filter-func=net_dev_queue", expression) as run:
            sent = int(net.run(sys.executable, "-c", FLOOD, net.v4(1), str(SECONDS)).stdout)
    assert run.done["lost_ring_full"] > 0
    assert len(run.lines) + run.done["lost_ring_full"] == run.done["produced"] == sent


def test_a_ring_that_is_large_enough_loses_nothing() -> None:
    with network() as net:
        expression = f"udp and dst host {net.v4(1)} and dst port 9"
        with tracing("--buffer-size=64M", expression) as run:
            sent = int(net.run(sys.executable, "-c", FLOOD, net.v4(1), "0.5").stdout)
    assert run.status == 0
    assert run.done["lost_ring_full"] == run.done["not_shown"] == 0
    assert len(run.lines) == run.done["produced"]
    assert sum(line.func == "tp:net_dev_queue" for line in run.lines) == sent


def test_the_end_of_a_flood_by_limit_is_accounted_for() -> None:
    """Sights that nobody asked for any more are counted as not shown."""
    with network() as net:
        expression = f"udp and dst host {net.v4(1)} and dst port 9"
        with tracing("--output-limit-lines=1000", expression, stop=None) as run:
            net.run(sys.executable, "-c", FLOOD, net.v4(1), "0.5")
    assert run.status == 0
    assert len(run.lines) == 1000
    assert run.done["produced"] == 1000 + run.done["lost_ring_full"] + run.done["not_shown"]
