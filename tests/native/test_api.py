"""``trace`` in this process: what scripts get, and that everything is released."""

from __future__ import annotations

import gc
import io
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from pypwru import Event, PypwruError, Trace, UsageError, trace
from pypwru.errors import FilterError, KernelError
from tests.native.test_session_packets import TAGGED, TAP
from tests.native.tracing import COMMAND, TIMEOUT, TREE, Network, environment, network, tracing

pytestmark = pytest.mark.native

TRACEPOINTS = "tracepoint"


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture(autouse=True)
def everything_is_released() -> Iterator[None]:
    """Programs, maps and links, which are descriptors, are closed; handlers of signals are
    restored.
    """
    handler, before = signal.getsignal(signal.SIGINT), open_descriptors()
    yield
    assert open_descriptors() == before
    assert signal.getsignal(signal.SIGINT) is handler


def open_descriptors() -> list[str]:
    """Return this process's descriptors of BPF objects, and those it waits on."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return sorted(name for name in found if name.startswith("anon_inode:"))


def ping_trace(net: Network, host: int = 2, **options: object) -> Trace:
    """Return a trace of pings to a host."""
    return trace(f"icmp and host {net.v4(host)}", backend=TRACEPOINTS, **options)  # type: ignore[arg-type]


def stop_and_list(traced: Trace) -> list[Event]:
    """Stop the trace, and return all of its events."""
    traced.stop()
    return list(traced)


def test_events_of_ping(net: Network) -> None:
    with ping_trace(net) as traced:
        assert open_descriptors()
        net.ping(net.v4(2))
        events = stop_and_list(traced)
        assert not open_descriptors(), "the last event detaches"
    assert {event.tuple and event.tuple.daddr for event in events} == {net.v4(1), net.v4(2)}
    assert {str(event.netns) for event in events} == {net.inode(net.left), net.inode(net.right)}
    assert {event.func for event in events} >= {"tp:net_dev_queue", "tp:netif_receive_skb"}
    sent = next(event for event in events if event.func == "tp:net_dev_queue")
    assert (sent.iface, sent.proto, sent.len, sent.comm) == (
        net.left,
        0x0800,
        98,
        "ping",
    )
    assert sent.netns_name == net.left
    assert sent.process == "ping", "it is gone: its name is left"
    assert sent.type == "function_call"
    ids = {(event.packet_id, event.tuple and event.tuple.saddr) for event in events}
    assert len(ids) == len(dict(ids)) == 2, "the request's and the reply's"
    assert None not in dict(ids)
    totals = traced.counters
    assert totals["events"] == totals["produced"] == len(events)
    assert (totals["not_shown"], dict(traced.lost)) == (0, {})
    assert traced.warnings == ()


def test_loop_over_events() -> None:
    """As in the manual."""
    words = ["ping", "-q", "-i", "0.01", "-s", "77", "127.0.0.1"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as ping:
        try:
            for event in trace("icmp and greater 100", priority=3, backend=TRACEPOINTS):
                if event.iface == "lo" and event.pid == ping.pid:
                    break
        finally:
            ping.kill()
    assert event.tuple and event.tuple.saddr == event.tuple.daddr == "127.0.0.1"
    assert not open_descriptors(), "leaving the loop detaches"


def test_output_limit_lines_ends_trace(net: Network) -> None:
    with ping_trace(net, output_limit_lines=3) as traced:
        net.ping(net.v4(2))
        assert len(list(traced)) == 3
        assert not open_descriptors()
        assert list(traced) == [] and next(traced, None) is None
    assert traced.counters["events"] == 3
    assert traced.counters["not_shown"] == traced.counters["produced"] - 3 > 0


def test_unread_events_are_counted(net: Network) -> None:
    with ping_trace(net) as traced:
        net.ping(net.v4(2))
        next(traced)
    assert traced.counters["events"] == 1
    assert traced.counters["not_shown"] == traced.counters["produced"] - 1 > 0
    with pytest.raises(StopIteration):
        next(traced)
    traced.close()
    traced.stop()


def test_exception_in_loop_detaches(net: Network) -> None:
    with pytest.raises(ZeroDivisionError), ping_trace(net) as traced:
        net.ping(net.v4(2))
        for event in traced:
            event.skb // 0
    assert not open_descriptors()
    assert traced.counters["events"] == 1


def test_unread_trace_detaches_when_deleted(net: Network) -> None:
    ping_trace(net)
    assert not open_descriptors()
    traced = ping_trace(net)
    net.ping(net.v4(2))
    next(traced)
    assert open_descriptors()
    del traced
    assert not open_descriptors()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_interrupt_is_raised_after_detaching(net: Network, when: str) -> None:
    """No packet matches, so that the signal interrupts the wait."""
    waits = threading.Event()

    def interrupt() -> None:
        assert waits.wait(TIMEOUT)
        os.kill(os.getpid(), signal.SIGINT)

    with ping_trace(net, 77) as traced:
        sender = threading.Thread(target=interrupt)
        sender.start()
        if when == "meanwhile":
            traced._session.add_poller(waits.set)  # it has waited for half a second
        else:
            waits.set()
        with pytest.raises(KeyboardInterrupt):
            list(traced)
            sender.join()  # where it came before the loop
        assert not open_descriptors()
        sender.join()
    assert traced.counters["produced"] == 0


def test_signal_handler_stops_trace(net: Network) -> None:
    with ping_trace(net, 77) as traced:
        old = signal.signal(signal.SIGUSR1, lambda number, frame: traced.stop())
        try:
            traced._session.add_poller(lambda: signal.raise_signal(signal.SIGUSR1))
            assert list(traced) == []
        finally:
            signal.signal(signal.SIGUSR1, old)


def test_compile_leaves_environment_unchanged(
    net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script may run long, and use BCC for itself."""
    monkeypatch.setenv("PYPWRU_CACHE", str(tmp_path / "cache"))
    before = dict(os.environ)
    with ping_trace(net):
        assert dict(os.environ) == before
    assert any(path.name.startswith("bytecode") for path in (tmp_path / "cache").iterdir())


