"""Runs inside a guest: the main job, beside pwru and by each backend; what was seen goes to a file.

    python -m tests.lab.jobs.main_job FOLDER [--all-functions] [--deep]

FOLDER/result.json is judged on the host (test_parity.py, test_main_job.py); nothing is here. The
cold start compiles; the others find what the host compiled into FOLDER/cache.
--deep adds what one kernel is enough for: warm start, exact loss, a killed session's kprobes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pypwru.btf.declare import declare_function
from pypwru.btf.load import load_vmlinux
from pypwru.cache import Cache
from pypwru.kernel.kallsyms import read_symbols
from tests.lab.jobs import late, nft_chosen
from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.legacy import watched
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import Seen, Start, executed, tracer

FEW = (
    "(__ip_.*|ip_.*|icmp_.*|eth_.*|__netif_r.*|netif_r.*|__dev_.*|dev_hard.*|skb_push|"
    "skb_release.*|kfree_skb.*|consume_skb|raw_.*|skb_network_protocol)"
)
KPROBE_EVENTS = Path("/sys/kernel/tracing/kprobe_events")
NEAR, FAR, SENTINEL = "192.0.2.1", "192.0.2.2", "192.0.2.3"
MTU = "1500"


FEWER = ("--filter-func", "ip_.*")
FLOODED = 4000  # datagrams
FLOOD = ("--buffer-size", "8k", "--filter-func", "(ip_rcv|ip_output|ip_local_deliver)")
REBORN = ("--filter-track-skb", "icmp[icmptype] = icmp-echo or icmp[icmptype] = icmp-echoreply")
KILLED = ("--backend", "kprobe", "--filter-func", "ip_rcv", "icmp")


def chosen(flags: Collection[str]) -> tuple[str, ...]:
    """Which functions are traced beside pwru."""
    return () if "--all-functions" in flags else ("--filter-func", FEW)


def commands(flags: Collection[str]) -> list[list[str]]:
    """What is run after the cold start."""
    found: list[tuple[str, ...]] = [(*chosen(flags), "icmp"), ("--backend", "tracepoint", "icmp")]
    if "--deep" in flags:
        found += [(*FLOOD, "udp port 9999"), REBORN, KILLED]
        found += [late.WORDS, (*nft_chosen.SHOWN, nft_chosen.SENT)]
        found += [("--backend", one, *FEWER, "icmp") for one in ("kprobe-multi", "kprobe")]
    return [list(words) for words in found]


def wire() -> None:
    """Two network namespaces; all devices have one MTU, so that the route's is the device's."""
    for name in ("near", "far"):
        subprocess.run(["ip", "netns", "add", name], check=True)
    words = "ip link add inside netns near type veth peer name inside netns far"
    subprocess.run(words.split(), check=True)
    for name, addresses in (("near", [NEAR]), ("far", [FAR, SENTINEL])):
        for address in addresses:
            subprocess.run(
                ["ip", "-n", name, "address", "add", f"{address}/24", "dev", "inside"], check=True
            )
        for device in ("lo", "inside"):
            subprocess.run(["ip", "-n", name, "link", "set", device, "mtu", MTU, "up"], check=True)
    ping(FAR)  # the neighbours know each other now


def ping(address: str) -> None:
    words = ["ip", "netns", "exec", "near", "ping", "-q", "-c", "1", "-W", "300", address]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def pinging(address: str) -> Iterator[None]:
    """A ping whose process lives to the end of the block, so that whoever looks can name it."""
    words = ["ip", "netns", "exec", "near", "ping", "-i", "3600", address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            if not any(" bytes from " in line for line in process.stdout):
                raise RuntimeError(f"no answer from {address}")
            yield
        finally:
            process.kill()


def beside_pwru(folder: Path, functions: Sequence[str]) -> Seen:
    """One ping seen by both. Events come in order: a second ping's mean that all are there."""
    meta = ("--output-meta", "--output-tuple")
    with (
        tracer(folder, "pypwru", "pypwru", *functions, "icmp") as own,
        tracer(folder, "pwru", "pwru", *meta, *functions, "icmp") as theirs,
    ):
        own.wait_ready()
        theirs.wait_ready()
        with pinging(FAR):
            ping(SENTINEL)
            for each in (own, theirs):
                each.wait_line(f"{SENTINEL}:0->{NEAR}")
        return {"pypwru": own.stop(), "pwru": theirs.stop()}


def by_backend(folder: Path, backend: str, words: Sequence[str], start: Start = executed) -> Seen:
    words = ["--backend", backend, *words, "icmp"]
    with tracer(folder, backend, "pypwru", *words, start=start) as own:
        own.wait_ready()
        ping(FAR)
        own.wait_line(f"{FAR}:0->{NEAR}")
        return own.stop()


def declared(names: set[str]) -> dict[str, Seen]:
    """What BTF and kallsyms say of functions, for the reasons of extra lines."""
    btf, symbols = load_vmlinux(None, Cache()), read_symbols()
    return {
        name: {"prototype": declare_function(btf, name), "addresses": len(symbols.addresses(name))}
        for name in names
    }


