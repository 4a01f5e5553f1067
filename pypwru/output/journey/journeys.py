"""The writer of journeys: it collects the events of each packet until the packet is freed."""

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
    from pypwru.resolve.event_names import Names


class Journey(Protocol):
    """The format of a journey: text, or a JSON object."""

    def written(self, sights: Sequence[Slices], steps: Sequence[Step], end: End) -> str:
        """Render a journey.

        Args:
            sights: events of one packet, in their order; at least one.
            steps: the same events, decoded.
            end: the outcome.
        """


class Journeys:
    """The consumer of records that writes journeys, in the order in which packets are freed.

    Args:
        config: of the run.
        names: the name resolver.
        traced: address in a record -> name, of every attached target; shared, grows during the run.
        form: format of a journey.
        write: receives the bytes of several journeys, in one call per batch.
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
        """Events in the journeys that were written."""
        self.overflowed = 0
        """Events that were evicted for lack of room."""
        self._names = names
        self._form = form
        self._write = write
        self._steps = Steps(config, names)
        self._ends = Ends(traced)
        self._paths = Paths(wire(config), traced, names.drops, self._over)
        self._ended: list[tuple[int, bytes]] = []  # number of events, and text

    def show(self, batch: Sequence[Slices]) -> None:
        """Process a batch, and write the journeys of packets that were freed.

        Args:
            batch: records in ring order, those of skb free events included; may be empty, which
                advances time-outs.

        Raises:
            OutputError: from ``write``.
            OutputClosed: from ``write``.
        """
        self._names.clock.adjust()
        self._paths.take(batch)
        self._flush()

    def end(self, is_cut: bool = False) -> None:
        """Write the journeys of packets that are still tracked; ignores a reader that went away.

        Args:
            is_cut: the run ended at its limit of events (--output-limit-lines).

        Raises:
            OutputError: from ``write``.
        """
        self._ends.are_cut = is_cut
        self._paths.finish()
        with suppress(OutputClosed):
            self._flush()

    def account(self) -> dict[str, int]:
        """Return the counters of events that weren't written, for the last line of the log."""
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
            error.events = 0  # it counted journeys, not events
            raise
        self.count += sum(counts)

    def _over(self, path: Path, why: Why) -> None:
        if why is Why.CROWDED and path.fate.drop is None:
            self.overflowed += len(path.sights)
            return
        steps = self._steps.of(path.sights)
        text = self._form.written(path.sights, steps, self._ends.of(path, why))
        self._ended.append((len(steps), text.encode(errors="replace")))
