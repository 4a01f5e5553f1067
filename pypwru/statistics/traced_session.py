"""What reports need of the session that they report on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pypwru.attach.throttle import ThrottleReport
    from pypwru.config import Config
    from pypwru.discovery.targets import Targets
    from pypwru.kernel.bpf_info import RunStats
    from pypwru.names.event_names import NameResolver
    from pypwru.needs import Needs
    from pypwru.ring.counters import Counters
    from pypwru.wire.layout import RecordLayout


class TracedSession(Protocol):
    """A session, as ``pypwru.session.Session`` is one; stand-ins in tests."""

    @property
    def config(self) -> Config:
        """The configuration of the run, without the features that this kernel lacks."""

    @property
    def needs(self) -> Needs:
        """What the run needs."""

    @property
    def layout(self) -> RecordLayout:
        """The layout of its records."""

    @property
    def names(self) -> NameResolver:
        """Names of what is in records."""

    @property
    def targets(self) -> Targets:
        """The attached targets."""

    @property
    def netns(self) -> int:
        """Inode of the only network namespace that is traced; 0 for any."""

    @property
    def throttle_report(self) -> ThrottleReport:
        """Functions that --max-hits paused."""

    @property
    def run_stats(self) -> Callable[[], Mapping[str, RunStats]] | None:
        """Reads how often and for how long (u64 ns) handlers ran; None if it isn't counted."""

    @property
    def hits(self) -> Callable[[], int]:
        """Reads how often handlers of skb functions ran, while the kernel counts it."""

    @property
    def handler_counters(self) -> Callable[[], Counters]:
        """Reads the counters of the handlers."""

    def summary(self, shown: int) -> dict[str, int]:
        """Return where every event went, so far; ``shown`` of them were shown."""

    def watch(self, fd: int) -> None:
        """Also return an empty batch when ``fd`` becomes readable."""

    def add_poller(self, poller: Callable[[], None]) -> None:
        """Call ``poller`` about twice a second."""
