"""Sampling and limits by tracepoints: which packets are shown, their whole paths, the counters.

Lifetimes and packet_ids on kprobes are in tests/lab/test_sampling.py.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from pypwru.wire.fields import decode_flow
from tests.native.tracing import Network, need_tracing, network, tracing
from tests.support.packet_tracking import TrackedEvent, TrackingSession, paths, tracking

pytestmark = pytest.mark.native
TRACEPOINT = "--backend=tracepoint"
MANY = 2000

# Sends a datagram to argv[1] from each of argv[2] ports; each is answered.
TALK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind((sys.argv[1], 7))
    for port in range(10000, 10000 + int(sys.argv[2])):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((sys.argv[1], port))
            client.sendto(b"hello", (sys.argv[1], 7))
            server.sendto(*server.recvfrom(9))
            client.recv(9)
"""


@pytest.fixture(autouse=True)
def _can_trace() -> None:
    need_tracing()


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def talk(net: Network, times: int) -> None:
    found = net.run(sys.executable, "-c", TALK, net.v4(1), str(times))
    assert found.returncode == 0, found.stderr


def udp_filter(net: Network) -> str:
    """Return the filter; a namespace's packets to itself have events once, on its loopback."""
    return f"udp port 7 and host {net.v4(1)}"


def is_complete(done: dict[str, int]) -> bool:
    """Return whether every event is printed, or counted by the reason why not."""
    skipped = sum(done.get(word, 0) for word in ("not_sampled", "over_rate", "throttled"))
    return done["produced"] == done["events"] + done["lost_ring_full"] + skipped + done["not_shown"]


def counted(traced: TrackingSession) -> dict[str, int]:
    traced.read()
    done = traced.account()
    assert is_complete(done) and done["lost_ring_full"] == done["not_shown"] == 0
    return done


# Sends 500 to the first argument.
DATAGRAMS = """
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as sender:
    for _ in range(500):
        sender.sendto(b"", (sys.argv[1], 7))
"""


def test_packets_at_reused_addresses_are_counted(net: Network) -> None:
    """One function is traced, and none of those that free packets."""
    words = ("--filter-func=net_dev_queue", f"udp and src host {net.v4(1)} and dst port 7")
    for count, more in ((500, ["--stats"]), (None, [])):
        with tracing(*more, *words) as run:
            found = net.run(sys.executable, "-c", DATAGRAMS, net.v4(2))
            assert found.returncode == 0, found.stderr
        assert run.done.get("packets") == count
        assert run.done["produced"] == 500


def test_netlink_messages_have_own_packet_ids(net: Network) -> None:
    """Messages of netlink reuse memory of freed packets; without a filter they have events, too."""
    count = 20
    with tracing("--output-json") as run:
        for _ in range(count):
            net.ping(net.v4(2))
            assert net.run("ip", "link").returncode == 0
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    ends = {net.v4(1), net.v4(2)}
    own = [row["tuple"].get("saddr") in ends for row in rows]
    pings = {row["packet_id"] for row, is_own in zip(rows, own, strict=True) if is_own}
    others = {row["packet_id"] for row, is_own in zip(rows, own, strict=True) if not is_own}
    assert len(pings) == 2 * count
    assert len(others) > count
    assert pings.isdisjoint(others)


def flows(events: Sequence[TrackedEvent]) -> Counter[frozenset[int]]:
    """Count packets of each flow, by its ports."""
    return Counter(
        frozenset((decode_flow(one.record[3]).sport, decode_flow(one.record[3]).dport))
        for one in events
        if one.name == "tp:net_dev_queue"
    )


def whole(
    net: Network, *words: str
) -> tuple[Counter[tuple[str, ...]], dict[str, int], TrackingSession]:
    with tracking(TRACEPOINT, "--buffer-size=64M", *words, udp_filter(net)) as traced:
        talk(net, MANY)
        done = counted(traced)
    return Counter(map(tuple, paths(traced.events).values())), done, traced


