"""--output-json of a real run, validated by the schema, by jq, and by a text run beside it."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.native.tracing import Network, network, tracing
from tests.oracles.json_schema import jq, validated
from tests.support.layouts import columns_of
from tests.support.records import configured

pytestmark = pytest.mark.native

FLAGS = (
    "--output-tcp-flags",
    "--output-netns-names",
    "--output-skb-cb",
    "--output-caller",
    "--output-tunnel",
    "--output-stack",
    "--output-skb",
    "--output-skb-shared-info",
    "--output-skb-metadata=skb->len,skb->dev->ifindex",
    "--timestamp=absolute",
)
LEAST = ("--output-meta=false", "--output-tuple=false")


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def ping_objects(net: Network, *flags: str) -> list[dict[str, Any]]:
    """Return the objects of one ping."""
    with tracing("--output-json", *flags, f"icmp and host {net.v4(2)}") as run:
        net.ping(net.v4(2))
    assert run.status == 0, run.stderr
    printed = run.stdout.encode()
    found = [validated(line) for line in printed.splitlines(keepends=True)]
    assert found
    assert jq(printed) == found
    return found


@pytest.mark.parametrize("flags", [(), LEAST, FLAGS], ids=["default", "least", "most"])
def test_keys_are_those_of_enabled_columns(net: Network, flags: Sequence[str]) -> None:
    found = ping_objects(net, *flags)
    config = configured(" ".join(["--output-json", *flags]))
    expected = {column.name for column in columns_of(config)}
    assert set().union(*found) == expected - {"nft"}, "there are no nft events without kprobes"
    for one in found:
        is_drop = one["func"].startswith("tp:kfree_skb(SKB_DROP_REASON")
        assert one["type"] == ("drop" if is_drop else "function_call")


def test_values_of_queued_packet(net: Network) -> None:
    found = ping_objects(net, *FLAGS)
    assert {net.left, net.right} <= {one.get("netns_name") for one in found}
    queued = next(one for one in found if one["func"] == "tp:net_dev_queue")
    assert queued["caller_func"] == "__dev_queue_xmit"
    assert queued["stack"].startswith("\n__dev_queue_xmit\n")
    assert queued["skb_metadata"].startswith("\n(struct sk_buff){\n")
    assert queued["skb_shared_info"].startswith("\n(struct skb_shared_info){\n")
    assert queued["skb_members"]["len"] == queued["len"] == 98
    assert queued["iface"].endswith(f":{queued['skb_members']['ifindex']}")
    assert queued["cb"] == [0] * 5
    assert queued["tunnel_tuple"] == {}


# Title of a column -> key of the object, and what the text becomes there.
VIEWS: Mapping[str, tuple[str, type]] = {
    "SKB": ("skb", str),
    "CPU": ("cpu", int),
    "PROCESS": ("process", str),
    "NETNS": ("netns", int),
    "IFACE": ("iface", str),
    "MTU": ("mtu", int),
    "LEN": ("len", int),
    "FUNC": ("func", str),
    "CALLER": ("caller_func", str),
}


def test_text_and_json_have_equal_values(net: Network) -> None:
    """Both have the same events, unordered: of two CPUs, or an interrupt, either event may come
    first.
    """
    flags = ("--output-caller", f"icmp and host {net.v4(2)}")
    with (
        contextlib.ExitStack() as after,
        tracing(*flags) as text,
        tracing("--output-json", *flags) as objects,
    ):
        pid = after.enter_context(net.pinging(net.v4(2)))  # until both have ended
    titles, *rows = [line.split() for line in text.stdout.splitlines()]
    printed = [dict(zip(titles, row, strict=True)) for row in rows]
    shown = Counter(
        tuple(comparable(pid, title, kind(row[title])) for title, (_, kind) in VIEWS.items())
        for row in printed
    )
    found = Counter(
        tuple(comparable(pid, title, one[key]) for title, (key, _) in VIEWS.items())
        for one in map(json.loads, objects.stdout.splitlines())
    )
    assert any(row["PROCESS"].endswith(f"ping:{pid}") for row in printed)
    assert shown == found


def comparable(alive: int, title: str, value: Any) -> Any:
    """Return ``value``; of a process that ended before its name was read, the pid alone."""
    if title != "PROCESS" or value.endswith(f":{alive}"):
        return value
    return value.rpartition(":")[2]
