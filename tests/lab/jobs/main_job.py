"""Runs inside a guest: the main job, beside pwru and by each backend; the outputs go to a file.

    python -m tests.lab.jobs.main_job FOLDER [--all-functions] [--ebtables] [--deep]

FOLDER/result.json is checked on the host (test_parity.py, test_main_job.py). The cold start
compiles; the others find in FOLDER/cache what the host compiled. --deep adds steps for which one
kernel is enough: warm start, exact loss, a killed session's kprobes.
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
from tests.lab.jobs import late, nft_filter
from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.legacy import trace_legacy
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import Start, StepResult, executed, tracer

FEW = (
    "(__ip_.*|ip_.*|icmp_.*|eth_.*|__netif_r.*|netif_r.*|__dev_.*|dev_hard.*|skb_push|"
    "skb_release.*|kfree_skb.*|consume_skb|raw_.*|skb_network_protocol)"
)
KPROBE_EVENTS = Path("/sys/kernel/tracing/kprobe_events")
NEAR, FAR, SENTINEL = "192.0.2.1", "192.0.2.2", "192.0.2.3"
MTU = "1500"
_TRIES = 5


FEWER = ("--filter-func", "ip_.*")
FLOODED = 4000  # datagrams
FLOOD = ("--buffer-size", "8k", "--filter-func", "(ip_rcv|ip_output|ip_local_deliver)")
REBORN = ("--filter-track-skb", "icmp[icmptype] = icmp-echo or icmp[icmptype] = icmp-echoreply")
KILLED = ("--backend", "kprobe", "--filter-func", "ip_rcv", "icmp")


def traced_functions(flags: Collection[str]) -> tuple[str, ...]:
    """Return the functions that are traced beside pwru."""
    return () if "--all-functions" in flags else ("--filter-func", FEW)


def commands(flags: Collection[str]) -> list[list[str]]:
    """Return the command lines after the cold start."""
    found: list[tuple[str, ...]] = [
        (*traced_functions(flags), "icmp"),
        ("--backend", "tracepoint", "icmp"),
    ]
    if "--deep" in flags:
        found += [(*FLOOD, "udp port 9999"), REBORN, KILLED]
        found += [late.WORDS, (*nft_filter.SHOWN, nft_filter.SENT)]
        found += [("--backend", one, *FEWER, "icmp") for one in ("kprobe-multi", "kprobe")]
    return [list(words) for words in found]


def wire() -> None:
    """Make two network namespaces; all devices have one MTU, so that the route's is the
    device's.
    """
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
    ping(FAR)  # the neighbours are resolved now


def ping(address: str) -> None:
    words = ["ip", "netns", "exec", "near", "ping", "-q", "-c", "1", "-W", "300", address]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def pinging(address: str) -> Iterator[None]:
    """Run a ping whose process runs to the end of the block, so that tracers can name it."""
    words = ["ip", "netns", "exec", "near", "ping", "-i", "3600", address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            if not any(" bytes from " in line for line in process.stdout):
                raise RuntimeError(f"no answer from {address}")
            yield
        finally:
            process.kill()


def beside_pwru(folder: Path, functions: Sequence[str]) -> StepResult:
    """Trace one ping by both; again if the kernel skipped a handler in an interrupt of another,
    which pypwru counts.
    """
    for attempt in range(_TRIES):
        own_folder = folder / f"beside{attempt}"  # ready files are new
        own_folder.mkdir()
        found = _beside_pwru(own_folder, functions)
        if " lost_recursion=0 " in str(found["pypwru"]):
            return found
    raise RuntimeError(f"handlers were skipped in each of {_TRIES} runs")


def _beside_pwru(folder: Path, functions: Sequence[str]) -> StepResult:
    """Trace one ping by both. Events come in order: those of a second ping follow all of the
    first.
    """
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


def by_backend(
    folder: Path, backend: str, words: Sequence[str], start: Start = executed
) -> StepResult:
    words = ["--backend", backend, *words, "icmp"]
    with tracer(folder, backend, "pypwru", *words, start=start) as own:
        own.wait_ready()
        ping(FAR)
        own.wait_line(f"{FAR}:0->{NEAR}")
        return own.stop()


def describe_functions(names: set[str]) -> dict[str, StepResult]:
    """Return what BTF and kallsyms have of functions, for the reasons of extra lines."""
    btf, symbols = load_vmlinux(None, Cache()), read_symbols()
    return {
        name: {"prototype": declare_function(btf, name), "addresses": len(symbols.addresses(name))}
        for name in names
    }


def cold_start(folder: Path) -> StepResult:
    """Compile here: the cache is empty and there is no kernel tree."""
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


def copy_cache(compiled: Path) -> StepResult:
    """Copy what the host compiled to the cache."""
    shutil.copytree(compiled, os.environ["PYPWRU_CACHE"], dirs_exist_ok=True)
    return {}


def warm_start(folder: Path) -> StepResult:
    with tracer(folder, "warm", "pypwru", "--filter-func", "ip_rcv", "icmp") as own:
        seconds = own.wait_ready()
        maps = Path(f"/proc/{own.process.pid}/maps").read_text()
        return {**own.stop(), "maps": libraries(maps), "seconds": seconds}


def share_symbols() -> StepResult:
    """Share symbols from here on: that the command itself starts has been shown."""
    share()
    return {}


def libraries(maps: str) -> list[str]:
    return sorted(set(re.findall(r"/\S+\.so[.\d]*", maps)))


def flood(folder: Path) -> StepResult:
    """Flood lo into a ring of a few pages, half of it while pypwru is stopped."""
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
    """Send to a port of lo without a socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            with contextlib.suppress(ConnectionRefusedError):
                sender.sendto(b"datagram", ("127.0.0.1", 9999))


