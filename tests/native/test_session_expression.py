"""A real run with expressions: which of two pings match, and the members it prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.native.tracing import Line, Network, network, pypwru, tracing

pytestmark = pytest.mark.native
MARK = 0x80000001


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def traced_lines(net: Network, expression: str) -> list[Line]:
    """Return the lines of a marked ping of 200 bytes and of one of 56 without a mark."""
    with tracing("--filter-skb-expr", expression, f"icmp and src {net.v4(1)}") as run:
        net.ping(net.v4(2), "-s", "200", "-m", str(MARK))
        net.ping(net.v4(2), "-s", "56")
    assert run.status == 0, run.stderr
    return run.lines


def is_marked(line: Line) -> bool:
    """The mark is lost on the way to another namespace."""
    return line.mark == f"{MARK:x}"


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("skb->mark == 0x80000001", is_marked),
        ("skb->len > 150", lambda line: int(line.len) > 150),
        ("skb->dev->mtu == 1500 && (skb->mark & 1)", is_marked),
        ("skb.mark != 0 && skb->protocol == 0x0800 && skb->protocol < 0x0801", is_marked),
    ],
)
def test_expression_selects_packets(
    net: Network, expression: str, holds: Callable[[Line], bool]
) -> None:
    lines, others = traced_lines(net, expression), traced_lines(net, f"!({expression})")
    assert len(lines) > 1
    assert all(map(holds, lines))
    assert len(others) > 1
    assert not any(map(holds, others))


def test_unreadable_member_never_matches(net: Network) -> None:
    """A packet loses its socket on the way to another namespace."""
    whole = traced_lines(net, "skb->sk == NULL || skb->sk->__sk_common.skc_family != 0")
    with_socket = traced_lines(net, "skb->sk->__sk_common.skc_family != 0xffff")
    assert 1 < len(with_socket) < len(whole)
    assert len(traced_lines(net, "!(skb->sk->__sk_common.skc_family == 0xffff)")) == len(
        with_socket
    )


def test_output_skb_metadata(net: Network) -> None:
    texts = "skb->mark,skb->protocol,skb->next->mark,skb->dev->mtu"
    with tracing("--output-skb-metadata", texts, f"icmp and src {net.v4(1)}") as run:
        net.ping(net.v4(2), "-m", str(MARK))
    queued = next(line for line in run.stdout.splitlines() if "tp:net_dev_queue" in line)
    assert queued.endswith(f" mark={MARK} protocol=8 mark=0 mtu=1500")


def test_output_skb_metadata_in_json(net: Network) -> None:
    with tracing(
        "--output-json",
        "--output-skb-metadata=skb->mark,skb->dev->mtu",
        f"icmp and src {net.v4(1)}",
    ) as run:
        net.ping(net.v4(2), "-m", str(MARK))
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert any({"mark": MARK, "mtu": 1500} in event.values() for event in events), events[:1]


def test_error_has_column() -> None:
    for option in ("--filter-skb-expr", "--filter-xdp-expr"):
        found = pypwru("--backend=tracepoint", option, "skb->len ==", "icmp")
        assert found.returncode == 1
        assert f"{option} 'skb->len ==': column 12: " in found.stderr
        assert found.stdout == ""
