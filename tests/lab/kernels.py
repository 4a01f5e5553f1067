"""The lab's kernels: one row each, and the only place that names them.

A kernel is added by adding its row. Packages, boots, parameters of tests, the bytecode cache and
``make test`` all follow from it; tests/README.md shows how. A test's expectations of a kernel
depend on the row's features, not on its version.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from enum import Enum
from typing import NamedTuple


class Tier(Enum):
    """The tier of a run, by ``PYPWRU_TIER``; full without it."""

    QUICK = "quick"
    FULL = "full"


class Feature(Enum):
    """A fact on which a test's expectation depends, with the kernel that brought it."""

    MODULE_BTF = "modules have type information (Linux 5.11)"
    DROP_REASONS = "a freed packet has a drop reason (Linux 5.17)"
    KFREE_SKB_REASON = "each drop passes kfree_skb_reason() (Linux 5.17 to 6.10)"
    KPROBE_MULTI = "a link takes many kprobes (Linux 5.18, CONFIG_FPROBE)"
    FENTRY_MULTI = "a link takes many fentry programs (Linux 7.2)"
    OWNED_TABLES = "a table of nftables may have an owner (Linux 5.12)"
    CATCHALL = "a set of nftables may have an element * for all others (Linux 5.13)"
    EGRESS = "nftables has a hook of what leaves a device (Linux 5.16)"
    EBTABLES = "Debian builds the tables of ebtables-legacy (up to Linux 6.12)"


EVERY = frozenset(
    {
        "capture", "corpus", "drops", "expression", "fentry", "lists", "main_job", "parity", "pcap",
        "programs", "rule_texts", "sampling", "statistics", "storm", "switches", "truth",
        "user_spaces", "vm",
    }
)  # fmt: skip
"""The lab's suites; suites.py has the job of each."""


class Kernel(NamedTuple):
    """A kernel of Debian's.

    Args:
        name: the lab's name of it, as in ``tests/lab/boot NAME``.
        debian: the suites of the Debian archive that have it, the likeliest first.
        features: those it has.
        quick: the suites that run on it in the quick tier.
        full: those that run on it in the full tier.
        series: the beginning of its version, where that is not ``name``.
        reference: whether steps for which one kernel is enough run on this one.
        quick_without: ``SUITE STEP`` that the quick tier leaves to other kernels; tests of such a
            step have the mark ``step``.
    """

    name: str
    debian: Sequence[str]
    features: Collection[Feature]
    quick: Collection[str]
    full: Collection[str] = EVERY
    series: str = ""
    reference: bool = False
    quick_without: Collection[str] = ()

    def steps_without(self, suite: str) -> list[str]:
        """Return the steps of ``suite`` that the quick tier leaves to other kernels."""
        split = (each.partition(" ") for each in self.quick_without)
        return [step for name, _, step in split if name == suite]

    def has(self, feature: Feature) -> bool:
        return feature in self.features

    @property
    def version(self) -> str:
        """Return the beginning of its version."""
        return self.series or self.name

    @property
    def kprobes(self) -> str:
        """Return the backend of kprobes, with which the others are compared."""
        return "kprobe-multi" if self.has(Feature.KPROBE_MULTI) else "kprobe"

    @property
    def automatic(self) -> str:
        """Return the automatic backend for more than a few functions."""
        return "fentry-multi" if self.has(Feature.FENTRY_MULTI) else self.kprobes

    @property
    def automatic_for_few(self) -> str:
        """Return the automatic backend for a few functions: fentry where no link takes many."""
        return "fentry" if self.automatic == "kprobe" else self.automatic


_OF_6_1 = (
    Feature.MODULE_BTF,
    Feature.DROP_REASONS,
    Feature.OWNED_TABLES,
    Feature.CATCHALL,
    Feature.EGRESS,
)
_NEW = (*_OF_6_1, Feature.KPROBE_MULTI)

KERNELS: Sequence[Kernel] = (
    Kernel(
        "5.10",
        debian=("bullseye",),
        features=(Feature.EBTABLES,),
        quick=("main_job", "truth", "rule_texts", "expression", "switches"),
        full=EVERY - {"statistics", "storm"},
        quick_without=("main_job tracepoint", "rule_texts killed"),
    ),
    Kernel(
        "6.1",
        debian=("bookworm",),
        features=(*_OF_6_1, Feature.KFREE_SKB_REASON, Feature.EBTABLES),
        quick=("main_job", "parity", "statistics"),
        full=EVERY - {"rule_texts", "corpus", "storm"},
        quick_without=("main_job cold", "main_job tracepoint", "main_job legacy"),
    ),
    Kernel(
        "6.12",
        debian=("trixie", "bookworm-backports"),
        features=(*_NEW, Feature.EBTABLES),
        quick=("main_job", "sampling", "capture", "corpus", "lists", "user_spaces", "vm"),
        reference=True,
        quick_without=(
            "main_job cold",
            "main_job tracepoint",
            "main_job legacy",
            "lists lists",
            "lists attached",
        ),
    ),
    Kernel(
        "7.2",
        debian=("sid", "forky"),
        features=(*_NEW, Feature.FENTRY_MULTI),
        quick=("main_job", "fentry", "programs", "drops", "pcap"),
        full=EVERY - {"rule_texts", "statistics", "storm"},
        quick_without=(
            "main_job cold",
            "main_job legacy",
            "fentry following",
            "fentry few",
            "fentry many",
            "programs tracked",
            "programs tail_call",
            "programs helpers",
        ),
    ),
)
_BY_NAME = {kernel.name: kernel for kernel in KERNELS}
(REFERENCE,) = (kernel.name for kernel in KERNELS if kernel.reference)


def kernel(name: str) -> Kernel:
    """Return the row of ``name``."""
    return _BY_NAME[name]


def names(suite: str, *features: Feature) -> list[str]:
    """Return kernels on which ``suite`` runs in the full tier, of those that have ``features``."""
    return [one.name for one in KERNELS if suite in one.full and set(features) <= {*one.features}]


def tier() -> Tier:
    """Return the tier that ``PYPWRU_TIER`` names."""
    return Tier(os.environ.get("PYPWRU_TIER") or Tier.FULL.value)


def runs(suite: str, name: str, current_tier: Tier) -> bool:
    """Return whether ``suite`` runs on the kernel ``name`` in this tier."""
    row = kernel(name)
    return suite in (row.quick if current_tier is Tier.QUICK else row.full)
