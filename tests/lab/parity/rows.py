"""The rows of the parity suite: which run on a kernel, in which tier, and their command lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pypwru.config import Config
from tests.lab.kernels import REFERENCE, Tier
from tests.lab.parity import conntrack_row
from tests.lab.parity.invocations import INVOCATIONS, Invocation
from tests.lab.parity.tracking import CONTROLS
from tests.lab.vm import warm_cache

_VALUES = {"folder": "/run/parity", "inode": "1", "btf": "/sys/kernel/btf/vmlinux"}
# Cheap rows that the quick tier leaves to the full one: each has a column or a condition less than
# another that stays, or one that expressions and formats have tests of elsewhere.
_LATER = {
    "no_meta", "no_tuple", "current", "absolute", "metadata", "limit", "words_anywhere",
    "namespace_path", "skb_expression",
}  # fmt: skip

ROWS: Mapping[str, Invocation] = {**INVOCATIONS, **CONTROLS, conntrack_row.NAME: conntrack_row.ROW}


def names(kernel: str, tier: Tier) -> list[str]:
    """Return the rows that run on ``kernel``: all on one, the cheap ones on the others."""
    if tier is Tier.QUICK:
        return [name for name, row in ROWS.items() if row.cheap and name not in _LATER]
    return [name for name, row in ROWS.items() if row.cheap or kernel == REFERENCE]


def command(name: str) -> list[str]:
    """Return the row's words, with values that are as good here as the guest's."""
    return ROWS[name].own(_VALUES)


def commands(kernel: str, tier: Tier) -> list[Sequence[str]]:
    """Return pypwru's command lines on ``kernel``; on one it runs most rows as JSON, too."""
    found: list[Sequence[str]] = [command(name) for name in names(kernel, tier)]
    if kernel == REFERENCE:
        found += [["--output-json", *command(name)] for name, row in ROWS.items() if row.also_json]
    return found


def configured(name: str) -> Config | None:
    """Return the run's config; None when its arguments are invalid or it isn't a run."""
    return warm_cache.configured(command(name))
