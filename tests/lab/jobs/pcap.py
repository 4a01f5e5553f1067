"""Runs inside a guest: --output-pcap beside tcpdump, live into tshark, killed, and in a flood.

    python -m tests.lab.jobs.pcap FOLDER

FOLDER gets the capture files and result.json; they are checked on the host (test_pcap.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import StepResult, tracer, wait_quiet
from tests.lab.net import traffic
from tests.lab.net.containers import until
from tests.lab.net.topology import FAR, FAR6, NAMESPACES, inner, inside, run, wire
from tests.support.captures import SCRIPT, SNAPLEN
from tests.support.paths import TREE

LINKS = {
    "near": ("lo", "near0", "near0.10", "vx"),
    "router": ("rtr0", "rtr0.10", "rtr1"),
    "far": ("far0", "vx"),
}
"""Where tcpdump captures."""

TAP = ("tpacket_rcv",)  # tcpdump's own socket
SENT = ("dev_hard_start_xmit",)
RECEIVED = ("netif_rx", "__netif_rx")
DELIVERED = ("ip_rcv", "ipv6_rcv", "arp_rcv")
REASSEMBLED = ("udp_rcv", "udpv6_rcv")
CAPTURE_FUNCTIONS = (*TAP, *SENT, *RECEIVED, *DELIVERED, *REASSEMBLED)
LARGE, PARTS, TOGETHER = 300_000, 20_000, 60_000  # octets: of a stream, of datagrams
NOT_LOOPBACK = "not net 127.0.0.0/8 and not ip6 host ::1"
PARTS_PORTS = (4302, 4304, 4310)
PINGS = 20
FLOOD_PORT, DROP_PORT = 4900, 4910
DATAGRAMS = 4000
_ENHANCED_PACKET = 6  # pcapng's kind of block
TIMEOUT = 600.0  # seconds; emulated CPUs are slow, and tshark is read over 9p

# Fewer functions than all: one by one, an old kernel takes minutes for them.
PATH = "(ip_rcv|ip_forward|ip_output|icmp_rcv|ip_local_deliver|dev_hard_start_xmit)"
ENDS = "(udp_rcv|ip_rcv|ip_local_deliver|kfree_skb(_reason)?|sk_skb_reason_drop)"
FIRST = ("--output-nft=false", "--filter-func", PATH, "icmp")
DROPS = (
    "--output-pcap", "-", "--output-text=false", "--pcap-when", "drop",
    "--output-nft=text", "--filter-func", ENDS, f"udp dst port {DROP_PORT}",
)  # fmt: skip
RULE_TEXT = f'udp dport {DROP_PORT} counter drop comment "not here"'
RULE = f"""
table inet cut {{
    chain input {{
        type filter hook input priority 0
        {RULE_TEXT}
    }}
}}
"""
FLOOD = (
    "--pcap-when", "every", "--buffer-size", "64k", "--output-nft=false",
    "--filter-func", "(ip_rcv|udp_rcv)",
)  # fmt: skip


def flood_words(file: str) -> tuple[str, ...]:
    return ("--output-pcap", file, *FLOOD, f"udp dst port {FLOOD_PORT}")


def truth_words(file: str, functions: Sequence[str]) -> tuple[str, ...]:
    return (
        "--output-pcap", file, "--output-text=false", "--pcap-snaplen", str(SNAPLEN),
        "--pcap-when", ",".join(functions), "--filter-func", f"({'|'.join(functions)})",
        "--buffer-size", "64M",
    )  # fmt: skip


def commands(functions: Sequence[str]) -> list[list[str]]:
    """Return the command lines of this job, for the cache that the host fills."""
    found = [
        truth_words("all.pcapng", functions),
        (*truth_words("tap.pcap", TAP), NOT_LOOPBACK),
        ("--output-pcap", "first.pcapng", *FIRST),
        DROPS,
        flood_words("loss.pcapng"),
    ]
    return [list(words) for words in found]


def pattern(size: int) -> bytes:
    """Return bytes of which no two positions look the same."""
    return b"".join(b"%08x" % place for place in range(0, size, 8))[:size]


def _bound(namespace: str, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    with inside(namespace):
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.settimeout(traffic.SECONDS)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("", port))
    return made


def datagram(end: str, address: str, port: int, size: int) -> None:
    """Send a datagram from near to ``end``."""
    with (
        _bound(end, socket.SOCK_DGRAM, address, port) as receiver,
        _bound("near", socket.SOCK_DGRAM, address, port - 1) as sender,
    ):
        sender.sendto(pattern(size), (address, port))
        receiver.recv(1 << 16)


def stream(end: str, address: str, port: int, size: int) -> None:
    """Connect from near to ``end``, which gets ``size`` bytes and closes."""
    with _bound(end, socket.SOCK_STREAM, address, port) as listener:
        listener.listen()

        def swallow() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(traffic.SECONDS)
                while connection.recv(1 << 20):
                    pass

        thread = threading.Thread(target=swallow)
        thread.start()
        with _bound("near", socket.SOCK_STREAM, address, port - 1) as client:
            client.connect((address, port))
            client.sendall(pattern(size))
            client.shutdown(socket.SHUT_WR)
            client.recv(1)
        thread.join()


def send_all() -> None:
    """Send all kinds of packets, one after another."""
    for kind in ("ping4", "ping6", "forward4", "forward6", "vxlan", "vlan", "arp"):
        traffic.KINDS[kind].send()
    vlan, vxlan = inner("vlan")[1], inner("vxlan")[1]
    for end, address, port in (
        ("far", FAR, 4102), ("far", FAR6, 4104), ("router", vlan, 4106), ("far", vxlan, 4108),
        ("near", "127.0.0.1", 4110), ("near", "::1", 4112),
    ):  # fmt: skip
        stream(end, address, port, LARGE)
    for end, address, port, size in (
        ("far", FAR, PARTS_PORTS[0], PARTS), ("far", FAR6, PARTS_PORTS[1], PARTS),
        ("far", vxlan, PARTS_PORTS[2], PARTS),
        ("router", vlan, 4306, 1000), ("far", vxlan, 4308, 1000),
        ("near", "127.0.0.1", 4312, TOGETHER), ("near", "::1", 4314, TOGETHER),
    ):  # fmt: skip
        datagram(end, address, port, size)


class Dump:
    """A tcpdump of one link."""

    def __init__(self, folder: Path, namespace: str, link: str) -> None:
        self.file = folder / f"{namespace}-{link}.pcap"
        self.err = folder / f"{namespace}-{link}.err"
        words = f"tcpdump -i {link} -n -s {SNAPLEN} -B 32768 --immediate-mode -U -Z root -w"
        with self.err.open("wb") as err:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *words.split(), self.file], stderr=err
            )

    def is_ready(self) -> bool:
        return "listening on" in self.err.read_text()

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(TIMEOUT)
        return self.err.read_text()


@contextlib.contextmanager
def dumping(folder: Path) -> Iterator[dict[str, Dump]]:
    dumps = {
        f"{namespace}-{link}": Dump(folder, namespace, link)
        for namespace, links in LINKS.items()
        for link in links
    }
    try:
        until("tcpdump", lambda: all(dump.is_ready() for dump in dumps.values()))
        yield dumps
    finally:
        for dump in dumps.values():
            dump.process.kill()


def trace_beside_tcpdump(folder: Path, functions: Sequence[str]) -> StepResult:
    """Capture all that tcpdump captures on each link, in pcapng at several functions, and in pcap
    at its own.
    """
    ng, classic = folder / "all.pcapng", folder / "tap.pcap"
    with contextlib.ExitStack() as stack:
        dumps = stack.enter_context(dumping(folder))
        runs = []
        for file, seen_at in ((ng, functions), (classic, TAP)):
            words = truth_words(str(file), seen_at)
            if file == classic:  # its two events of a packet on lo can't be distinguished
                words = (*words, NOT_LOOPBACK)
            name = file.suffix[1:]
            one = tracer(folder, name, "pypwru", *words, start=Forked)
            runs.append(stack.enter_context(one))
            runs[-1].wait_ready()
        send_all()
        wait_quiet(runs, [ng, classic, *(dump.file for dump in dumps.values())])
        logs = {name: dump.stop() for name, dump in dumps.items()}
        done = {running.out.stem: running.stop() for running in runs}
    return {"tcpdump": logs, **done}


def first(folder: Path) -> StepResult:
    """Capture text and packets of the same pings."""
    file = folder / "first.pcapng"
    with tracer(folder, "first", "pypwru", "--output-pcap", str(file), *FIRST, start=Forked) as own:
        own.wait_ready()
        traffic.ping(FAR, "-c", str(PINGS), "-i", "0.1")
        traffic.flush()
        return own.stop()


def live(folder: Path) -> StepResult:
    """Write into tshark; record its output after each of some dropped packets, while pypwru goes
    on: two, and more until one has its rule's text.
    """
    words = ["tshark", "-l", "-r", "-", "-X", f"lua_script:{SCRIPT}", "-Y", "pypwru.nft.rule"]
    for key in ("func", "type", "drop_reason", "nft.chain", "nft.rule", "nft.verdict", "nft.text"):
        words += ["-e", f"pypwru.{key}"]
    out, err = folder / "tshark.out", folder / "tshark.err"
    reading, writing = os.pipe()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        shown = subprocess.Popen(
            [*words, "-T", "fields"], stdin=reading, stdout=stdout, stderr=stderr
        )
    os.close(reading)

    def start(command: Sequence[str], _: IO[bytes], stderr: IO[bytes]) -> Forked:
        with open(writing, "wb", closefd=False) as stdout:
            return Forked(command, stdout, stderr)

    with inside("far"):
        run("nft", "-f", "-", words=RULE)
    during = []
    with tracer(folder, "live", "pypwru", *DROPS, start=start) as own:
        os.close(writing)
        own.wait_ready()
        for count in range(1, 100):
            with inside("near"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"dropped", (FAR, DROP_PORT))
            own.until("packet in tshark", lambda: out.read_text().count("\n") >= count)  # noqa: B023
            during.append(out.read_text())
            if count > 1 and during[-1].rstrip("\n").endswith(RULE_TEXT):
                break
        done = own.stop()
    status = shown.wait(TIMEOUT)
    with inside("far"):
        run("nft", "delete", "table", "inet", "cut")
    return {**done, "during": during, "tshark": err.read_text(), "tshark_status": status}


def packets(file: Path) -> tuple[int, int]:
    """Return how many packets a pcapng file has, and the bytes of its whole blocks."""
    content, at, found = file.read_bytes() if file.exists() else b"", 0, 0
    while len(content) - at >= 12:
        kind, size = struct.unpack_from("=II", content, at)
        if at + size > len(content):
            break
        found += kind == _ENHANCED_PACKET
        at += size
    return found, at


def killed(folder: Path) -> StepResult:
    """Kill a run in the middle of a flow, after some pings were flushed."""
    file = folder / "killed.pcapng"
    with tracer(
        folder, "killed", "pypwru", "--output-pcap", str(file), *FIRST, start=Forked
    ) as own:
        own.wait_ready()
        traffic.ping(FAR, "-c", "5", "-i", "0.1")
        own.until("flush of ten packets", lambda: packets(file)[0] >= 10)
        flushed = packets(file)[1]
        flow = ["ip", "netns", "exec", "near", "ping", "-q", "-f", FAR]
        with subprocess.Popen(flow, stdout=subprocess.DEVNULL) as pinging:
            own.until("packet of the flow", lambda: file.stat().st_size > 2 * flushed)
            own.stop(signal.SIGKILL)
            pinging.kill()
    return {"flushed": flushed}


def loss(folder: Path) -> StepResult:
    """Flood, half of it while pypwru is stopped."""
    file = folder / "loss.pcapng"
    with tracer(folder, "loss", "pypwru", *flood_words(str(file)), start=Forked) as own:
        own.wait_ready()
        traffic_flood()
        own.process.send_signal(signal.SIGSTOP)
        try:
            traffic_flood()
        finally:
            own.process.send_signal(signal.SIGCONT)
        done = own.stop()
    done["out"] = str(done["out"]).count("\n0x")  # the lines themselves are many
    return {**done, "sent": DATAGRAMS}


def traffic_flood() -> None:
    """Send half of the datagrams, over lo."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(DATAGRAMS // 2):
            with contextlib.suppress(ConnectionRefusedError):
                sender.sendto(b"%06d" % number, ("127.0.0.1", FLOOD_PORT))


