"""The writer of journeys: it collects the events of each packet until the packet is freed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from pypwru.errors import OutputClosed, OutputError
from pypwru.journey.decode import Step, StepDecoder
from pypwru.journey.outcome import JourneyOutcome, OutcomeClassifier
from pypwru.packets.history import PacketHistories, PacketHistory
from pypwru.packets.tracker import EndReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.discovery.targets import Targets
    from pypwru.names.event_names import NameResolver
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord


class JourneyFormat(Protocol):
    """The format of a journey: text, or a JSON object."""

    def render(
        self, records: Sequence[RawRecord], steps: Sequence[Step], outcome: JourneyOutcome
    ) -> str:
        """Render a journey.

        Args:
            records: events of one packet, in their order; at least one.
            steps: the same events, decoded.
            outcome: the outcome.
        """


class JourneyWriter:
    """The consumer of records that writes journeys, in the order in which packets are freed.

    Args:
        layout: the layout of records, as of StepDecoder.
        names: the name resolver.
        targets: of the run.
        form: format of a journey.
        write: receives the bytes of several journeys, in one call per batch.
    """

    def __init__(
        self,
        layout: RecordLayout,
        names: NameResolver,
        targets: Targets,
        form: JourneyFormat,
        write: Callable[[Sequence[bytes]], object],
    ) -> None:
        self.count = 0
        """Events in the journeys that were written."""
        self.evicted_events = 0
        """Events that were evicted for lack of room."""
        self._names = names
        self._form = form
        self._write = write
        self._steps = StepDecoder(layout, names)
        self._classifier = OutcomeClassifier(targets)
        self._tracker = PacketHistories(layout, targets, names.is_drop, self._on_complete)
        self._completed: list[tuple[int, bytes]] = []  # number of events, and text

    def show(self, batch: Sequence[RawRecord]) -> None:
        """Process a batch, and write the journeys of packets that were freed.

        Args:
            batch: records in ring order, those of skb free events included; may be empty, which
                advances time-outs.

        Raises:
            OutputError: from ``write``.
            OutputClosed: from ``write``.
        """
        self._names.clock.refresh_offset()
        self._tracker.take(batch)
        self._flush()

    def finish(self, is_limit_reached: bool = False) -> None:
        """Write the journeys of packets that are still tracked; ignores a reader that went away.

        Args:
            is_limit_reached: the run ended at its limit of events (--output-limit-lines).

        Raises:
            OutputError: from ``write``.
        """
        self._classifier.is_limit_reached = is_limit_reached
        self._tracker.finish()
        with suppress(OutputClosed):
            self._flush()

    def summarize(self) -> dict[str, int]:
        """Return the counters of events that weren't written, for the last line of the log."""
        return {"lost_journeys": self.evicted_events}

    def _flush(self) -> None:
        completed, self._completed = self._completed, []
        if not completed:
            return
        counts, texts = zip(*completed, strict=True)
        try:
            self._write(texts)
        except OutputClosed as closed:
            self.count += sum(counts[: closed.events_written])
            raise OutputClosed from closed
        except OutputError as error:
            self.count += sum(counts[: error.events_written])
            error.events_written = 0  # it counted journeys, not events
            raise
        self.count += sum(counts)

    def _on_complete(self, history: PacketHistory, reason: EndReason) -> None:
        if reason is EndReason.EVICTED and history.outcome.drop is None:
            self.evicted_events += len(history.events)
            return
        steps = self._steps.decode(history.events)
        text = self._form.render(history.events, steps, self._classifier.classify(history, reason))
        self._completed.append((len(steps), text.encode(errors="replace")))
