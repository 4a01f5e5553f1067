"""Selects the tier's tests, starts their guests with the session's first test, and reports on
them.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.lab import kernels, results, schedule
from tests.lab.kernels import runs, tier
from tests.lab.suites import SUITES
from tests.lab.vm.boots import Lab

_KEY = pytest.StashKey[Lab]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "step(name): of a step that kernels may leave to the full tier"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests of other tiers; test_vm comes first, since it boots its own guests
    meanwhile.
    """
    kept = [item for item in items if not _belongs(item)]
    if kept:
        config.hook.pytest_deselected(items=kept)
        items[:] = [item for item in items if _belongs(item)]
    positions = [position for position, item in enumerate(items) if _suite(item)]
    ours = sorted(
        (items[position] for position in positions), key=lambda item: _suite(item) != "vm"
    )
    for position, item in zip(positions, ours, strict=True):
        items[position] = item


def _suite(item: pytest.Item) -> str:
    """Return the suite of the item's module; empty if it is none of the lab's."""
    return str(getattr(getattr(item, "module", None), "SUITE", ""))


def _kernel(item: pytest.Item) -> str:
    """Return the kernel of a test; empty if it has none."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return str(parameters.get("kernel", ""))


def _belongs(item: pytest.Item) -> bool:
    suite, kernel, current_tier = _suite(item), _kernel(item), tier()
    if current_tier is current_tier.QUICK and item.get_closest_marker("full"):
        return False
    if not suite or not kernel:
        return True
    kept = kernels.kernel(kernel).steps_without(suite) if current_tier is current_tier.QUICK else []
    steps = {name for mark in item.iter_markers("step") for name in mark.args}
    return runs(suite, kernel, current_tier) and steps.isdisjoint(kept)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Run guests while tests run."""
    options = session.config.option
    if options.collectonly or options.setupplan or not results.possible():
        return (yield)
    needed = {(_kernel(item), _suite(item)) for item in session.items if _suite(item) in SUITES}
    plan = schedule.boots({pair for pair in needed if pair[0]}, tier())
    session.config.stash[_KEY] = lab = results.begin(plan, tier())
    try:
        return (yield)
    finally:
        lab.end()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lab := terminalreporter.config.stash.get(_KEY, None):
        terminalreporter.section("guests")
        for line in lab.report():
            terminalreporter.line(line)