def test_two_traces_in_threads(net: Network) -> None:
    found: list[Event] = []
    ready, made = threading.Event(), list[Trace]()

    def other() -> None:
        with ping_trace(net, filter_func="net_dev_queue") as traced:
            made.append(traced)
            ready.set()
            found.extend(traced)

    with ping_trace(net) as traced:
        thread = threading.Thread(target=other)
        thread.start()
        assert ready.wait(TIMEOUT)
        net.ping(net.v4(2))
        made[0].stop()
        thread.join(TIMEOUT)
        events = stop_and_list(traced)
    queued = [event.skb for event in events if event.func == "tp:net_dev_queue"]
    assert [event.skb for event in found] == queued
    assert len(queued) == 2
    assert made[0].counters["events"] == 2


# Its child leaves the trace in each way: with, close, iteration, exit.
FORKING = """
import os, subprocess, sys
from pypwru import trace
with trace(sys.argv[1], backend="tracepoint") as traced:
    child = os.fork()
    if not child:
        with traced:
            assert list(traced) == []
        traced.close()
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    subprocess.run(sys.argv[2:], check=True, stdout=subprocess.DEVNULL)
    traced.stop()
    print(len({event.func for event in traced}))
"""


def test_forked_child_leaves_trace_to_parent(net: Network) -> None:
    ping = ["ip", "netns", "exec", net.left, "ping", "-c1", net.v4(2)]
    done = subprocess.run(
        [sys.executable, "-c", FORKING, f"icmp and host {net.v4(2)}", *ping],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=environment(),
        check=False,
    )
    assert done.stderr == ""
    assert int(done.stdout) > 5


