"""The look-up of rule texts by ``struct part_nft``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pypwru.nft.record import RuleKey, decode_rule_key
from pypwru.nft.ruleset import elide_sets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.nft.ruleset import RuleText


class RuleLookup(Protocol):
    """The rule service: ``pypwru.nft.rule_service``, and a stub in tests."""

    revision: int
    """Incremented whenever the result of any look-up may have changed."""

    def rule(
        self, netns: int, table: int, chain: int, rule: int, at: int | None = None
    ) -> RuleText | None:
        """Return a rule as it was at a time; None, and request a listing, while it is unknown.

        Args:
            netns: inode of the network namespace.
            table: handle.
            chain: handle.
            rule: handle.
            at: ns of CLOCK_MONOTONIC; None: now.
        """

    def is_current(self, netns: int, at: int) -> bool:
        """Return whether all changes up to a time are known; until then ``rule`` may be wrong.

        Args:
            netns: inode of the network namespace.
            at: ns of CLOCK_MONOTONIC.
        """

    def wait_current(self, times: Mapping[int, int], timeout: float) -> bool:
        """Wait until all changes up to given times are known; return False on time-out.

        Args:
            times: inode of a network namespace -> ns of CLOCK_MONOTONIC.
            timeout: seconds.
        """

    def is_listing_pending(self, netns: int, at: int) -> bool:
        """Return whether a listing is running or due, and the last one ended before ``at``.

        Args:
            netns: inode of the network namespace.
            at: ns of CLOCK_MONOTONIC.
        """

    def relist(self, timeout: float) -> bool:
        """Wait until all requested namespaces have been listed anew; return False on time-out.

        Args:
            timeout: seconds.
        """

    def wait_listed(self, timeout: float) -> bool:
        """Wait until no listing is running or due; return False on time-out.

        Args:
            timeout: seconds.
        """


class RuleTexts:
    """Rule texts by ``struct part_nft``.

    Args:
        rules: the rule service.
    """

    def __init__(self, rules: RuleLookup) -> None:
        self.rules = rules

    def rule_key(self, part: bytes) -> RuleKey | None:
        """Return the key of the rule of a part; None if the part is of no rule."""
        found = decode_rule_key(part)
        return found if found[-1] else None

    def text(self, part: bytes, at: int) -> RuleText | None:
        """Return the whole text of the rule; None if there is no rule, or it is unknown.

        Args:
            part: ``struct part_nft``, and anything after it.
            at: time of the nft event, ns of CLOCK_MONOTONIC.
        """
        netns, table, chain, rule = decode_rule_key(part)
        return self.rules.rule(netns, table, chain, rule, at) if rule else None

    def display_text(self, part: bytes, at: int) -> RuleText | None:
        """Return the text for output: the elements of a long set are replaced by their number.

        Args:
            part: as of ``text``.
            at: as of ``text``.
        """
        found = self.text(part, at)
        if found is None:
            return None
        text = elide_sets(found.text)
        return found if text is found.text else found._replace(text=text)
