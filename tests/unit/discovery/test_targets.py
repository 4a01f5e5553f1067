"""The targets of a run, and who is called when some are added."""

from __future__ import annotations

from collections.abc import Mapping

from pypwru.discovery.targets import Targets


def test_targets_are_a_mapping() -> None:
    given = {0x10: "ip_rcv", 1: "tp:kfree_skb"}
    targets = Targets(given)
    given.clear()
    assert targets == {0x10: "ip_rcv", 1: "tp:kfree_skb"}
    assert list(targets.values()) == ["ip_rcv", "tp:kfree_skb"], "in the order of attaching"
    assert targets.get(0x10) == "ip_rcv" and targets.get(0x20, "") == ""


def test_subscribers_get_what_is_added_later() -> None:
    calls: list[Mapping[int, str]] = []
    targets = Targets({0x10: "ip_rcv"})
    targets.on_add(calls.append)
    assert calls == []
    targets.add({0x20: "veth_xmit[veth]"})
    targets.add({0x20: "veth_poll[veth]"})
    assert calls == [{0x20: "veth_xmit[veth]"}, {0x20: "veth_poll[veth]"}]
    assert targets == {0x10: "ip_rcv", 0x20: "veth_poll[veth]"}


def test_subscriber_sees_the_new_targets() -> None:
    sizes: list[int] = []
    targets = Targets()
    targets.on_add(lambda added: sizes.append(len(targets)))
    targets.add({1: "a", 2: "b"})
    assert sizes == [2]
