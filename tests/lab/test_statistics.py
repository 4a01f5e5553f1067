"""Statistics on real kernels: equal to a recount of the lines of the same run."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from typing import Any

import pytest

from pypwru.discovery.skb_lifetime import DROP_TARGETS, DROP_WRAPPERS, REASON_FUNCTIONS
from tests.lab import results
from tests.lab.jobs.nft_filter import EACH
from tests.lab.jobs.statistics import RUNS
from tests.lab.kernels import Feature, names
from tests.lab.kernels import kernel as row_of
from tests.lab.main_job import logged
from tests.lab.results import with_marks
from tests.oracles.recount import (
    bounds,
    document_counts,
    document_locations,
    located,
    recount,
    validate,
)

pytestmark = pytest.mark.lab
SUITE = "statistics"
KERNELS = names(SUITE)
SCHEMA = json.loads(resources.files("pypwru.data").joinpath("statistics.schema.json").read_text())


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=with_marks(SUITE, RUNS))
def result(kernel: str, request: pytest.FixtureRequest) -> Any:
    run = request.param
    found = results.step(kernel, SUITE, run)
    assert found["status"] == 0, found["err"]
    return {**found, "run": run, "kernel": kernel}


def test_recount_of_lines_is_equal(result: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in result["out"].splitlines()]
    document = result["statistics"]
    validate(SCHEMA, document)
    counted, documented = recount(lines), document_counts(document)
    del counted["hops"]
    hops, (least, most) = documented.pop("hops"), bounds(lines)
    assert counted == documented
    assert set(least) <= set(hops) <= set(most)
    for ends, each in hops.items():
        for low, value, high in zip(least.get(ends, (0, 0, 0)), each, most[ends], strict=True):
            assert low <= value <= high
    assert counted["events"] == int(logged(result["err"], "Done")["events"]) > 20
    if result["run"] == "drops":
        assert located(lines) == document_locations(document)
    with capsys.disabled():
        kinds = {key: len(value) for key, value in counted.items() if isinstance(value, dict)}
        plain = {key: value for key, value in counted.items() if isinstance(value, int)}
        print(f"\n{result['kernel']} {result['run']}: {plain} {kinds}")


def test_location_of_drop_is_caller(result: Any) -> None:
    lines = [json.loads(line) for line in result["out"].splitlines()]
    callers = Counter(line["caller_func"] for line in lines if line["type"] == "drop")
    locations: Counter[str] = Counter()
    for row in result["statistics"]["drops"]:
        name, _, offset = row["location"].partition("+")
        assert int(offset, 16) > 0
        locations[name] += row["events"]
    # Functions that others call to drop, by name without module, are not the dropping ones.
    helpers = {name for name in callers if name in DROP_TARGETS | REASON_FUNCTIONS | DROP_WRAPPERS}
    if row_of(result["kernel"]).has(Feature.DROP_REASONS):
        assert not helpers.intersection(locations)
    assert sum(locations.values()) == sum(callers.values())
    assert all(locations[name] >= count for name, count in callers.items() if name not in helpers)


def test_handlers_have_cost(result: Any) -> None:
    cost = result["statistics"]["cost"]
    assert cost
    assert all(row["hits"] and row["mean_ns"] for row in cost)


def test_rules_have_names_and_texts(kernel: str) -> None:
    rows = results.step(kernel, SUITE, "all")["statistics"]["nft_rules"]
    found = {(row["text"], row["verdict"]): row["events"] for row in rows if row["handle"]}
    assert found["udp dport 7104 drop", "drop"] == EACH
    assert found["udp dport 7102 accept", "accept"] == EACH


def test_host_compiles_all_handlers(kernel: str) -> None:
    """A compile takes a guest half a minute (tests/lab/vm/warm_cache.py)."""
    assert results.result(kernel, SUITE)["compiled"] == 0
