"""The choice of a backend and its plan, kept for the next start.

What is traced depends on the types, on what ftrace can hook, on addresses, and on the flags. A key
of all of them finds the answer again, so that a warm start reads neither BTF nor /proc/kallsyms nor
available_filter_functions. The kernel has the last word: the backend is tried again before the
answer is used, and an address that is no function any more can't be attached to.
"""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.cache import package_digest
from pypwru.config import Backend
from pypwru.discovery.functions import Function, Refused
from pypwru.discovery.plan import AttachPlan, Handler
from pypwru.discovery.tracepoints import Tracepoint
from pypwru.kernel.identity import addresses_identity
from pypwru.kernel.kallsyms import Symbols

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pypwru.attach.backend import Search
    from pypwru.cache import Cache
    from pypwru.discovery.plan import Groups

# What decides over a plan: a change of this code makes the kept ones stale.
_CODE = ("attach", "btf", "data", "discovery", "kernel")


class KeptPlan(NamedTuple):
    """An answer of an earlier start.

    Args:
        plan: what to attach, and by which backend.
        symbols: those that are looked up by name while attaching; None for tracepoints.
        why: of the log line "Chose backend".
        verdict_hooks: as of Choice.
        trial_addresses, trial_type: of the function that a backend is tried on.
    """

    plan: AttachPlan
    symbols: Symbols | None
    why: str
    verdict_hooks: Groups
    trial_addresses: tuple[int, ...]
    trial_type: int


def plan_key(wanted: Backend | None, search: Search) -> str | None:
    """The key of what ``search`` leads to on this boot; None where nothing may be kept.

    Args:
        wanted: of --backend.
    """
    addresses = addresses_identity()
    # The helpers that loaded BPF programs call change from one moment to the next.
    if addresses is None or search.tracking.functions is not None:
        return None
    selection = search.selection
    asked = [
        wanted.value if wanted else "",
        selection.filter_func,
        selection.priority,
        sorted(selection.categories),
        None if selection.only is None else sorted(selection.only),
        sorted(selection.also),
        [*search.tracking],
        search.optional,
        search.running,
        sorted(search.modules),
    ]
    return "plan-" + package_digest(
        _CODE, addresses, search.btf.identity, json.dumps(asked, default=str)
    )


def find_plan(key: str | None, cache: Cache) -> KeptPlan | None:
    """The answer that was kept under ``key``."""
    kept = cache.find_json(key) if key else None
    if kept is None:
        return None
    names, addresses = kept["symbols"] or ((), ())
    return KeptPlan(
        _read_plan(kept["plan"]),
        Symbols(list(names), array("Q", addresses)) if kept["symbols"] else None,
        kept["why"],
        _read_groups(kept["verdict_hooks"]),
        tuple(kept["trial_addresses"]),
        kept["trial_type"],
    )


def keep_plan(key: str | None, cache: Cache, answer: KeptPlan) -> None:
    """Keep ``answer`` under ``key``; ``answer.symbols`` should be the few that are needed."""
    if key is None:
        return
    symbols = answer.symbols
    cache.put_json(
        key,
        {
            "plan": _plan(answer.plan),
            "symbols": symbols and ([*symbols.displays], [*symbols.values]),
            "why": answer.why,
            "verdict_hooks": _groups(answer.verdict_hooks),
            "trial_addresses": answer.trial_addresses,
            "trial_type": answer.trial_type,
        },
    )


def _plan(plan: AttachPlan) -> dict[str, Any]:
    return {
        "backend": plan.backend.value,
        "groups": _groups(plan.groups),
        "hooks": _groups(plan.hooks),
        "tracepoints": plan.tracepoints,
        "refused": plan.refused,
        "follows": plan.follows,
        "probes": plan.probes and _plan(plan.probes),
        "type_ids": [*plan.type_ids.items()],
    }


def _groups(groups: Groups) -> list[tuple[Handler, tuple[Function, ...]]]:
    return [*groups.items()]


def _read_plan(kept: dict[str, Any]) -> AttachPlan:
    return AttachPlan(
        Backend(kept["backend"]),
        _read_groups(kept["groups"]),
        _read_groups(kept["hooks"]),
        tuple(Tracepoint(*fields) for fields in kept["tracepoints"]),
        tuple(Refused(_function(function), why) for function, why in kept["refused"]),
        kept["follows"],
        kept["probes"] and _read_plan(kept["probes"]),
        dict(kept["type_ids"]),
    )


def _read_groups(kept: Iterable[Any]) -> Groups:
    return {Handler(*handler): tuple(map(_function, functions)) for handler, functions in kept}


def _function(fields: list[Any]) -> Function:
    fields[4] = tuple(fields[4])  # addresses
    return Function(*fields)
