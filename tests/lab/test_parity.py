"""One ping seen by pwru and by pypwru in the same boot: every line of pwru is a line of pypwru.

The peer is Debian's pwru 1.0.5. It prints fields in another form than the newest (main_job.py reads
both), no name of the interface, a drop reason only of kfree_skb_reason, and as MTU that of the
device where the newest says the route's: the guest gives all devices one MTU, and a packet that has
no device yet is the one case left (``_same_mtu``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.lab.jobs.main_job import FAR, MTU, NEAR
from tests.lab.kernels import Feature, names
from tests.lab.main_job import Line, own_lines, pwru_lines, step
from tests.lab.parity.compare import paired

pytestmark = pytest.mark.lab
SUITE = "main_job"
KERNELS = names(SUITE)
TUPLES = {f"{NEAR}:0->{FAR}:0(icmp)", f"{FAR}:0->{NEAR}:0(icmp)"}


def the_ping(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """skb -> its lines, of the first ping alone: the second one only marks the end."""
    packets: dict[str, list[Line]] = {}
    for line in lines:
        if line.tuple in TUPLES:
            packets.setdefault(line.skb, []).append(line)
    return packets


def pairs(kernel: str) -> list[tuple[Line | None, Line | None]]:
    seen = step(kernel, "beside")
    theirs = the_ping(pwru_lines(seen["pwru"]["out"]))
    own = the_ping(own_lines(seen["pypwru"]["out"]))
    assert len(theirs) >= 2, "pwru saw no request and reply"
    return [
        pair
        for skb in dict.fromkeys([*theirs, *own])
        for pair in paired(theirs.get(skb, []), own.get(skb, []))
    ]


def reason_of_extra(facts: dict[str, Any]) -> str:
    """Why pwru has no such line, from the function's prototype and number of addresses."""
    packets = re.findall(r"(const )?struct sk_buff \*(?!\*)", facts["prototype"].partition("(")[2])
    if packets and all(packets):
        return "const struct sk_buff *: pwru 1.0.5 does not trace the function"
    if len(packets) > 1:
        return "several packets: pypwru reads the first, pwru the last"
    if facts["addresses"] > 1:
        return "several functions of this name: pwru traces one address"
    return "unknown"


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_that_pwru_prints_is_printed_in_its_order(kernel: str) -> None:
    missing = [theirs for theirs, own in pairs(kernel) if theirs and not own]
    assert not missing, "\n".join(map(str, missing))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("field", ["skb", "netns", "mark", "ifindex", "proto", "len", "tuple"])
def test_fields_are_equal(kernel: str, field: str) -> None:
    both = [(theirs, own) for theirs, own in pairs(kernel) if theirs and own]
    assert len(both) > 20
    differing = [
        (theirs, own) for theirs, own in both if getattr(theirs, field) != getattr(own, field)
    ]
    assert not differing, "\n".join(f"{theirs}\n{own}" for theirs, own in differing)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mtus_are_equal(kernel: str) -> None:
    for theirs, own in pairs(kernel):
        if theirs and own:
            assert _same_mtu(theirs, own), f"\n{theirs}\n{own}"


def _same_mtu(theirs: Line, own: Line) -> bool:
    """Equal; or there is a route and no device, of which pwru 1.0.5 makes 0."""
    no_device = theirs.ifindex == "0" and theirs.mtu == "0"
    return theirs.mtu == own.mtu or (no_device and own.mtu == MTU)


@pytest.mark.parametrize("kernel", KERNELS)
def test_processes_are_equal(kernel: str) -> None:
    """By pid; the name too, unless the process was gone when pwru looked: others than ping."""
    named = 0
    for theirs, own in pairs(kernel):
        if theirs and own:
            name, _, pid = theirs.process.removesuffix(")").rpartition("(")
            path, _, own_pid = own.process.rpartition(":")
            assert own_pid == pid
            if name != "<empty>":
                assert name in path
                named += 1
    assert named


@pytest.mark.parametrize("kernel", names(SUITE, Feature.KFREE_SKB_REASON))
def test_drop_reasons_are_equal(kernel: str) -> None:
    """pwru 1.0.5 has those of kfree_skb_reason() alone."""
    reasons = [(t.reason, own.reason) for t, own in pairs(kernel) if t and own and t.reason]
    assert reasons
    assert all(theirs == own for theirs, own in reasons)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_extra_line_has_its_reason(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = pairs(kernel)
    declared = step(kernel, "declared")
    reasons = Counter(
        (own.function, reason_of_extra(declared[own.function]))
        for theirs, own in found
        if own and not theirs
    )
    with capsys.disabled():
        print(f"\n{kernel}: {sum(reasons.values())} extra lines of pypwru")
        for (function, reason), count in sorted(reasons.items()):
            print(f"  {count} x {function}: {reason}")
    unknown = [function for function, reason in reasons if reason == "unknown"]
    assert not unknown, "\n".join(f"{name}: {declared[name]}" for name in unknown)
