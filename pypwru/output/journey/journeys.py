"""Collects the sights of each packet, and writes its journey once it has ended."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from pypwru.errors import OutputClosed, OutputError
from pypwru.events.lives import Why
from pypwru.events.paths import Path, Paths
from pypwru.events.wire import wire
from pypwru.output.journey.ends import End, Ends
from pypwru.output.journey.steps import Step, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.config import Config
    from pypwru.events.record import Slices
    from pypwru.output.columns import Names


class Journey(Protocol):
    """How one is written: text, or an object."""

    def written(self, sights: Sequence[Slices], steps: Sequence[Step], end: End) -> str:
        """The whole of it.

        Args:
            sights: of one packet, in their order; there is one.
            steps: the same, taken apart.
            end: how it ended.
        """


class Journeys:
    """What writes journeys, in the order in which they end.

    Args:
        config: of the run.
        names: of what is in records.
        traced: the address that a record carries -> name, of everything that is traced; may grow.
        form: how one is written.
        write: takes the bytes of several.
    """

    def __init__(
        self,
        config: Config,
        names: Names,
        traced: Mapping[int, str],
        form: Journey,
        write: Callable[[Sequence[bytes]], object],
    ) -> None:
        self.count = 0
        """Sights in journeys that were written."""
        self.overflowed = 0
        """Sights thrown away for lack of room."""
        self._names = names
        self._form = form
        self._write = write
        self._steps = Steps(config, names)
        self._ends = Ends(traced)
        self._paths = Paths(wire(config), traced, names.drops, self._over)
        self._ended: list[tuple[int, bytes]] = []  # how many sights it has, and its text

    def show(self, batch: Sequence[Slices]) -> None:
        """Take a batch, also an empty one, with the ends of packets; write what has ended.

        Raises:
            OutputError, OutputClosed: from ``write``.
        """
        self._names.clock.adjust()
        self._paths.take(batch)
        self._flush()

    def end(self, is_cut: bool = False) -> None:
        """Write those that are under way, too, if anybody reads them.

        Args:
            is_cut: by a limit of events, which leaves out the rest of them.

        Raises:
            OutputError: from ``write``.
        """
        self._ends.are_cut = is_cut
        self._paths.finish()
        with suppress(OutputClosed):
            self._flush()

    def account(self) -> dict[str, int]:
        """What was not written, for the last line of the log."""
        return {"lost_journeys": self.overflowed}

    def _flush(self) -> None:
        ended, self._ended = self._ended, []
        if not ended:
            return
        counts, texts = zip(*ended, strict=True)
        try:
            self._write(texts)
        except OutputClosed as closed:
            self.count += sum(counts[: closed.events])
            raise OutputClosed from closed
        except OutputError as error:
            self.count += sum(counts[: error.events])
            error.events = 0  # of journeys
            raise
        self.count += sum(counts)

    def _over(self, path: Path, why: Why) -> None:
        if why is Why.CROWDED and path.fate.drop is None:
            self.overflowed += len(path.sights)
            return
        steps = self._steps.of(path.sights)
        text = self._form.written(path.sights, steps, self._ends.of(path, why))
        self._ended.append((len(steps), text.encode(errors="replace")))
