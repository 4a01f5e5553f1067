"""--output-json of a real run, judged by the schema, by jq, and by a text run beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pypwru.output.columns import COLUMNS
from tests.json_judge import jq, judged
from tests.native.tracing import Network, network, tracing
from tests.records import configured

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


def seen(net: Network, *flags: str) -> list[dict[str, Any]]:
    """The objects of one ping."""
    with tracing("--output-json", *flags, f"icmp and host {net.v4(2)}") as run:
        net.ping(net.v4(2))
    assert run.status == 0, run.stderr
    printed = run.stdout.encode()
    found = [judged(line) for line in printed.splitlines(keepends=True)]
    assert found
    assert jq(printed) == found
    return found


@pytest.mark.parametrize("flags", [(), LEAST, FLAGS], ids=["default", "least", "most"])
def test_every_line_is_valid_and_has_what_was_asked(net: Network, flags: Sequence[str]) -> None:
    found = seen(net, *flags)
    config = configured(" ".join(["--output-json", *flags]))
    wanted = {column.name for column in COLUMNS if column.enabled(config)}
    assert set().union(*found) == wanted
    assert {one["type"] for one in found} == {"function"}


def test_what_the_parts_say(net: Network) -> None:
    found = seen(net, *FLAGS)
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


def test_text_and_json_are_views_of_one_table(net: Network) -> None:
    flags = ("--output-caller", f"icmp and host {net.v4(2)}")
    with tracing(*flags) as text, tracing("--output-json", *flags) as objects:
        net.ping(net.v4(2))
    rows = [line.split() for line in text.stdout.splitlines()]
    shown = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    found = [json.loads(line) for line in objects.stdout.splitlines()]
    assert len(shown) == len(found) > 0
    pairs = {
        "SKB": "skb",
        "PROCESS": "process",
        "IFACE": "iface",
        "FUNC": "func",
        "CALLER": "caller_func",
    }
    for title, key in pairs.items():
        assert [row[title] for row in shown] == [one[key] for one in found]
    for title, key in {"CPU": "cpu", "NETNS": "netns", "MTU": "mtu", "LEN": "len"}.items():
        assert [int(row[title]) for row in shown] == [one[key] for one in found]
