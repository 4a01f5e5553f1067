"""The attached targets of a run, by what records carry. They grow while tracing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping


class Targets(Mapping[int, str]):
    """Address in a record, or number of a tracepoint or BPF program -> display name.

    Functions of modules, and BPF programs, that are loaded while tracing are added. What is derived
    from targets and kept is brought up to date by ``on_add``.

    Args:
        targets: those so far; copied.
    """

    __slots__ = ("_names", "_subscribers", "get")

    def __init__(self, targets: Mapping[int, str] | None = None) -> None:
        self._names = dict(targets or {})
        # Journeys look up each event: without a call in Python.
        self.get = self._names.get  # type: ignore[method-assign]
        self._subscribers: list[Callable[[Mapping[int, str]], object]] = []

    def __getitem__(self, address: int) -> str:
        return self._names[address]

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, added: Mapping[int, str]) -> None:
        """Add targets, and replace those of the same address, of a module that is loaded again."""
        self._names.update(added)
        for subscriber in self._subscribers:
            subscriber(added)

    def on_add(self, subscriber: Callable[[Mapping[int, str]], object]) -> None:
        """Have each later ``add`` call ``subscriber`` with what it added.

        Args:
            subscriber: called by the thread that reads records, between two batches.
        """
        self._subscribers.append(subscriber)
