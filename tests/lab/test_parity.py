"""One ping traced by pwru and by pypwru in the same boot: each line of pwru is a line of pypwru.

The peer is Debian's pwru 1.0.5. It prints fields in another form than the newest (main_job.py reads
both), no name of the interface, a drop reason only of kfree_skb_reason, and as MTU that of the
device where the newest prints the route's: the guest gives all devices one MTU, and a packet that
has no device yet is the one case left (``_same_mtu``).
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


def first_ping_lines(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Map skbs to their lines, of the first ping alone: the second one only marks the end."""
    packets: dict[str, list[Line]] = {}
    for line in lines:
        if line.tuple in TUPLES:
            packets.setdefault(line.skb, []).append(line)
    return packets


def pairs(kernel: str) -> list[tuple[Line | None, Line | None]]:
    seen = step(kernel, "beside")
    theirs = first_ping_lines(pwru_lines(seen["pwru"]["out"]))
    own = first_ping_lines(own_lines(seen["pypwru"]["out"]))
    assert len(theirs) >= 2, "pwru has no request and reply"
    return [
        pair
        for skb in dict.fromkeys([*theirs, *own])
        for pair in paired(theirs.get(skb, []), own.get(skb, []))
    ]


def reason_of_extra(facts: dict[str, Any]) -> str:
    """Return why pwru has no such line, by the function's prototype and number of addresses."""
    packets = re.findall(r"(const )?struct sk_buff \*(?!\*)", facts["prototype"].partition("(")[2])
    if packets and all(packets):
        return "const struct sk_buff *: pwru 1.0.5 does not trace the function"
    if len(packets) > 1:
        return "several packets: pypwru reads the first, pwru the last"
    if facts["addresses"] > 1:
        return "several functions of this name: pwru traces one address"
    return "unknown"


@pytest.mark.parametrize("kernel", KERNELS)
def test_lines_of_pwru_are_printed_in_order(kernel: str) -> None:
    missing = [theirs for theirs, own in pairs(kernel) if theirs and not own]
    assert not missing, "\n".join(map(str, missing))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("field", ["skb", "netns", "mark", "ifindex", "proto", "len", "tuple"])
def test_fields_equal_those_of_pwru(kernel: str, field: str) -> None:
    both = [(theirs, own) for theirs, own in pairs(kernel) if theirs and own]
    assert len(both) > 20
    differing = [
        (theirs, own) for theirs, own in both if getattr(theirs, field) != getattr(own, field)
    ]
    assert not differing, "\n".join(f"{theirs}\n{own}" for theirs, own in differing)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mtus_equal_those_of_pwru(kernel: str) -> None:
    for theirs, own in pairs(kernel):
        if theirs and own:
            assert _same_mtu(theirs, own), f"\n{theirs}\n{own}"


def _same_mtu(theirs: Line, own: Line) -> bool:
    """Return whether they are equal; or there is a route and no device, for which pwru 1.0.5
    has 0.
    """
    no_device = theirs.ifindex == "0" and theirs.mtu == "0"
    return theirs.mtu == own.mtu or (no_device and own.mtu == MTU)


@pytest.mark.parametrize("kernel", KERNELS)
def test_processes_equal_those_of_pwru(kernel: str) -> None:
    """By pid; the name too, unless the process had ended before pwru read it: others than ping."""
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
def test_drop_reasons_equal_those_of_pwru(kernel: str) -> None:
    """pwru 1.0.5 has those of kfree_skb_reason() alone."""
    reasons = [(t.reason, own.reason) for t, own in pairs(kernel) if t and own and t.reason]
    assert reasons
    assert all(theirs == own for theirs, own in reasons)


@pytest.mark.parametrize("kernel", KERNELS)
def test_extra_lines_have_reasons(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
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