def test_events_equal_lines_of_command(net: Network) -> None:
    with (
        ping_trace(net) as traced,
        tracing("--output-tcp-flags", f"icmp and host {net.v4(2)}") as run,
    ):
        net.ping(net.v4(2))
        events = stop_and_list(traced)
    assert [(hex(event.skb), event.func) for event in events] == [
        (line.skb, line.func.partition("(")[0]) for line in run.lines
    ]


def test_output_options_fill_events(net: Network) -> None:
    options: dict[str, Any] = {"output_caller": True, "output_stack": True, "output_skb": True,
               "output_skb_metadata": ["skb->len", "skb->dev->ifindex"]}  # fmt: skip
    with ping_trace(net, **options) as traced:
        net.ping(net.v4(2))
        events = stop_and_list(traced)
    for event in events:
        assert event.caller and event.stack and event.skb_metadata
        assert event.skb_members and event.skb_members["len"] == event.len
        assert event.skb_metadata.startswith("(struct sk_buff)")


@pytest.mark.parametrize(
    ("error", "words", "pcap_filter", "options"),
    [
        (FilterError, ["icmp andd"], "icmp andd", {}),
        (FilterError, ["--filter-skb-expr=skb->nosuch"], "", {"filter_skb_expr": "skb->nosuch"}),
        (PypwruError, ["--filter-func=("], "", {"filter_func": "("}),
        (KernelError, ["--filter-netns=nosuch"], "", {"filter_netns": "nosuch"}),
        (UsageError, ["--category=nosuch"], "", {"category": ["nosuch"]}),
        (PypwruError, ["--kmods=nosuch"], "", {"kmods": ["nosuch"]}),
    ],
)
def test_errors_are_those_of_command(
    error: type[PypwruError], words: list[str], pcap_filter: str, options: dict[str, object]
) -> None:
    with pytest.raises(error) as caught:
        trace(pcap_filter, backend=TRACEPOINTS, **options)  # type: ignore[arg-type]
    ended = subprocess.run(
        [*COMMAND, "--backend=tracepoint", *words],
        capture_output=True, text=True, timeout=TIMEOUT, env=environment(), check=False,
    )  # fmt: skip
    assert ended.returncode == error.exit_status
    (line,) = ended.stderr.splitlines()[-1:]
    message = line.removeprefix("pypwru: ")
    if error is UsageError:
        message = message.replace("--category", "category")
    assert str(caught.value) == message


def test_log_goes_to_given_file(net: Network, capfd: pytest.CaptureFixture[str]) -> None:
    with ping_trace(net):
        pass
    assert capfd.readouterr() == ("", "")
    with ping_trace(net, log=sys.__stderr__) as traced:
        pass
    err = capfd.readouterr().err
    assert "INFO Listening for events.." in err
    assert "INFO Done events=0 packets=0" in err
    assert f" produced={traced.counters['produced']} " in err


