"""What pypwru says of rules is what the kernel says: its own trace records, and rules' counters.

The rulesets are the one of the folder ``truth/rules`` and random ones: ``PYPWRU_TRUTH_RULESETS`` is
how many (3), ``PYPWRU_TRUTH_SEED`` where they begin (1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.lab import results
from tests.lab.kernels import Tier, names
from tests.lab.main_job import logged
from tests.lab.suites import truth_rulesets

pytestmark = pytest.mark.lab
SUITE = "truth"
KERNELS = names(SUITE)
QUICK = truth_rulesets(Tier.QUICK)

NAMES = [
    "fixed",
    *(
        pytest.param(f"random {number}", marks=[pytest.mark.full] * (number >= QUICK))
        for number in range(truth_rulesets(Tier.FULL))
    ),
]
FAMILIES = ("inet", "ip", "ip6", "bridge", "arp", "netdev")


def step(kernel: str, name: str) -> Any:
    return results.step(kernel, SUITE, name)


def judge(seen: Mapping[str, Any], kind: str, where: str) -> int:
    """How much was compared; what doesn't match fails."""
    mismatches = seen[kind]["mismatches"]
    assert not mismatches, f"{where}: {kind}: {len(mismatches)} mismatches:\n" + "\n".join(
        mismatches
    )
    compared: int = seen[kind]["compared"]
    return compared


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_event_is_the_kernels_own_record(
    kernel: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen, where = step(kernel, name), f"{kernel}: {name}"

    least = 1000 if name == "fixed" else 1  # a random one may be of ARP alone
    assert judge(seen, "the kernel's counters", where) > 0, "nobody judges the judge"
    assert judge(seen, "records without help", where) > 0
    for kind in ("records of the same run", "places"):
        assert judge(seen, kind, where) >= least
    compared = judge(seen, "records", where)
    counters = judge(seen, "counters", where)
    with capsys.disabled():
        print(
            f"\n{where}: {seen['rules']} rules, {seen['speaking']} spoke; records compared "
            f"{compared}, mismatches 0; counters compared {counters}, mismatches 0"
        )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("who", ["pypwru", "unaided"])
def test_nothing_was_lost(kernel: str, who: str) -> None:
    seen = step(kernel, who)
    done = logged(seen["err"], "Done")

    assert seen["status"] == 0
    # What another probe's handler took (lost_recursion, lost_missed) may be of packets that are not
    # compared; of others it is a mismatch.
    assert done["lost_ring_full"] == done["lost_verdicts"] == done["not_shown"] == "0"
    assert int(done["produced"]) == int(done["events"]) > 1000


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_is_said_who_has_no_help(kernel: str) -> None:
    unseen = "nftables: rules without a verdict are not seen"
    assert [unseen in step(kernel, who)["err"] for who in ("pypwru", "unaided")] == [False, True]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_rules_say_all_that_rules_can(kernel: str) -> None:
    seen = step(kernel, "fixed")
    said = Counter(seen["verdicts"])

    wanted = {"accept", "drop", "jump", "goto", "return", "continue", "queue"}
    assert wanted | {"policy accept", "policy drop"} <= set(said)
    assert seen["rules"] > 1000
    assert seen["speaking"] >= 40
    assert set(seen["families"]) == set(FAMILIES)