def existing_functions(names: Sequence[str]) -> list[str]:
    """Return those functions that this kernel has: __netif_rx came with Linux 5.18."""
    symbols = {line.split()[2] for line in Path("/proc/kallsyms").read_text().splitlines()}
    return [name for name in names if name in symbols]


def main() -> None:
    shared = Path(sys.argv[1])
    # Not in the shared folder: Linux 7.2's 9p can answer ENODATA while a file grows.
    folder = Path("/run/pcap")
    folder.mkdir()
    shutil.copytree(shared / "cache", folder / "cache")
    os.environ["PYPWRU_CACHE"] = str(folder / "cache")
    os.environ["PYTHONPATH"] = str(TREE)  # another checkout's environment has another's pypwru
    wire()
    for name in ("near", "far"):  # such a packet fits into near0 with one more header
        run("ip", "-n", name, "link", "set", "vx", "mtu", "1450")
    share()
    inodes = {name: Path("/run/netns", name).stat().st_ino for name in NAMESPACES}
    result: dict[str, object] = {"inodes": inodes}
    work: Mapping[str, partial[StepResult]] = {
        "truth": partial(trace_beside_tcpdump, folder, existing_functions(CAPTURE_FUNCTIONS)),
        "first": partial(first, folder),
        "live": partial(live, folder),
        "killed": partial(killed, folder),
        "loss": partial(loss, folder),
    }
    steps: list[Step] = list(work.items())
    run_steps(steps, result, folder / "result.json")
    for file in [*folder.glob("*.pcap*"), folder / "result.json"]:
        shutil.copy(file, shared)


if __name__ == "__main__":
    main()
