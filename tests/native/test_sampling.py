"""Sampling and limits by tracepoints: what is shown, that it is whole, and the account of it.

Lives and numbers of packets on kprobes are in tests/lab/test_sampling.py.
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

# Sends a datagram to argv[1] from so many ports; each is answered.
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


def of(net: Network) -> str:
    """The filter; what a namespace sends to itself is seen once, on its loopback."""
    return f"udp port 7 and host {net.v4(1)}"


def is_all(done: dict[str, int]) -> bool:
    """Whether every sight is shown, or counted by why it is not."""
    held = sum(done.get(word, 0) for word in ("not_sampled", "over_rate", "throttled"))
    return done["produced"] == done["events"] + done["lost_ring_full"] + held + done["not_shown"]


def counted(follow: TrackingSession) -> dict[str, int]:
    follow.read()
    done = follow.account()
    assert is_all(done) and done["lost_ring_full"] == done["not_shown"] == 0
    return done


# Sends 500 to the first argument.
DATAGRAMS = """
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as sender:
    for _ in range(500):
        sender.sendto(b"", (sys.argv[1], 7))
"""


def test_packets_of_few_addresses_are_counted_one_by_one(net: Network) -> None:
    """One function alone sees them, and none of those that free them."""
    words = ("--filter-func=net_dev_queue", f"udp and src host {net.v4(1)} and dst port 7")
    for count, more in ((500, ["--stats"]), (None, [])):
        with tracing(*more, *words) as run:
            found = net.run(sys.executable, "-c", DATAGRAMS, net.v4(2))
            assert found.returncode == 0, found.stderr
        assert run.done.get("packets") == count
        assert run.done["produced"] == 500


def test_messages_that_are_no_packets_have_numbers_of_their_own(net: Network) -> None:
    """Those of netlink get memory of dead packets; without a filter they are seen, too."""
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
    """Ports of a flow -> packets."""
    return Counter(
        frozenset((decode_flow(one.record[3]).sport, decode_flow(one.record[3]).dport))
        for one in events
        if one.name == "tp:net_dev_queue"
    )


def whole(
    net: Network, *words: str
) -> tuple[Counter[tuple[str, ...]], dict[str, int], TrackingSession]:
    with tracking(TRACEPOINT, "--buffer-size=64M", *words, of(net)) as follow:
        talk(net, MANY)
        done = counted(follow)
    return Counter(map(tuple, paths(follow.events).values())), done, follow


@pytest.mark.parametrize("rate", [2, 10, 1000])
def test_one_of_so_many_packets_on_each_cpu_and_each_is_whole(net: Network, rate: int) -> None:
    every, _, _ = whole(net, "--stats")
    some, done, _ = whole(net, f"--sample-rate={rate}", "--stats")
    shown = sum(some.values())
    assert shown == done["packets"] > 0
    # Rows that are not full: at most one on each CPU, and clones that the tracepoints can't join.
    total = sum(every.values())
    assert total // rate - 8 <= shown <= total // rate + 8
    frequent = [path for path, count in every.items() if count > MANY // 100]
    assert sum(some[path] for path in frequent) >= 0.99 * shown
    assert done["not_sampled"] > 0
    print(f"1 in {rate}: {shown} of {total}, {dict(some)}, {done}")


def test_a_flow_is_in_or_out_with_both_directions(net: Network) -> None:
    _, done, follow = whole(net, "--sample-flow=4")
    found = flows(follow.events)
    assert set(found.values()) == {2}, "the question and its answer"
    assert abs(len(found) - MANY / 4) < 5 * (MANY * 0.25 * 0.75) ** 0.5
    assert done["not_sampled"] > done["events"]
    print(f"{len(found)} of {MANY} flows")


def test_the_same_flows_in_every_run(net: Network) -> None:
    """Also with other sampling on top: both must hold."""

    def asked(*words: str) -> set[int]:
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

    first, second = asked("--sample-flow=3"), asked("--sample-flow=3")
    assert first == second and 50 < len(first) < 150
    both = asked("--sample-flow=3", "--sample-rate=2")
    assert both < first


def test_no_more_events_in_a_second_than_wanted(net: Network) -> None:
    with tracking(TRACEPOINT, "--rate-limit=50", of(net)) as follow:
        began = time.monotonic_ns()
        talk(net, MANY)
        ended = time.monotonic_ns()
        done = counted(follow)
    seconds = Counter(one.ktime // 10**9 for one in follow.events)
    assert max(seconds.values()) == 50
    inside = range(began // 10**9 + 1, ended // 10**9)
    assert all(seconds[second] == 50 for second in inside)
    assert done["over_rate"] > 0 and "throttled" not in done


def test_a_function_that_is_hit_too_often_is_throttled_and_no_other(net: Network) -> None:
    with tracking(TRACEPOINT, "--max-hits=100", of(net)) as follow:
        talk(net, MANY)
        done = counted(follow)
        throttled = follow.session.throttle_report.counts()
    hits = Counter((one.name, one.ktime // 10**9) for one in follow.events)
    assert max(hits.values()) == 100
    assert done["throttled"] == sum(throttled.values()) > 0
    assert throttled.keys() == {name for (name, _), count in hits.items() if count == 100}


def test_what_is_throttled_is_named_in_the_log(net: Network) -> None:
    with tracing("--max-hits=100", "--filter-func=net_dev_queue", of(net)) as run:
        talk(net, MANY)
    assert run.stderr.count("Throttled: ") == 1
    assert "functions=tp:net_dev_queue\n" in run.stderr
    assert f"hits=tp:net_dev_queue:{run.done['throttled']}\n" in run.stderr
    assert is_all(run.done) and len(run.lines) == run.done["events"]


def test_packets_of_sampled_flows_are_written(net: Network) -> None:
    """--output-pcap has the packets that are shown, and no other."""
    with tracking(TRACEPOINT, "--sample-rate=10", "--output-pcap=-", of(net)) as follow:
        talk(net, MANY)
        counted(follow)
        told = [follow.session.packet_data(one.record) for one in follow.events]
    first = [one for one in told if one and one.is_first]
    assert len(first) == len({one.packet for one in follow.events})
    assert all(socket.inet_aton(net.v4(1)) in one.data for one in first)
