"""nf_tables is loaded during a flood: it is attached, and meanwhile no event is lost."""

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
    """Return packets of the only rule, by nft."""
    (rule,) = (one["rule"] for one in json.loads(listing)["nftables"] if "rule" in one)
    (packets,) = (each["counter"]["packets"] for each in rule["expr"] if "counter" in each)
    return int(packets)


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_attaching_to_loaded_module_loses_no_event(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The oracles are the count of the flood's sender, and the rule's counter."""
    result: dict[str, Any] = step(kernel, "late")
    with capsys.disabled():
        print(f"\n{kernel}: {result['sent']} sent; attached in {result['attached']:.0f} s")
    assert not result["there"], "nf_tables was there before: nothing is tested"
    assert result["status"] == 0
    assert result["out"]["function_call"] == result["sent"]
    assert logged(result["err"], "Done")["lost_ring_full"] == "0"
    assert result["out"]["nft_rule drop"] == counter(result["counters"]) == AFTER
