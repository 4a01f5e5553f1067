"""Loss is exact: every event is printed or counted, whatever the size of the ring."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest

from tests.native.tracing import Network, Run, network, tracing

pytestmark = pytest.mark.native

# Sends argv[2] datagrams to argv[1], port 9.
FLOOD = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range(int(sys.argv[2])):
        sender.sendto(b"flood", (sys.argv[1], 9))
"""
MANY = 20000
MORE_THAN_A_RING = 2000  # of 16 pages


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def flood(net: Network, datagrams: int) -> None:
    found = net.run(sys.executable, "-c", FLOOD, net.v4(1), str(datagrams))
    assert found.returncode == 0, found.stderr


def flood_and_lose(net: Network, run: Run) -> int:
    """Flood while it reads, and while it is stopped, so that events are lost on any machine."""
    flood(net, MANY)
    run.process.send_signal(signal.SIGSTOP)
    try:
        flood(net, MORE_THAN_A_RING)
    finally:
        run.process.send_signal(signal.SIGCONT)
    return MANY + MORE_THAN_A_RING


def flood_filter(net: Network) -> str:
    """Return the filter."""
    return f"udp and dst host {net.v4(1)} and dst port 9"


@pytest.mark.parametrize(
    ("pages", "stop"), [(1, signal.SIGTERM), (2, signal.SIGINT), (16, signal.SIGINT)]
)
def test_printed_and_lost_are_all_events(net: Network, pages: int, stop: int) -> None:
    with tracing(f"--buffer-size={4 * pages}k", flood_filter(net), stop=stop) as run:
        sent = flood_and_lose(net, run)
    assert run.status == 0
    done = run.done
    assert len(run.lines) == done["events"] > 0
    assert done["lost_ring_full"] > 0
    assert done["events"] + done["lost_ring_full"] == done["produced"]
    assert done["not_shown"] == 0
    assert done["produced"] >= 5 * sent
    lost = f"WARN {done['lost_ring_full']} events found no room in the ring: raise --buffer-size"
    assert lost in run.stderr
    print(f"{pages} pages: {done}")


def test_handlers_count_each_datagram(net: Network) -> None:
    """Each datagram passes one tracepoint once: the oracle is the sender's count."""
    with tracing("--buffer-size=4k", "--filter-func=net_dev_queue", flood_filter(net)) as run:
        sent = flood_and_lose(net, run)
    assert run.done["lost_ring_full"] > 0
    assert len(run.lines) + run.done["lost_ring_full"] == run.done["produced"] == sent


def test_large_ring_loses_nothing(net: Network) -> None:
    """It holds all of them, however late it is read: 8 events of 5000, of less than a KiB."""
    with tracing("--buffer-size=64M", flood_filter(net)) as run:
        flood(net, 5000)
    assert run.status == 0
    assert run.done["lost_ring_full"] == run.done["not_shown"] == 0
    assert "WARN" not in run.stderr
    assert len(run.lines) == run.done["produced"]
    assert sum(line.func == "tp:net_dev_queue" for line in run.lines) == 5000


def test_events_after_limit_are_counted(net: Network) -> None:
    """Events after the limit are counted as not shown."""
    with tracing("--output-limit-lines=1000", flood_filter(net), stop=None) as run:
        flood(net, MANY)
    assert run.status == 0
    assert len(run.lines) == 1000
    assert run.done["produced"] == 1000 + run.done["lost_ring_full"] + run.done["not_shown"]
