"""When the generation of a namespace is read; tests/native reads it from the kernel."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pypwru.nft import generations
from pypwru.nft.generations import GenerationReader

TIMEOUT = 30.0
Reports = queue.Queue[tuple[int, int, int | None]]


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "_INTERVAL", 0.001)


@contextmanager
def reader(open_netns: Callable[[int], int | None]) -> Iterator[tuple[GenerationReader, Reports]]:
    reports: Reports = queue.Queue()
    threads = threading.active_count()
    made = GenerationReader(open_netns, lambda *report: reports.put(report))
    with contextlib.closing(made):
        yield made, reports
    assert threading.active_count() == threads


@pytest.mark.parametrize("error", [None, PermissionError(1, "no")])
def test_unreachable_namespace_is_reported(error: OSError | None) -> None:
    def refuse(inode: int) -> None:
        assert inode == 7
        if error:
            raise error

    with reader(refuse) as (generation_reader, reports):
        began = time.monotonic_ns()
        generation_reader.request(7)
        inode, moment, generation = reports.get(timeout=TIMEOUT)
        assert (inode, generation) == (7, None)
        assert began <= moment <= time.monotonic_ns()


def test_unknown_path_is_not_reported() -> None:
    tries = 0

    def search(inode: int) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise BlockingIOError(11, "later")

    with reader(search) as (generation_reader, reports):
        while reports.empty():
            generation_reader.request(7)
        assert tries >= 3
        assert reports.get()[::2] == (7, None)


def test_slow_namespace_delays_no_other() -> None:
    is_done, opened = threading.Event(), []

    def wait(inode: int) -> None:
        opened.append(inode)
        if inode == 7:
            assert is_done.wait(TIMEOUT)

    with reader(wait) as (generation_reader, reports):
        for _ in range(5):
            generation_reader.request(7)
            generation_reader.request(8)
            assert reports.get(timeout=TIMEOUT)[::2] == (8, None)
        assert opened.count(7) == 1
        is_done.set()
        assert reports.get(timeout=TIMEOUT)[::2] == (7, None)


def test_readers_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "_MAX_READERS", 3)
    with reader(lambda inode: None) as (generation_reader, reports):
        for inode in range(10):
            generation_reader.request(inode)
        assert {reports.get(timeout=TIMEOUT)[0] for _ in range(10)} == set(range(10))
