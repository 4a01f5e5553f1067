"""Runs inside a guest: packet_ids and frees of packets, and samples of them, on kprobes.

    python -m tests.lab.jobs.sampling FOLDER BACKEND... [frames]

FOLDER/result.json is checked on the host (test_sampling.py), which has compiled into FOLDER/cache.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pypwru.wire.fields import decode_flow
from tests.lab.jobs.capture import FAR, NEAR, PORT, datagrams, record_loads, stream, wire
from tests.lab.jobs.forked import share
from tests.lab.jobs.programs import PINNED, Programs
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import StepResult
from tests.support.packet_tracking import TrackedEvent, TrackingSession, lifetimes, paths, tracking

PINGS = 10_000
FEW = 1_000
OWN = "127.0.0.77"
REQUESTS = f"dst host {OWN} and icmp[icmptype] == icmp-echo"


def commands(backends: Sequence[str], with_frames: bool = False) -> dict[str, list[str]]:
    """Return the command lines, by name."""
    found = {}
    for one in backends:
        words = ["--backend", one, "--buffer-size", "256M"]
        found[f"lifetimes {one}"] = [*words, "--stats"]
        found[f"every {one}"] = [*words, "--stats", "--priority", "1", REQUESTS]
        found[f"sampled {one}"] = [*words, "--stats", "--sample-rate", "10", "--priority", "1",
                                   REQUESTS]  # fmt: skip
        found[f"plain {one}"] = [*words, "--sample-rate", "10", "--output-nft=false",
                                 "--priority", "1", f"host {OWN} and icmp"]  # fmt: skip
        found[f"flows {one}"] = [*words, "--sample-flow", "3", "--priority", "1", f"port {PORT}"]
        found[f"limits {one}"] = [*words, "--rate-limit", "200", "--max-hits", "20", "--priority",
                                  "1", f"host {OWN}"]  # fmt: skip
        found[f"stacks {one}"] = [*words, "--sample-rate", "10", "--priority", "1",
                                  "--filter-track-skb", "--filter-track-skb-by-stackid",
                                  "--filter-non-skb-funcs", "ip_route_output_key_hash_rcu",
                                  f"host {OWN} and icmp"]  # fmt: skip
    if with_frames:
        found["frames"] = ["--filter-trace-xdp", "--filter-track-skb", "--stats", "--priority", "1",
                           f"host {NEAR} and icmp"]  # fmt: skip
    return found


def ping(count: int, *words: str) -> None:
    command = ["ping", "-q", "-c", str(count), *words, OWN]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def flood(count: int) -> None:
    ping(count, "-f")


def path_counts(traced: TrackingSession) -> StepResult:
    """Return how often each path of functions was traced, and the counters."""
    traced.read()
    shown = Counter(map(",".join, paths(traced.events).values()))
    return {"paths": dict(shown), "done": traced.account()}


def lifetime_shapes(words: Sequence[str]) -> StepResult:
    """Trace traffic of all kinds: the events of each sk_buff, and how often it is freed."""
    seen: StepResult = {}
    with record_loads(seen), tracking(*words) as traced:
        stream(socket.AF_INET, "127.0.0.1")
        stream(socket.AF_INET6, "::1")
        datagrams([0, 300, 20000, *[10] * 50])
        subprocess.run(["ip", "netns", "exec", "far", "ping", "-qc2", "-s9000", NEAR], check=True)
        ping(100, "-i", "0.002")
        traced.read()
        shapes = {key: merge_events(lifetime) for key, lifetime in lifetimes(traced.events).items()}
        seen["lifetimes"] = dict(Counter(shapes.values()))
        odd = [key for key, shape in shapes.items() if shape != "sE"]
        seen["odd"] = [(shapes[key], names(traced.events, *key)[-6:]) for key in odd[:20]]
        seen["nameless"] = dict(Counter(one.name for one in traced.events if not one.packet))
        seen["clones"] = clones(traced.events)
        seen["again"] = len(shapes) - len({skb for skb, _ in shapes})
        seen["done"] = traced.account()
    return seen


def merge_events(lifetime: str) -> str:
    """Merge consecutive events; a clone can reuse the address of an earlier one."""
    return re.sub("^(sE)+$", "sE", re.sub("s+", "s", lifetime))


def names(events: Sequence[TrackedEvent], skb: int, packet: int) -> list[str]:
    return [one.name for one in events if (one.skb, one.packet) == (skb, packet)]


def clones(events: Sequence[TrackedEvent]) -> int:
    """Count packets of which there are several sk_buffs."""
    skbs = Counter(packet for _, packet in lifetimes(events))
    return sum(1 for packet, count in skbs.items() if packet and count > 1)


def pings(count: int, words: Sequence[str]) -> StepResult:
    """Trace one in so many requests of a flood, or all: the functions of each."""
    seen: StepResult = {}
    with record_loads(seen), tracking(*words) as traced:
        flood(count)
        seen |= path_counts(traced)
    return seen


def flows(words: Sequence[str]) -> StepResult:
    """Trace both directions of connections."""
    with tracking(*words) as traced:
        with socket.socket() as listener:
            # Also of accepted sockets, which wait a minute: the next job binds the port, too.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", PORT))
            listener.listen()
            for _ in range(60):
                with (
                    socket.create_connection(("127.0.0.1", PORT)) as one,
                    listener.accept()[0] as other,
                ):
                    one.sendall(b"question")
                    other.recv(8)
                    other.sendall(b"answer")
                    one.recv(6)
        traced.read()
        found: dict[int, set[tuple[int, int]]] = {}
        for event in traced.events:
            where = decode_flow(event.record[3])
            if where.l3 == 4:
                (port,) = {where.sport, where.dport} - {PORT}
                found.setdefault(port, set()).add((where.sport, where.dport))
        return {"directions": [len(both) for both in found.values()], "done": traced.account()}


def limits(words: Sequence[str]) -> StepResult:
    with tracking(*words) as traced:
        flood(300)
        seen = path_counts(traced)
        throttled = traced.session.throttle_report.counts()
    seconds = Counter(one.ktime // 10**9 for one in traced.events)
    hits = Counter((one.record[1][:8], one.ktime // 10**9) for one in traced.events)
    return {**seen, "second": max(seconds.values()), "hits": max(hits.values()),
            "throttled": throttled}  # fmt: skip


def frames(words: Sequence[str]) -> StepResult:
    """Trace a frame at an XDP program: it has the packet_id of the later sk_buff."""
    Programs().load("frames_with_a_long_name")
    path = PINNED / "frames_with_a_long_name"
    device = "ip -n far link set dev far xdpdrv"
    subprocess.run([*device.split(), "pinned", path], check=True)
    with tracking(*words) as traced:
        subprocess.run(["ping", "-qc5", "-i0.2", FAR], check=True, stdout=subprocess.DEVNULL)
        traced.read()
        ours = {one.packet for one in traced.events if "frames_with" in one.name}
        shown = paths(traced.events)
        seen: StepResult = {"packets": len(ours), "done": traced.account()}
        seen["paths"] = [shown[packet] for packet in ours]
    subprocess.run([*device.split(), "off"], check=True)
    return seen


def main() -> None:
    result_file = Path(sys.argv[1]) / "result.json"
    os.environ["PYPWRU_CACHE"] = str(result_file.with_name("cache"))
    wire()
    share()
    backends = [word for word in sys.argv[2:] if word != "frames"]
    jobs: dict[str, Callable[[Sequence[str]], StepResult]] = {
        "lifetimes": lifetime_shapes,
        "every": partial(pings, FEW),
        "sampled": partial(pings, PINGS),
        "plain": partial(pings, FEW),
        "flows": flows,
        "limits": limits,
        "stacks": partial(pings, FEW),
        "frames": frames,
    }
    steps: list[Step] = [
        (name, partial(jobs[name.partition(" ")[0]], words))
        for name, words in commands(backends, with_frames="frames" in sys.argv).items()
    ]
    run_steps(steps, {}, result_file)


if __name__ == "__main__":
    main()