@pytest.mark.parametrize("rate", [2, 10, 1000])
def test_sample_rate_keeps_whole_paths(net: Network, rate: int) -> None:
    every, _, _ = whole(net, "--stats")
    some, done, _ = whole(net, f"--sample-rate={rate}", "--stats")
    shown = sum(some.values())
    assert shown == done["packets"] > 0
    # Incomplete rounds: at most one on each CPU, and clones that tracepoints can't join.
    total = sum(every.values())
    assert total // rate - 8 <= shown <= total // rate + 8
    frequent = [path for path, count in every.items() if count > MANY // 100]
    assert sum(some[path] for path in frequent) >= 0.99 * shown
    assert done["not_sampled"] > 0
    print(f"1 in {rate}: {shown} of {total}, {dict(some)}, {done}")


def test_sample_flow_has_both_directions(net: Network) -> None:
    _, done, traced = whole(net, "--sample-flow=4")
    found = flows(traced.events)
    assert set(found.values()) == {2}, "request and reply"
    assert abs(len(found) - MANY / 4) < 5 * (MANY * 0.25 * 0.75) ** 0.5
    assert done["not_sampled"] > done["events"]
    print(f"{len(found)} of {MANY} flows")


def test_sample_flow_is_same_in_each_run(net: Network) -> None:
    """Also with --sample-rate: both must hold."""

    def sampled_ports(*words: str) -> set[int]:
        with tracking(TRACEPOINT, "--buffer-size=64M", *words, f"udp and host {net.v4(9)}") as one:
            script = (
                "import socket, sys\n"
                "for port in range(20000, 20300):\n"
                "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:\n"
                "        sender.bind((sys.argv[1], port))\n"
                "        sender.sendto(b'x', (sys.argv[2], 9))\n"
            )
            net.run("ip", "neigh", "replace", net.v4(9), "lladdr", net.mac(2), "dev", net.left)
            found = net.run(sys.executable, "-c", script, net.v4(1), net.v4(9))
            assert found.returncode == 0, found.stderr
            counted(one)
            return {port for ports in flows(one.events) for port in ports if port != 9}

    first, second = sampled_ports("--sample-flow=3"), sampled_ports("--sample-flow=3")
    assert first == second and 50 < len(first) < 150
    both = sampled_ports("--sample-flow=3", "--sample-rate=2")
    assert both < first


def test_rate_limit_bounds_events_per_second(net: Network) -> None:
    with tracking(TRACEPOINT, "--rate-limit=50", udp_filter(net)) as traced:
        began = time.monotonic_ns()
        talk(net, MANY)
        ended = time.monotonic_ns()
        done = counted(traced)
    seconds = Counter(one.ktime // 10**9 for one in traced.events)
    assert max(seconds.values()) == 50
    inside = range(began // 10**9 + 1, ended // 10**9)
    assert all(seconds[second] == 50 for second in inside)
    assert done["over_rate"] > 0 and "throttled" not in done


def test_max_hits_throttles_only_busy_functions(net: Network) -> None:
    with tracking(TRACEPOINT, "--max-hits=100", udp_filter(net)) as traced:
        talk(net, MANY)
        done = counted(traced)
        throttled = traced.session.throttle_report.counts()
    hits = Counter((one.name, one.ktime // 10**9) for one in traced.events)
    assert max(hits.values()) == 100
    assert done["throttled"] == sum(throttled.values()) > 0
    assert throttled.keys() == {name for (name, _), count in hits.items() if count == 100}


def test_throttled_functions_are_logged(net: Network) -> None:
    with tracing("--max-hits=100", "--filter-func=net_dev_queue", udp_filter(net)) as run:
        talk(net, MANY)
    assert run.stderr.count("Throttled: ") == 1
    assert "functions=tp:net_dev_queue\n" in run.stderr
    assert f"hits=tp:net_dev_queue:{run.done['throttled']}\n" in run.stderr
    assert is_complete(run.done) and len(run.lines) == run.done["events"]


def test_output_pcap_has_sampled_packets(net: Network) -> None:
    """--output-pcap has the packets of printed events, and no other."""
    with tracking(TRACEPOINT, "--sample-rate=10", "--output-pcap=-", udp_filter(net)) as traced:
        talk(net, MANY)
        counted(traced)
        captures = [traced.session.packet_data(one.record) for one in traced.events]
    first = [one for one in captures if one and one.is_first]
    assert len(first) == len({one.packet for one in traced.events})
    assert all(socket.inet_aton(net.v4(1)) in one.data for one in first)
