"""nf_tables that comes during a flood: it is attached, and meanwhile no event is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.jobs.late import AFTER
from tests.lab.kernels import REFERENCE
from tests.lab.main_job import logged, step

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.step("late")]
SUITE = "main_job"


def counter(listing: str) -> int:
    """Packets of the only rule, by nft."""
    (rule,) = (one["rule"] for one in json.loads(listing)["nftables"] if "rule" in one)
    (packets,) = (each["counter"]["packets"] for each in rule["expr"] if "counter" in each)
    return int(packets)


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_no_event_is_lost_while_it_is_attached(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judged by the count of the flood's sender, and by the rule's counter."""
    seen: dict[str, Any] = step(kernel, "late")
    with capsys.disabled():
        print(f"\n{kernel}: {seen['sent']} sent; attached in {seen['attached']:.0f} s")
    assert not seen["there"], "nf_tables was there before: the test shows nothing"
    assert seen["status"] == 0
    assert seen["out"]["function_call"] == seen["sent"]
    assert logged(seen["err"], "Done")["lost_ring_full"] == "0"
    assert seen["out"]["nft_rule drop"] == counter(seen["counters"]) == AFTER
