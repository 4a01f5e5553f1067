"""The report as a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from pypwru.features.report import Answer, Report


def json_document(report: Report, kernel: str, now: datetime) -> dict[str, object]:
    """Return the JSON document of --features --output-json.

    Args:
        report: of the running kernel.
        kernel: its release.
        now: the time of the document, with a time zone.
    """
    return {
        "metadata": {
            "timestamp": now.isoformat(timespec="seconds"),
            "kernel": kernel,
            "backend": report.backend.value if report.backend else None,
            "targets": report.targets if report.backend else None,
            "note": report.note or None,
        },
        "features": [_json_answer(answer) for answer in report.answers],
    }


def _json_answer(answer: Answer) -> dict[str, object]:
    is_lacking = answer.is_here is False
    return {
        "name": answer.feature.name,
        "since": answer.feature.since or None,
        "options": list(answer.feature.options),
        "here": answer.is_here,
        "remark": answer.remark or None,
        "cost": answer.feature.cost if is_lacking else None,
        "cure": answer.cure or None,
    }