def cold_start(folder: Path) -> Seen:
    """Compiles here: the cache is empty and there is no kernel tree."""
    cache = Path(os.environ["PYPWRU_CACHE"])
    before = cache.exists()
    words = ["--filter-func", "ip_rcv", "icmp"]
    with tracer(folder, "cold", "pypwru", *words) as own:
        seconds = own.wait_ready()
        maps = Path(f"/proc/{own.process.pid}/maps").read_text()
        done = own.stop()
    trees = [*Path("/lib/modules").glob("*/build"), *Path("/usr/src").glob("linux-headers*")]
    return {
        **done,
        "cache_before": before,
        "compiled": len(list(cache.glob("bytecode-*"))),
        "maps": libraries(maps),
        "seconds": seconds,
        "trees": list(map(str, trees)),
    }


def given(compiled: Path) -> Seen:
    """From here on there is in the cache what the host compiled."""
    shutil.copytree(compiled, os.environ["PYPWRU_CACHE"], dirs_exist_ok=True)
    return {}


def warm_start(folder: Path) -> Seen:
    with tracer(folder, "warm", "pypwru", "--filter-func", "ip_rcv", "icmp") as own:
        seconds = own.wait_ready()
        maps = Path(f"/proc/{own.process.pid}/maps").read_text()
        return {**own.stop(), "maps": libraries(maps), "seconds": seconds}


def shared() -> Seen:
    """That the command starts has been shown: children that have read all serve from here on."""
    share()
    return {}


def libraries(maps: str) -> list[str]:
    return sorted(set(re.findall(r"/\S+\.so[.\d]*", maps)))


def flood(folder: Path) -> Seen:
    """UDP over lo into a ring of a few pages, half of it while pypwru is stopped."""
    with tracer(folder, "flood", "pypwru", *FLOOD, "udp port 9999", start=Forked) as own:
        own.wait_ready()
        datagrams(FLOODED // 2)
        own.process.send_signal(signal.SIGSTOP)
        try:
            datagrams(FLOODED // 2)
        finally:
            own.process.send_signal(signal.SIGCONT)
        done = own.stop()
    done["out"] = str(done["out"]).count("\n0x")  # the lines themselves are many
    return done


def datagrams(count: int) -> None:
    """To a port of lo that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            with contextlib.suppress(ConnectionRefusedError):
                sender.sendto(b"datagram", ("127.0.0.1", 9999))


def reborn(folder: Path) -> Seen:
    """Pings that are tracked, then datagrams that get the addresses of their dead sk_buffs."""
    with tracer(folder, "reborn", "pypwru", *REBORN, start=Forked) as own:
        own.wait_ready()
        for _ in range(20):
            ping(FAR)
        datagrams(500)
        ping(SENTINEL)
        own.wait_line(f"{SENTINEL}:0->{NEAR}")
        return own.stop()


def killed(folder: Path) -> Seen:
    """kill -9, then a next session; the profile counts how often each probe was hit."""
    profile = KPROBE_EVENTS.with_name("kprobe_profile")
    with tracer(folder, "killed", "pypwru", *KILLED) as own:
        own.wait_ready()
        ping(FAR)
        own.stop(signal.SIGKILL)
        pid = own.process.pid
    left, hits = KPROBE_EVENTS.read_text(), profile.read_text()
    ping(FAR)
    hits_after = profile.read_text()
    with tracer(folder, "next", "pypwru", *KILLED) as following:
        following.wait_ready()
        during = KPROBE_EVENTS.read_text()
        following.stop()
    return {
        "pid": pid,
        "left": left,
        "hits": hits,
        "hits_after": hits_after,
        "during": during,
        "after": KPROBE_EVENTS.read_text(),
    }


def main() -> None:
    result_file = Path(sys.argv[1]) / "result.json"
    # Not in the shared folder: Linux 7.2's 9p can answer ENODATA while a file grows.
    folder = Path("/run/main_job")
    folder.mkdir()
    os.environ["PYPWRU_CACHE"] = str(folder / "cache")
    result: dict[str, object] = {}
    steps: list[Step] = [
        ("cold", lambda: cold_start(folder)),
        ("given", lambda: given(result_file.with_name("cache"))),
        ("beside", lambda: beside_pwru(folder, chosen(sys.argv))),
        ("tracepoint", lambda: by_backend(folder, "tracepoint", [])),
    ]
    if "--deep" in sys.argv:
        steps += [
            ("warm", lambda: warm_start(folder)),
            ("shared", shared),
            ("flood", lambda: flood(folder)),
            ("reborn", lambda: reborn(folder)),
            ("kprobe_multi", lambda: by_backend(folder, "kprobe-multi", FEWER, Forked)),
            ("kprobe", lambda: by_backend(folder, "kprobe", FEWER, Forked)),
            ("kprobe_events", lambda: {"text": KPROBE_EVENTS.read_text()}),
            ("killed", lambda: killed(folder)),
            ("late", lambda: late.watched(folder)),  # nobody has asked for nf_tables before
            ("chosen", lambda: nft_chosen.chosen(folder, FAR)),
        ]
    # The last, since it leaves rules behind.
    steps.append(("legacy", lambda: watched(folder, FAR)))
    wire()
    run_steps(steps, result, result_file)
    beside = result["beside"]
    assert isinstance(beside, dict)
    if "pypwru" in beside:
        _, _, events = beside["pypwru"]["out"].partition("\n")
        names = set(re.findall(r"(\w+)(?:\(SKB_\w+\)| \(\d+\))?$", events, re.M))
        result["declared"] = declared(names)
    result_file.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
