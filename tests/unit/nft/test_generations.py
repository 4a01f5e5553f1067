"""Which namespaces are asked for their generation when; what the kernel says is in tests/native."""

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

PATIENCE = 30.0
Said = queue.Queue[tuple[int, int, int | None]]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "_INTERVAL", 0.001)


@contextmanager
def reader(open_netns: Callable[[int], int | None]) -> Iterator[tuple[GenerationReader, Said]]:
    said: Said = queue.Queue()
    threads = threading.active_count()
    made = GenerationReader(open_netns, lambda *answer: said.put(answer))
    with contextlib.closing(made):
        yield made, said
    assert threading.active_count() == threads


@pytest.mark.parametrize("error", [None, PermissionError(1, "no")])
def test_what_can_not_be_asked_is_said(error: OSError | None) -> None:
    def refuse(inode: int) -> None:
        assert inode == 7
        if error:
            raise error

    with reader(refuse) as (asked, said):
        began = time.monotonic_ns()
        asked.request(7)
        inode, moment, generation = said.get(timeout=PATIENCE)
        assert (inode, generation) == (7, None)
        assert began <= moment <= time.monotonic_ns()


def test_of_what_is_unknown_for_now_nothing_is_said() -> None:
    tries = 0

    def search(inode: int) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise BlockingIOError(11, "later")

    with reader(search) as (asked, said):
        while said.empty():
            asked.request(7)
        assert tries >= 3
        assert said.get()[::2] == (7, None)


def test_a_namespace_that_does_not_answer_holds_up_no_other_and_is_asked_once() -> None:
    answered, opened = threading.Event(), []

    def wait(inode: int) -> None:
        opened.append(inode)
        if inode == 7:
            assert answered.wait(PATIENCE)

    with reader(wait) as (asked, said):
        for _ in range(5):
            asked.request(7)
            asked.request(8)
            assert said.get(timeout=PATIENCE)[::2] == (8, None)
        assert opened.count(7) == 1
        answered.set()
        assert said.get(timeout=PATIENCE)[::2] == (7, None)


def test_of_many_some_are_asked_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "_MAX_READERS", 3)
    with reader(lambda inode: None) as (asked, said):
        for inode in range(10):
            asked.request(inode)
        assert {said.get(timeout=PATIENCE)[0] for _ in range(10)} == set(range(10))
