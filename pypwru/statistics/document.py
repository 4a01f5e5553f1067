"""A summary as one JSON document, described by ``pypwru/data/statistics.schema.json``."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from pypwru.statistics.losses import describe_losses
from pypwru.version import __version__

if TYPE_CHECKING:
    from pypwru.statistics.latencies import Latency
    from pypwru.statistics.summary import DropCount, HandlerCost, HopLatency, RuleCount, Summary


def render_document(summary: Summary) -> str:
    """Return the document with a newline at its end."""
    text = json.dumps(_summary_json(summary), ensure_ascii=False, indent=1)
    # Names of processes and texts of rules may have bytes that aren't UTF-8 (PEP 383).
    return text.encode(errors="replace").decode() + "\n"


def _summary_json(summary: Summary) -> dict[str, object]:
    return {
        "version": __version__,
        "kernel": os.uname().release,
        "began": _iso_time(summary.began),
        "time": _iso_time(summary.now),
        "seconds": round(summary.seconds, 3),
        "final": summary.is_final,
        "events": summary.events,
        "packets": summary.packets,
        "flows": summary.flows,
        "functions": [{"function": row.function, "hits": row.hits} for row in summary.functions],
        "drops": [_drop_json(row) for row in summary.drops],
        "nft_rules": [_rule_json(row) for row in summary.rules],
        "latency": _latency_json(summary.latency) if summary.latency else None,
        "hops": [_hop_json(hop) for hop in summary.hops],
        "top_flows": [flow._asdict() for flow in summary.top_flows],
        "complete": not describe_losses(summary.counters),
        "counters": summary.counters,
        "throttled": summary.throttled,
        "skbs_evicted": summary.skbs_evicted,
        "flow_events_over_limit": summary.flow_events_over_limit,
        "cost": None if summary.cost is None else [_handler_json(each) for each in summary.cost],
    }


def _iso_time(nanoseconds: int) -> str:
    """Return ISO 8601 with microseconds, in UTC, of ns since the epoch."""
    return datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc).isoformat("T", "microseconds")


def _drop_json(row: DropCount) -> dict[str, object]:
    return {**row.drop._asdict(), "drops": row.drops, "events": row.events}


def _rule_json(row: RuleCount) -> dict[str, object]:
    return {**row.rule._asdict(), "events": row.events}


def _latency_json(latency: Latency) -> dict[str, object]:
    ranks = {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99, "max": latency.max}
    return {"packets": latency.packets, "exact": latency.is_exact, **_with_ns_suffix(ranks)}


def _hop_json(hop: HopLatency) -> dict[str, object]:
    times = _with_ns_suffix({"total": hop.total, "mean": hop.mean, "max": hop.max})
    return {"from": hop.source, "to": hop.target, "times": hop.times, **times}


def _handler_json(cost: HandlerCost) -> dict[str, object]:
    times = _with_ns_suffix({"total": cost.total, "mean": cost.mean})
    return {"handler": cost.handler, "hits": cost.hits, **times}


def _with_ns_suffix(values: dict[str, int]) -> dict[str, int]:
    return {f"{name}_ns": value for name, value in values.items()}
