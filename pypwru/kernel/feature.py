"""A feature of the kernel as a row: since when, how to probe for it, and what its lack costs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Undetermined(Exception):
    """A probe can't find out whether the kernel has the feature; the text is one line, why."""


class Feature(NamedTuple):
    """A feature of the kernel that pypwru uses.

    Args:
        name: unique among the features; a few words.
        since: version of Linux that has it first, such as "5.18", if the version and ``options``
            alone decide; empty if every supported kernel has it, or something else decides.
        options: build options of the kernel that it needs.
        probe: tries it, for a moment at most, on the running kernel. Its argument has the facts
            that it needs (attach/support.py: TrialTarget, features/kernel.py: Kernel). Returns a
            remark for the user, or "". Raises PypwruError if the kernel lacks it, with the cause,
            or Undetermined.
        cost: what its lack costs the user; one line.
        cure: what the user can do about its lack; empty for what follows from ``since``
            and ``options``, or from the cause.
        is_fixed: a kernel that has it has it until the next boot.
        needs_root: without the capabilities that tracing needs, the probe can't find out.
    """

    name: str
    since: str
    options: tuple[str, ...]
    probe: Callable[[Any], str]
    cost: str
    cure: str = ""
    is_fixed: bool = False
    needs_root: bool = True

    @property
    def requirement(self) -> str:
        """What it needs, for messages: ``Linux 5.18 and CONFIG_FPROBE``."""
        return " and ".join((f"Linux {self.since}", *self.options))

    def default_cure(self, release: str) -> str:
        """Return the cure that follows from ``since`` and ``options``; empty for none.

        Args:
            release: of the kernel that lacks it, as of uname(2).
        """
        options = " and ".join(self.options)
        if self.since and parse_version(release) < parse_version(self.since):
            return f"boot Linux {self.since} or newer" + (options and f", built with {options}")
        return options and f"boot a kernel built with {options}"


def parse_version(text: str) -> tuple[int, int]:
    """Return (major, minor) of a kernel's version or release: "5.18", "6.1.0-44-amd64"."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
