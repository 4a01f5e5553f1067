"""``trace`` in this process: what scripts get, and that nothing of it stays behind."""

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
from tests.native.tracing import COMMAND, PATIENCE, TREE, Network, environment, network, tracing

pytestmark = pytest.mark.native

TRACEPOINTS = "tracepoint"


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Neither programs nor maps nor links, which are descriptors, nor handlers of signals."""
    handler, before = signal.getsignal(signal.SIGINT), opened()
    yield
    assert opened() == before
    assert signal.getsignal(signal.SIGINT) is handler


def opened() -> list[str]:
    """Descriptors of this process that are the kernel's BPF, and what it waits on."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return sorted(name for name in found if name.startswith("anon_inode:"))


def of(net: Network, host: int = 2, **options: object) -> Trace:
    """A trace of pings to a host."""
    return trace(f"icmp and host {net.v4(host)}", backend=TRACEPOINTS, **options)  # type: ignore[arg-type]


def seen(traced: Trace) -> list[Event]:
    """All that there was until now; ends the trace."""
    traced.stop()
    return list(traced)


def test_events_of_a_ping(net: Network) -> None:
    with of(net) as traced:
        assert opened()
        net.ping(net.v4(2))
        events = seen(traced)
        assert not opened(), "the end of it detaches"
    assert {event.tuple and event.tuple.daddr for event in events} == {net.v4(1), net.v4(2)}
    assert {str(event.netns) for event in events} == {net.inode(net.left), net.inode(net.right)}
    assert {event.func for event in events} >= {"tp:net_dev_queue", "tp:netif_receive_skb"}
    sent = next(event for event in events if event.func == "tp:net_dev_queue")
    assert (sent.iface, sent.proto, sent.len, sent.comm) == (net.left, 0x0800, 98, "ping")
    assert sent.netns_name == net.left
    assert sent.process == "ping", "it is gone: its name is left"
    assert sent.type == "function_call"
    ids = {(event.packet_id, event.tuple and event.tuple.saddr) for event in events}
    assert len(ids) == len(dict(ids)) == 2, "the request's and the reply's"
    assert None not in dict(ids)
    account = traced.counters
    assert account["events"] == account["produced"] == len(events)
    assert (account["not_shown"], dict(traced.lost)) == (0, {})
    assert traced.warnings == ()


def test_loopback_in_a_loop() -> None:
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
    assert not opened(), "leaving the loop detaches"


def test_the_limit_ends_it(net: Network) -> None:
    with of(net, output_limit_lines=3) as traced:
        net.ping(net.v4(2))
        assert len(list(traced)) == 3
        assert not opened()
        assert list(traced) == [] and next(traced, None) is None
    assert traced.counters["events"] == 3
    assert traced.counters["not_shown"] == traced.counters["produced"] - 3 > 0


def test_the_rest_of_what_was_left_is_accounted_for(net: Network) -> None:
    with of(net) as traced:
        net.ping(net.v4(2))
        next(traced)
    assert traced.counters["events"] == 1
    assert traced.counters["not_shown"] == traced.counters["produced"] - 1 > 0
    with pytest.raises(StopIteration):
        next(traced)
    traced.close()
    traced.stop()


def test_an_exception_in_the_loop(net: Network) -> None:
    with pytest.raises(ZeroDivisionError), of(net) as traced:
        net.ping(net.v4(2))
        for event in traced:
            event.skb // 0
    assert not opened()
    assert traced.counters["events"] == 1


def test_one_that_nobody_reads(net: Network) -> None:
    of(net)
    assert not opened()
    traced = of(net)
    net.ping(net.v4(2))
    next(traced)
    assert opened()
    del traced
    assert not opened()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_an_interrupt_is_raised_once_it_is_detached(net: Network, when: str) -> None:
    """The filter meets no packet, so that it is the wait which is interrupted."""
    waits = threading.Event()

    def interrupt() -> None:
        assert waits.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGINT)

    with of(net, 77) as traced:
        sender = threading.Thread(target=interrupt)
        sender.start()
        if when == "meanwhile":
            traced._session.add_poller(waits.set)  # it has waited for half a second
        else:
            waits.set()
        with pytest.raises(KeyboardInterrupt):
            list(traced)
            sender.join()  # where it came before the loop
        assert not opened()
        sender.join()
    assert traced.counters["produced"] == 0


