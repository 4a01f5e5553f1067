"""Runs inside a guest: packet data as handlers capture it, beside a packet socket's.

    python -m tests.lab.jobs.capture FOLDER BACKEND... [frames]

FOLDER/result.json is checked on the host (test_capture.py), which has compiled into FOLDER/cache.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pypwru.discovery.skb_lifetime import DATA_ALREADY_FREED
from pypwru.kernel import bpf
from tests.lab.jobs.forked import share
from tests.lab.jobs.programs import PINNED, Programs
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import StepResult
from tests.support.packet_sockets import OUTGOING, CapturedRecord, PacketSocket, capturing

# As in pwru the first alternative that matches must be the whole name: the longer ones first.
FUNCTIONS = (
    "(loopback_xmit|dev_hard_start_xmit|ip_rcv|ip_output|ip_local_deliver|icmp_rcv|udp_rcv|"
    "tcp_v[46]_rcv|ip6_output|ipv6_rcv|kfree_skb_reason|kfree_skbmem|kfree_skb|sk_skb_reason_drop|"
    "consume_skb|napi_skb_cache_put)"
)
PORT = 4242
LARGE = 1_000_000
NEAR, FAR, TAGGED_FAR = "192.0.2.1", "192.0.2.2", "198.51.100.2"


def commands(backends: Sequence[str], with_frames: bool = False) -> dict[str, list[str]]:
    """Return the command lines, by name; frames are those of XDP programs."""
    common = ["--filter-func", FUNCTIONS, "--buffer-size", "64M", "--pcap-snaplen", "262144"]
    found = {}
    for one in backends:
        words = ["--backend", one, *common]
        found[f"every {one}"] = [*words, "--pcap-when", "every", f"port {PORT} or icmp or vlan"]
        found[f"first {one}"] = [*words, "--pcap-when", "first,drop", f"port {PORT}"]
    if with_frames:
        found["frames"] = ["--filter-trace-xdp", "--filter-func", FUNCTIONS, "icmp"]
    return found


def verified_instructions(
    kind: bpf.ProgramType, code: bytes, attach: bpf.AttachType = bpf.AttachType.NONE, *_: object
) -> int:
    """Return how many instructions of it the verifier walks, by its statistics."""
    log = ctypes.create_string_buffer(1 << 16)
    text, license_ = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    where = ctypes.addressof(text), ctypes.addressof(license_)
    statistics = 4, len(log), ctypes.addressof(log)  # BPF_LOG_STATS
    attr = struct.pack("=IIQQIIQ24xII", kind, len(code) // 8, *where, *statistics, 0, attach)
    os.close(bpf.call(5, attr))  # BPF_PROG_LOAD
    found = re.search(rb"processed (\d+) insns", log.value)
    return int(found[1]) if found else 0


@contextlib.contextmanager
def record_loads(to: StepResult) -> Iterator[None]:
    """Record instructions that the verifier walked, and seconds, of each program that is loaded."""
    load, loads = bpf.program_load, list[list[object]]()

    def timed(kind: bpf.ProgramType, name: str, *words: Any, **more: Any) -> int:
        began = time.monotonic()
        fd = load(kind, name, *words, **more)
        seconds = time.monotonic() - began
        if kind is not bpf.ProgramType.TRACING:  # which also names its target
            loads.append([name, round(seconds, 3), verified_instructions(kind, *words)])
        return fd

    bpf.program_load = timed
    try:
        yield
    finally:
        bpf.program_load = load
        to["loads"] = loads


def digests(all_: Sequence[bytes]) -> dict[str, int]:
    """Count equal packets, by a digest with the length in front."""
    counted = Counter(f"{len(one)} {hashlib.sha256(one).hexdigest()[:16]}" for one in all_)
    return dict(sorted(counted.items()))


def of(frame: bytes) -> bool:
    l4 = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(frame[12:14], 0)
    return bool(l4) and PORT in struct.unpack_from("!HH", frame.ljust(60), l4)


def payload(packet: bytes) -> int:
    """Return the bytes behind the TCP or UDP header of an IPv4 packet."""
    header = (packet[0] & 15) * 4
    return len(packet) - header - (8 if packet[9] == 17 else (packet[header + 12] >> 4) * 4)


def is_ping(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 1


def stream(family: socket.AddressFamily, address: str) -> None:
    """Send LARGE bytes over loopback."""
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen()
        with socket.create_connection((address, PORT)) as sender, listener.accept()[0] as receiver:
            if not os.fork():
                with contextlib.suppress(BaseException):
                    sender.sendall(os.urandom(LARGE))
                os._exit(0)
            left = LARGE
            while left:
                left -= len(receiver.recv(left))
            os.wait()


def datagrams(sizes: Sequence[int]) -> None:
    """Send to a port without a socket."""
    for size in sizes:
        with (
            contextlib.suppress(ConnectionRefusedError),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        ):
            one.sendto(os.urandom(size), ("127.0.0.1", PORT))


def events_of(events: Sequence[CapturedRecord], name: str) -> list[CapturedRecord]:
    return [event for event in events if event.name == name and event.capture]


def every(words: Sequence[str]) -> StepResult:
    """Compare loopback with a packet socket; a reassembled packet; a tag beside the frame."""
    seen: StepResult = {}
    with (
        record_loads(seen),
        PacketSocket("lo") as link,
        PacketSocket("near") as near,
        capturing(*words) as session,
    ):
        stream(socket.AF_INET, "127.0.0.1")
        stream(socket.AF_INET6, "::1")
        datagrams([0, 1, 300, 2000, 20000, 65507])
        subprocess.run(["ip", "netns", "exec", "far", "ping", "-qc1", "-s9000", NEAR], check=True)
        subprocess.run(["ping", "-qc1", TAGGED_FAR], check=True)
        events = session.read()
        ours = [one.capture.data for one in events_of(events, "loopback_xmit") if one.capture]
        frames = [one for one in link.frames() if one.kind == OUTGOING]
        seen["ours"] = digests([one for one in ours if of(one)])
        seen["theirs"] = digests([one.octets for one in frames if of(one.octets)])
        whole = [one.capture for one in events_of(events, "icmp_rcv") if one.capture]
        seen["delivered"] = [[one.length, len(one.data), one.layer] for one in whole]
        sent = [
            one.capture
            for one in events_of(events, "dev_hard_start_xmit")
            if one.capture and one.capture.vlan_tag
        ]
        tagged = [one for one in near.frames() if one.tag]  # sent here, and sent from far
        seen["our tagged"] = [[one.vlan_tag, one.data.hex()] for one in sent if is_ping(one.data)]
        seen["their tagged"] = [
            [one.tag, one.octets.hex()] for one in tagged if is_ping(one.octets)
        ]
        session.read()  # a packet that is read from a packet socket is freed
        seen["captured"] = Counter(one.name for one in session.events if one.capture)
        seen["freed"] = sum(one.name in DATA_ALREADY_FREED for one in session.events)
        seen["done"] = session.account()
    return seen


def first(words: Sequence[str]) -> StepResult:
    """Capture each packet once, and once more where it is dropped."""
    seen: StepResult = {}
    with record_loads(seen), PacketSocket("lo") as link, capturing(*words) as session:
        stream(socket.AF_INET, "127.0.0.1")
        datagrams([10] * 50)
        events = session.read()
        ours = [one for one in events if one.capture]
        frames = [one for one in link.frames() if one.kind == OUTGOING and of(one.octets)]
        seen["first"] = dict(
            Counter(one.name for one in ours if one.capture and one.capture.is_first)
        )
        seen["later"] = dict(
            Counter(one.name for one in ours if one.capture and not one.capture.is_first)
        )
        once = [one.capture for one in ours if one.capture and one.capture.is_first]
        seen["our payload"] = sum(payload(one.data) for one in once if one.layer == 3)
        seen["their payload"] = sum(payload(one.octets[14:]) for one in frames)
        seen["theirs"] = len(frames)
        seen["done"] = session.account()
    return seen


def frames(words: Sequence[str]) -> StepResult:
    """Capture a frame at an XDP program on its way to the stack, and test whether it is captured
    twice.
    """
    seen: StepResult = {}
    Programs().load("frames_with_a_long_name")
    path = PINNED / "frames_with_a_long_name"
    device = "ip -n far link set dev far xdpdrv"
    subprocess.run([*device.split(), "pinned", path], check=True)
    for when in ("every", "first"):
        with PacketSocket("near") as near, capturing(*words, "--pcap-when", when) as session:
            subprocess.run(["ping", "-qc1", "-s1000", FAR], check=True)
            events = session.read()
            of_programs = [
                one.capture for one in events if "frames_with" in one.name and one.capture
            ]
            seen[f"ours {when}"] = [[one.data.hex(), one.layer] for one in of_programs]
            seen[f"captured {when}"] = [one.name for one in events if one.capture]
            theirs = [one for one in near.frames() if one.kind == OUTGOING]
            seen[f"theirs {when}"] = [one.octets.hex() for one in theirs if is_ping(one.octets)]
    subprocess.run([*device.split(), "off"], check=True)
    return seen


def wire() -> None:
    """Make a namespace that is reached by a device of a small MTU, and by a VLAN on it."""
    for words in (
        "ip netns add far",
        "ip link add near type veth peer name far netns far",
        f"ip address add {NEAR}/24 dev near",
        "ip link set near mtu 1500 up",
        f"ip -n far address add {FAR}/24 dev far",
        "ip -n far link set far up",
        "ip link add near.5 link near type vlan id 5",
        "ip -n far link add far.5 link far type vlan id 5",
        "ip address add 198.51.100.1/24 dev near.5",
        f"ip -n far address add {TAGGED_FAR}/24 dev far.5",
        "ip link set near.5 up",
        "ip -n far link set far.5 up",
        f"ping -qc1 {TAGGED_FAR}",
        f"ping -qc1 {FAR}",
    ):
        subprocess.run(words.split(), check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    result_file = Path(sys.argv[1]) / "result.json"
    os.environ["PYPWRU_CACHE"] = str(result_file.with_name("cache"))
    wire()
    share()
    backends = [word for word in sys.argv[2:] if word != "frames"]
    jobs = {"every": every, "first": first, "frames": frames}
    steps: list[Step] = [
        (name, partial(jobs[name.partition(" ")[0]], words))
        for name, words in commands(backends, with_frames="frames" in sys.argv).items()
    ]
    run_steps(steps, {}, result_file)


if __name__ == "__main__":
    main()
