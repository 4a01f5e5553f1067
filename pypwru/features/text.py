"""The report as a table, with what a lack costs and its cure below its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.escaping import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.features.report import Answer, Report

_HEADER = ("FEATURE", "SINCE", "HERE")
_HERE = {True: "yes", False: "no", None: "unknown"}
_EVERY_KERNEL = "-"
_INDENT = "    "


def table(report: Report) -> str:
    """Return the table, and a last line with the backend of a trace without options."""
    rows = [_HEADER, *((one.feature.name, _since(one), _here(one)) for one in report.answers)]
    name_width, since_width = (
        max(map(len, column)) for column in list(zip(*rows, strict=True))[:2]
    )
    comments = [(), *map(_comments, report.answers)]
    lines = []
    for (name, since, here), comment in zip(rows, comments, strict=True):
        lines.append(f"{name:{name_width}}  {since:{since_width}}  {here}")
        lines += [_INDENT + escape_unprintable(line) for line in comment]
    lines += ["", *map(escape_unprintable, _backend(report))]
    return "".join(f"{line}\n" for line in lines)


def _since(answer: Answer) -> str:
    return answer.feature.since or _EVERY_KERNEL


def _here(answer: Answer) -> str:
    here = _HERE[answer.is_here]
    has_remark = answer.remark and answer.is_here is not False
    return escape_unprintable(f"{here}: {answer.remark}") if has_remark else here


def _comments(answer: Answer) -> Iterator[str]:
    """Yield the lines below a row: the cause of a lack, what it costs, and its cure."""
    if answer.is_here is False:
        yield f"why:  {answer.remark}"
        yield f"cost: {answer.feature.cost}"
        if answer.cure:
            yield f"cure: {answer.cure}"


def _backend(report: Report) -> Iterator[str]:
    """Yield the line of the backend, and why it is that one."""
    if report.backend is None:
        yield f"Backend of a trace without options: unknown: {report.note}"
        return
    name = report.backend.value
    yield f"Backend of a trace without options: {name}, on {report.targets} targets"
    if report.note:
        yield f"{_INDENT}why:  {report.note}"
