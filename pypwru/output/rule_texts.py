"""The text of the rule that a part of a record names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pypwru.output.nft_part import Handles, handles
from pypwru.resolve.ruleset import shown

if TYPE_CHECKING:
    from pypwru.resolve.ruleset import RuleText


class Rules(Protocol):
    """What is known of rules: ``pypwru.resolve.rules``, and a stand-in in tests."""

    changes: int
    """Grows whenever any answer may be another than before."""

    def rule(
        self, netns: int, table: int, chain: int, rule: int, at: int | None = None
    ) -> RuleText | None:
        """A rule, as it was at a time of the kernel's clock; None while it isn't known."""

    def hear(self) -> bool:
        """Take in what the kernel told of changes so far; False if there is more."""

    def is_read(self, netns: int, at: int) -> bool:
        """Whether rules of a namespace are being read, and were not since a time in ns."""

    def wait(self, timeout: float) -> bool:
        """Until all that was asked for is known; False: not within ``timeout`` seconds."""

    def wait_listed(self, timeout: float) -> bool:
        """Until all is listed that is to be; False: not within ``timeout`` seconds."""


class RuleTexts:
    """Texts of rules by parts.

    Args:
        rules: that are known.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def named(self, part: bytes) -> Handles | None:
        """The rule that a part names; None where there is none."""
        found = handles(part)
        return found if found[-1] else None

    def text(self, part: bytes, at: int) -> RuleText | None:
        """What it says; None where there is none, or it isn't known.

        Args:
            part: ``struct part_nft``, and anything behind it.
            at: when that was said; CLOCK_MONOTONIC, ns.
        """
        netns, table, chain, rule = handles(part)
        return self.rules.rule(netns, table, chain, rule, at) if rule else None

    def shown(self, part: bytes, at: int) -> RuleText | None:
        """The same, with the number of elements in the place of a long set's."""
        found = self.text(part, at)
        if found is None:
            return None
        text = shown(found.text)
        return found if text is found.text else found._replace(text=text)
