"""What RuleService knows of a network namespace: its rules, until when, and when to list them."""

from __future__ import annotations

from pypwru.nft.rule_history import RuleHistory

NEVER, NOW = float("inf"), float("-inf")
NO_GENERATION = -1
"""Instead of a generation."""
# ns from a commit's taking effect to its notification's being readable, at most: an assumption for
# namespaces whose generation can't be read.
_MAX_NOTIFY_DELAY = 1_000_000_000


class NamespaceState:
    """A namespace that is monitored or was requested; times are seconds, CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self.history = RuleHistory()
        # All notifications up to this generation are processed; none if some were lost since.
        self.last_generation = NO_GENERATION
        # All commits that took effect before are in the history; ns, CLOCK_MONOTONIC.
        self.current_until = 0
        self.is_unreachable = False  # its generation can't be read
        self.last_rule_generation = (
            NO_GENERATION  # the last one with changes of tables, chains or rules
        )
        self.is_requested = False  # a look-up missed: list again after changes
        self.due = NEVER  # when to list the rules
        self.last_listing = NOW  # when the last listing began
        self.not_before = NOW  # no listing before this

    def confirm(self, generation: int, moment: int) -> bool:
        """Extend ``current_until`` to ``moment`` if all commits up to ``generation`` are processed.

        Args:
            generation: of the ruleset, read after ``moment``.
            moment: ns, CLOCK_MONOTONIC.
        """
        is_processed = generation <= self.last_generation
        if is_processed:
            self.current_until = max(self.current_until, moment)
        return is_processed

    def earliest_change(self, processed_until: int) -> int:
        """Return the earliest time at which a commit took effect that is notified of now; ns.

        Args:
            processed_until: until then all notifications were processed before; ns.
        """
        if not self.is_unreachable:
            return self.current_until
        return max(self.current_until, processed_until - _MAX_NOTIFY_DELAY)

    def due_time(self) -> float:
        """Return when to list the rules, after a pause."""
        return max(self.due, self.not_before)

    def sort_key(self) -> tuple[float, bool]:
        """Sort key: the least is listed first; of equal times, requested namespaces first."""
        return self.due_time(), not self.is_requested
