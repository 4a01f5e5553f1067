"""--list-functions as text and JSON, of BTF encoded by hand, and without BTF."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime, timezone

import pytest

from pypwru.config import Backend
from pypwru.discovery import function_tables
from pypwru.discovery.function_list import parse_names
from pypwru.discovery.functions import discover_functions
from pypwru.discovery.plan import plan_functions, plan_tracepoints
from pypwru.discovery.selection import Selection
from pypwru.discovery.tracepoints import discover_tracepoints
from pypwru.kernel.ftrace import parse_traceable
from pypwru.listing import without_btf
from pypwru.listing.entry import Entry, Listing, json_document, sort_entries
from pypwru.listing.from_plan import ATTACHABLE, UNKNOWN, Attachability, entries
from pypwru.listing.text import names_only, table
from tests.unit.discovery.test_functions import Kernel

NOW = datetime(2026, 11, 24, 17, 0, tzinfo=timezone.utc)


def listing(attachability: Attachability = ATTACHABLE) -> Listing:
    kernel = Kernel()
    kernel.function("zz_rcv", kernel.skb)
    kernel.function("ip_rcv", kernel.pointer, kernel.skb)
    kernel.function("ip_rcv_core", kernel.skb)
    kernel.function("tcp_v4_rcv", kernel.skb)
    kernel.function("ip_sixth", *[kernel.int] * 5, kernel.skb)
    kernel.function("tcp_inlined", kernel.skb)
    modules = {"bridge": kernel.module("br_forward")}
    traceable = parse_traceable("zz_rcv\nip_rcv\nip_rcv_core\ntcp_v4_rcv\nbr_forward [bridge]")
    found = discover_functions(kernel.btf(), modules, traceable, None, Selection())
    plan = plan_functions(Backend.KPROBE, found)
    listed = sort_entries(entries(plan, kernel.btf(), modules, attachability))
    return Listing(listed, Backend.KPROBE, "6.12.1")


def test_order_is_priority_category_name() -> None:
    assert [(one.display, one.priority, one.attachable) for one in listing().entries] == [
        ("ip_rcv_core", 0, True),
        ("tcp_v4_rcv", 0, True),
        ("ip_rcv", 1, True),
        ("br_forward[bridge]", 2, True),
        ("ip_sixth", 3, False),
        ("zz_rcv", 3, True),
        ("tcp_inlined", 3, False),
    ]


def test_table_has_columns_for_awk() -> None:
    script = '$5<=1 {print $1,$2,$3,$4,$6} /#/ {sub(/.*# /,""); print}'
    text = table(listing())
    printed = subprocess.run(
        ["awk", script], input=text, capture_output=True, text=True, check=True
    )
    assert printed.stdout.splitlines() == [
        "ip_rcv_core - 1 ip yes",
        "tcp_v4_rcv - 1 tcp yes",
        "ip_rcv - 2 ip yes",
        "argument 6: only the first 5 can be read",
        "ftrace can't hook it: inlined, marked notrace, or not there in this kernel",
    ]
    rows = [line.split(maxsplit=6) for line in text.splitlines()]
    assert rows[0] == ["NAME", "MODULE", "ARG", "CATEGORY", "PRIORITY", "ATTACH", "SIGNATURE"]
    assert rows[4][:3] == ["br_forward", "bridge", "1"]
    assert rows[4][6] == "void br_forward(struct sk_buff *skb)"
    assert len({line.index(row[6]) for line, row in zip(text.splitlines(), rows, strict=True)}) == 1


def test_names_only_is_a_function_list() -> None:
    names = names_only(listing()).splitlines()
    assert names == ["ip_rcv_core", "tcp_v4_rcv", "ip_rcv", "br_forward[bridge]", "zz_rcv"]
    assert list(parse_names(names_only(listing()))) == names
    assert (
        len(names_only(listing(UNKNOWN)).splitlines()) == 5
    )  # without those of an unsupported prototype
    assert names_only(listing(Attachability(False, "no"))) == ""


def test_json_document() -> None:
    found = json.loads(json.dumps(json_document(listing(), NOW)))
    assert found["metadata"] == {
        "total": 7,
        "timestamp": "2026-11-24T17:00:00+00:00",
        "kernel": "6.12.1",
        "backend": "kprobe",
        "note": None,
    }
    assert found["statistics"]["by_priority"] == {
        "0": ["ip_rcv_core", "tcp_v4_rcv"],
        "1": ["ip_rcv"],
        "2": ["br_forward[bridge]"],
        "3": ["ip_sixth", "zz_rcv", "tcp_inlined"],
    }
    by_category = found["statistics"]["by_category"]
    assert set(by_category) == set(function_tables.categories())
    assert by_category["tcp"] == ["tcp_v4_rcv", "tcp_inlined"]
    assert found["functions"][3] == {
        "name": "br_forward",
        "param_position": 1,
        "category": "bridge",
        "priority": 2,
        "signature": "void br_forward(struct sk_buff *skb)",
        "module": "bridge",
        "attachable": True,
        "why": None,
    }
    assert found["functions"][4]["attachable"] is False
    assert found["functions"][4]["why"] == "argument 6: only the first 5 can be read"
    assert parse_names(json.dumps(found))[3] == "br_forward[bridge]"


def test_tracepoint_entry() -> None:
    kernel = Kernel()
    kernel.tracepoint("net_dev_xmit", kernel.skb, kernel.int)
    plan = plan_tracepoints(discover_tracepoints(kernel.btf(), Selection()))
    (entry,) = entries(plan, kernel.btf(), {}, ATTACHABLE)
    assert (entry.display, entry.skb_arg, entry.priority) == ("tp:net_dev_xmit", 1, 0)
    assert entry.signature.startswith("void net_dev_xmit(struct sk_buff *")


SYMBOLS = {"ip_rcv", "tcp_v4_rcv", "vprintk", "br_forward[bridge]", "__traceiter_kfree_skb"}


@pytest.mark.parametrize(
    ("modules", "selection", "names"),
    [
        ((), Selection(), ["tcp_v4_rcv", "ip_rcv"]),
        (("bridge",), Selection(), ["tcp_v4_rcv", "ip_rcv", "br_forward[bridge]"]),
        (None, Selection(priority=1), ["tcp_v4_rcv", "ip_rcv"]),
        (None, Selection("tcp_.*"), ["tcp_v4_rcv"]),
        (None, Selection(categories=frozenset(("bridge",))), ["br_forward[bridge]"]),
        ((), Selection(only=frozenset(("br_forward", "x"))), ["br_forward[bridge]"]),
        ((), Selection(only=frozenset(("br_forward[bridge]",))), ["br_forward[bridge]"]),
    ],
)
def test_functions_without_btf(
    modules: tuple[str, ...] | None, selection: Selection, names: list[str]
) -> None:
    traceable = parse_traceable("tcp_v4_rcv\nbr_forward [bridge]")
    found = sort_entries(without_btf.functions(SYMBOLS, modules, traceable, selection))
    assert [one.display for one in found] == names
    for entry in found:
        assert (entry.skb_arg, entry.signature) == (None, "")
        assert entry.attachable is (False if entry.name == "ip_rcv" else None)


def test_tracepoints_without_btf() -> None:
    found = list(without_btf.tracepoints(SYMBOLS, Selection()))
    assert found == [Entry("tp:kfree_skb", "", None, "drop", 0, "", None)]
    assert table(Listing(tuple(found), None, "5.10")).splitlines()[1].split() == [
        "tp:kfree_skb",
        "-",
        "?",
        "drop",
        "0",
        "?",
        "?",
    ]
    assert without_btf.missing(["kfree_skb", "tp:kfree_skb", "x"], found) == ["kfree_skb", "x"]
