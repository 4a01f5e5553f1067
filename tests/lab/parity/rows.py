"""The rows of the parity suite: which run on a kernel, in which tier, and their words."""

from __future__ import annotations

from collections.abc import Mapping

from pypwru.config import Config
from tests.lab.kernels import REFERENCE, Tier
from tests.lab.parity import conntrack_row
from tests.lab.parity.invocations import INVOCATIONS, Invocation
from tests.lab.parity.tracking import CONTROLS
from tests.lab.vm import warm_cache

_VALUES = {"folder": "/run/parity", "inode": "1", "btf": "/sys/kernel/btf/vmlinux"}

ROWS: Mapping[str, Invocation] = {**INVOCATIONS, **CONTROLS, conntrack_row.NAME: conntrack_row.ROW}


def names(kernel: str, tier: Tier) -> list[str]:
    """Which rows run on ``kernel``: all on one, the cheap ones on the others and in a hurry."""
    whole = kernel == REFERENCE and tier is Tier.FULL
    return [name for name, row in ROWS.items() if whole or row.cheap]


def command(name: str) -> list[str]:
    """The row's words, with values that are as good here as the guest's."""
    return ROWS[name].own(_VALUES)


def configured(name: str) -> Config | None:
    """What the run is asked for; None when it is refused or isn't a run."""
    return warm_cache.configured(command(name))