def track_reused_address(folder: Path) -> StepResult:
    """Send pings that are tracked, then datagrams that reuse the addresses of their freed
    sk_buffs.
    """
    with tracer(folder, "reborn", "pypwru", *REBORN, start=Forked) as own:
        own.wait_ready()
        for _ in range(20):
            ping(FAR)
        datagrams(500)
        ping(SENTINEL)
        own.wait_line(f"{SENTINEL}:0->{NEAR}")
        return own.stop()


def killed(folder: Path) -> StepResult:
    """Kill a session, then start another; the profile counts the hits of each probe."""
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
        ("given", lambda: copy_cache(result_file.with_name("cache"))),
        ("beside", lambda: beside_pwru(folder, traced_functions(sys.argv))),
        ("tracepoint", lambda: by_backend(folder, "tracepoint", [])),
    ]
    if "--deep" in sys.argv:
        steps += [
            ("warm", lambda: warm_start(folder)),
            ("shared", share_symbols),
            ("flood", lambda: flood(folder)),
            ("reborn", lambda: track_reused_address(folder)),
            ("kprobe_multi", lambda: by_backend(folder, "kprobe-multi", FEWER, Forked)),
            ("kprobe", lambda: by_backend(folder, "kprobe", FEWER, Forked)),
            ("kprobe_events", lambda: {"text": KPROBE_EVENTS.read_text()}),
            ("killed", lambda: killed(folder)),
            ("late", lambda: late.trace_module_load(folder)),  # nothing has loaded nf_tables before
            ("nft_filter", lambda: nft_filter.trace_selected(folder, FAR)),
        ]
    # The last, since it leaves rules behind.
    steps.append(("legacy", lambda: trace_legacy(folder, FAR, "--ebtables" in sys.argv)))
    wire()
    run_steps(steps, result, result_file)
    beside = result["beside"]
    assert isinstance(beside, dict)
    if "pypwru" in beside:
        _, _, events = beside["pypwru"]["out"].partition("\n")
        names = set(re.findall(r"(\w+)(?:\(SKB_\w+\)| \(\d+\))?$", events, re.M))
        result["declared"] = describe_functions(names)
    result_file.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