def test_it_can_be_stopped_by_a_handler(net: Network) -> None:
    with of(net, 77) as traced:
        old = signal.signal(signal.SIGUSR1, lambda number, frame: traced.stop())
        try:
            traced._session.add_poller(lambda: signal.raise_signal(signal.SIGUSR1))
            assert list(traced) == []
        finally:
            signal.signal(signal.SIGUSR1, old)


def test_what_is_compiled_leaves_nothing(
    net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script may live long, and use BCC for itself."""
    monkeypatch.setenv("PYPWRU_CACHE", str(tmp_path / "cache"))
    before = dict(os.environ)
    with of(net):
        assert dict(os.environ) == before
    assert any(path.name.startswith("bytecode") for path in (tmp_path / "cache").iterdir())


def test_in_a_thread_and_two_at_once(net: Network) -> None:
    found: list[Event] = []
    ready, made = threading.Event(), list[Trace]()

    def other() -> None:
        with of(net, filter_func="net_dev_queue") as traced:
            made.append(traced)
            ready.set()
            found.extend(traced)

    with of(net) as traced:
        thread = threading.Thread(target=other)
        thread.start()
        assert ready.wait(PATIENCE)
        net.ping(net.v4(2))
        made[0].stop()
        thread.join(PATIENCE)
        events = seen(traced)
    queued = [event.skb for event in events if event.func == "tp:net_dev_queue"]
    assert [event.skb for event in found] == queued
    assert len(queued) == 2
    assert made[0].counters["events"] == 2


# Its child leaves the trace in every way that there is: with, close, iteration, exit.
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


def test_a_forked_child_leaves_the_trace_to_its_parent(net: Network) -> None:
    ping = ["ip", "netns", "exec", net.left, "ping", "-c1", net.v4(2)]
    done = subprocess.run(
        [sys.executable, "-c", FORKING, f"icmp and host {net.v4(2)}", *ping],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
        check=False,
    )
    assert done.stderr == ""
    assert int(done.stdout) > 5


def test_the_same_as_the_command_line(net: Network) -> None:
    with of(net) as traced, tracing("--output-tcp-flags", f"icmp and host {net.v4(2)}") as run:
        net.ping(net.v4(2))
        events = seen(traced)
    assert [(hex(event.skb), event.func) for event in events] == [
        (line.skb, line.func.partition("(")[0]) for line in run.lines
    ]


def test_more_of_a_packet(net: Network) -> None:
    options: dict[str, Any] = {"output_caller": True, "output_stack": True, "output_skb": True,
               "output_skb_metadata": ["skb->len", "skb->dev->ifindex"]}  # fmt: skip
    with of(net, **options) as traced:
        net.ping(net.v4(2))
        events = seen(traced)
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
def test_what_is_refused_has_the_words_of_the_command_line(
    error: type[PypwruError], words: list[str], pcap_filter: str, options: dict[str, object]
) -> None:
    with pytest.raises(error) as caught:
        trace(pcap_filter, backend=TRACEPOINTS, **options)  # type: ignore[arg-type]
    ended = subprocess.run(
        [*COMMAND, "--backend=tracepoint", *words],
        capture_output=True, text=True, timeout=PATIENCE, env=environment(), check=False,
    )  # fmt: skip
    assert ended.returncode == error.exit_status
    (line,) = ended.stderr.splitlines()[-1:]
    told = line.removeprefix("pypwru: ")
    if error is UsageError:
        told = told.replace("--category", "category")
    assert str(caught.value) == told


def test_the_log_is_where_it_is_wanted(net: Network, capfd: pytest.CaptureFixture[str]) -> None:
    with of(net):
        pass
    assert capfd.readouterr() == ("", "")
    with of(net, log=sys.__stderr__) as traced:
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


def test_packets_during_attaching_are_not_shown_in_part(net: Network) -> None:
    log = PingsOnceAttached(net)
    with of(net, log=log) as traced:
        assert seen(traced) == []
        assert traced.counters["produced"] == 0
    assert "INFO Attached " in log.getvalue()


def test_nothing_is_kept_by_a_cycle(net: Network) -> None:
    """A loop that is left detaches at once, not when the collector comes."""
    gc.disable()
    try:
        with of(net, 2) as traced:
            net.ping(net.v4(2))
            kept = next(traced)
            del traced
        traced = of(net)
        net.ping(net.v4(2))
        for event in traced:
            kept = event
            break
        del traced
        assert not opened()
        assert kept.skb
    finally:
        gc.enable()


def datagram(net: Network, port: int = 77, tag: int = 0) -> Packet:
    """To a port of the other host on which nobody listens."""
    link = Ether(src=net.mac(1), dst=net.mac(2))
    link = link / Dot1Q(vlan=tag) if tag else link
    return link / IP(src=net.v4(1), dst=net.v4(2)) / UDP(sport=5, dport=port) / Raw(bytes(100))


def sent(net: Network, frame: Packet, pcap_filter: str = "udp", **options: object) -> list[Event]:
    """Sights of a frame that is sent."""
    words = f"{pcap_filter} and dst host {net.v4(2)}"
    with trace(words, packets=True, backend=TRACEPOINTS, **options) as traced:  # type: ignore[arg-type]
        net.send([bytes(frame)])
        events = seen(traced)
    assert traced.counters["events"] == len(events) > 0
    assert not traced.lost
    return events


def test_packets_are_what_was_sent(net: Network) -> None:
    frame = datagram(net)
    events = sent(net, frame)
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


def test_a_tag_is_put_back(net: Network) -> None:
    """What a tap reads has it beside the frame by then."""
    frame = datagram(net, tag=10)
    words = ["ip", "netns", "exec", net.right, sys.executable, "-c", TAP, net.right, net.mac(1)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as tap:
        assert tap.stdout and tap.stdout.readline()
        events = sent(net, frame, "vlan 10 and udp")
        assert tap.wait(PATIENCE) == 0
    assert {event.proto for event in events} == {0x8100, 0x0800}
    for event in events:
        assert event.packet and event.packet[Dot1Q].vlan == 10, event.func
    (tapped,) = (event for event in events if event.func == TAGGED)
    assert (tapped.proto, tapped.data) == (0x0800, bytes(frame))


def test_no_more_of_a_packet_than_was_asked_for(net: Network) -> None:
    frame = datagram(net)
    events = sent(net, frame, pcap_snaplen=50, filter_func="net_dev_queue")
    assert [(event.data, event.length) for event in events] == [(bytes(frame)[:50], len(frame))]


def test_packets_of_loopback(net: Network) -> None:
    words = ["ping", "-c1", "-q", "-s", "99", "127.0.0.1"]
    with trace("icmp and greater 127", packets=True, backend=TRACEPOINTS) as traced:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        told = [event.packet.summary() for event in seen(traced) if event.packet]
    for what in ("echo-request", "echo-reply"):
        wanted = f"IP / ICMP 127.0.0.1 > 127.0.0.1 {what} 0 / Raw"
        assert any(one.endswith(wanted) for one in told)


def test_the_script_that_sums_up_drops(net: Network) -> None:
    """Datagrams are sent until it has told of one, and so is attached."""
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
        told = script.stdout.readline()
        script.send_signal(signal.SIGINT)
        rest, _ = script.communicate(timeout=PATIENCE)
        assert script.returncode == 0
    reason = "SKB_DROP_REASON_NO_SOCKET"
    assert told.startswith(f"{reason}  tp:kfree_skb  {net.right}  Ether / IP / UDP ")
    assert reason in rest.splitlines()[-1]