class PingsOnceAttached(io.StringIO):
    """A log that sends a packet between the last attachment and the first event."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self._net = net

    def write(self, text: str) -> int:
        if "INFO Attached " in text:
            self._net.ping(self._net.v4(2))
        return super().write(text)


def test_packet_during_attach_has_no_events(net: Network) -> None:
    log = PingsOnceAttached(net)
    with ping_trace(net, log=log) as traced:
        assert stop_and_list(traced) == []
        assert traced.counters["produced"] == 0
    assert "INFO Attached " in log.getvalue()


def test_trace_is_in_no_reference_cycle(net: Network) -> None:
    """A loop that is left detaches at once, without the garbage collector."""
    gc.disable()
    try:
        with ping_trace(net, 2) as traced:
            net.ping(net.v4(2))
            kept = next(traced)
            del traced
        traced = ping_trace(net)
        net.ping(net.v4(2))
        for event in traced:
            kept = event
            break
        del traced
        assert not open_descriptors()
        assert kept.skb
    finally:
        gc.enable()


def datagram(net: Network, port: int = 77, tag: int = 0) -> Packet:
    """Return a datagram to a port of the other host without a socket."""
    link = Ether(src=net.mac(1), dst=net.mac(2))
    link = link / Dot1Q(vlan=tag) if tag else link
    return link / IP(src=net.v4(1), dst=net.v4(2)) / UDP(sport=5, dport=port) / Raw(bytes(100))


def events_of(
    net: Network, frame: Packet, pcap_filter: str = "udp", **options: object
) -> list[Event]:
    """Return events of a frame that is sent."""
    words = f"{pcap_filter} and dst host {net.v4(2)}"
    with trace(words, packets=True, backend=TRACEPOINTS, **options) as traced:  # type: ignore[arg-type]
        net.send([bytes(frame)])
        events = stop_and_list(traced)
    assert traced.counters["events"] == len(events) > 0
    assert not traced.lost
    return events


def test_packet_data_is_frame_sent(net: Network) -> None:
    frame = datagram(net)
    events = events_of(net, frame)
    whole = Ether(bytes(frame))
    for event in events:
        assert event.packet
        assert bytes(event.packet[IP]) == bytes(whole[IP]), event.func
        assert int(event.packet.time * 10**9) == event.wall_ns
    (queued,) = (event for event in events if event.func == "tp:net_dev_queue")
    assert (queued.data, queued.linktype, queued.length) == (bytes(frame), 1, len(frame))
    assert queued.packet and queued.packet.summary() == whole.summary()
    assert queued.packet.sniffed_on == net.left
    drops = [event for event in events if event.drop_reason == "SKB_DROP_REASON_NO_SOCKET"]
    assert [bytes(event.packet[UDP]) for event in drops if event.packet] == [bytes(whole[UDP])]


def test_vlan_tag_is_put_back(net: Network) -> None:
    """At a tap the tag is in skb->vlan_tci, beside the frame."""
    frame = datagram(net, tag=10)
    words = ["ip", "netns", "exec", net.right, sys.executable, "-c", TAP, net.right, net.mac(1)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as tap:
        assert tap.stdout and tap.stdout.readline()
        events = events_of(net, frame, "vlan 10 and udp")
        assert tap.wait(TIMEOUT) == 0
    assert {event.proto for event in events} == {0x8100, 0x0800}
    for event in events:
        assert event.packet and event.packet[Dot1Q].vlan == 10, event.func
    (tapped,) = (event for event in events if event.func == TAGGED)
    assert (tapped.proto, tapped.data) == (0x0800, bytes(frame))


def test_pcap_snaplen_limits_data(net: Network) -> None:
    frame = datagram(net)
    events = events_of(net, frame, pcap_snaplen=50, filter_func="net_dev_queue")
    assert [(event.data, event.length) for event in events] == [(bytes(frame)[:50], len(frame))]


def test_packet_summaries_of_loopback(net: Network) -> None:
    words = ["ping", "-c1", "-q", "-s", "99", "127.0.0.1"]
    with trace("icmp and greater 127", packets=True, backend=TRACEPOINTS) as traced:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        summaries = [event.packet.summary() for event in stop_and_list(traced) if event.packet]
    for what in ("echo-request", "echo-reply"):
        expected = f"IP / ICMP 127.0.0.1 > 127.0.0.1 {what} 0 / Raw"
        assert any(one.endswith(expected) for one in summaries)


def test_drops_script_prints_drops(net: Network) -> None:
    """Datagrams are sent until it prints one, and so is attached."""
    words = [
        sys.executable,
        str(TREE / "contrib" / "python" / "drops"),
        f"udp and host {net.v4(2)}",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment(), text=True) as script:
        assert script.stdout
        while not select.select([script.stdout], [], [], 0.1)[0]:
            assert script.poll() is None
            net.send([bytes(datagram(net))])
        first_line = script.stdout.readline()
        script.send_signal(signal.SIGINT)
        rest, _ = script.communicate(timeout=TIMEOUT)
        assert script.returncode == 0
    reason = "SKB_DROP_REASON_NO_SOCKET"
    assert first_line.startswith(f"{reason}  tp:kfree_skb  {net.right}  Ether / IP / UDP ")
    assert reason in rest.splitlines()[-1]
