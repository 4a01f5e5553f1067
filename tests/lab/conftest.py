"""The tier's tests, their guests begun with the session's first test, and what became of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator

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
    """Deselect what the tier doesn't have; test_vm first, since it boots by itself meanwhile."""
    left = [item for item in items if not _belongs(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if _belongs(item)]
    places = [place for place, item in enumerate(items) if _suite(item)]
    ours = sorted((items[place] for place in places), key=lambda item: _suite(item) != "vm")
    for place, item in zip(places, ours, strict=True):
        items[place] = item


def _suite(item: pytest.Item) -> str:
    """The suite of the item's module; empty if it is none of the lab's."""
    return str(getattr(getattr(item, "module", None), "SUITE", ""))


def _kernel(item: pytest.Item) -> str:
    """The kernel that a test is of; empty if it is of none."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return str(parameters.get("kernel", ""))


def _belongs(item: pytest.Item) -> bool:
    suite, kernel, asked = _suite(item), _kernel(item), tier()
    if asked is asked.QUICK and item.get_closest_marker("full"):
        return False
    if not suite or not kernel:
        return True
    left = kernels.kernel(kernel).steps_without(suite) if asked is asked.QUICK else []
    steps = {name for mark in item.iter_markers("step") for name in mark.args}
    return runs(suite, kernel, asked) and steps.isdisjoint(left)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Guests run while tests do: one beside tests that are not the lab's, two afterwards."""
    if session.config.option.collectonly or not results.possible():
        return (yield)
    needed = {(_kernel(item), _suite(item)) for item in session.items if _suite(item) in SUITES}
    plan = schedule.boots({pair for pair in needed if pair[0]}, tier())
    beside = any(not _suite(item) for item in session.items)
    session.config.stash[_KEY] = lab = results.begin(plan, tier(), beside)
    try:
        return (yield)
    finally:
        lab.end()


@pytest.fixture(scope="session", autouse=True)
def two_guests(request: pytest.FixtureRequest) -> Iterator[None]:
    """The lab's tests come last: they wait for guests, which have both CPUs now."""
    if lab := request.config.stash.get(_KEY, None):
        lab.widen()
    yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lab := terminalreporter.config.stash.get(_KEY, None):
        terminalreporter.section("guests")
        for line in lab.report():
            terminalreporter.line(line)
