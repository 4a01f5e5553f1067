"""Make the fields of Config and the keywords of the Python API from the flag table."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from pypwru.cli.flags import FLAGS, Flag, InfoRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDTH = 100  # columns
_MADE = "``make generate`` makes this from ``cli/flags.py``."
_REQUESTS = {request.value for request in InfoRequest}


def config_fields() -> str:
    """Return the module ``pypwru.config_fields``."""
    flags = [flag for flag in FLAGS if flag.field not in _REQUESTS]
    docs = [
        ("pcap_filter", "the positional words joined with one space; empty matches every packet"),
        *((flag.field, _describe(flag)) for flag in flags),
        ("packets", "capture the packet at every event, for the Python API; there is no such flag"),
    ]
    return f'''"""The fields of a Config. {_MADE}"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from pypwru.config import Backend, MarkFilter, NftOutput, Timestamp


class ConfigFields(NamedTuple):
    """The values of the flags, by the flags' names.

    Args:
{_arguments(docs)}
    """

    pcap_filter: str
{_annotations((flag.field, _field_type(flag)) for flag in flags)}
    packets: bool = False
'''


def trace_options() -> str:
    """Return the module ``pypwru.api.trace_options``."""
    flags = [flag for flag in FLAGS if not flag.no_keyword]
    rows = [(flag.field, _keyword_type(flag)) for flag in flags]
    docs = [(f"{name} ({kind})", flag.help) for (name, kind), flag in zip(rows, flags, strict=True)]
    return f'''"""The keywords of ``pypwru.trace``. {_MADE}"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict

from pypwru.config import Backend, NftOutput

if TYPE_CHECKING:
    from typing import TypeAlias

    Words: TypeAlias = "str | Iterable[str]"
    """Names, or a single string with names separated by commas."""
    File: TypeAlias = "str | os.PathLike[str]"


class TraceOptions(TypedDict, total=False):
    """The keywords of ``trace``.

    Args:
{_arguments(docs)}
    """

{_annotations(rows)}
'''


def _field_type(flag: Flag) -> str:
    return flag.value_type.python + _or_none(flag)


def _keyword_type(flag: Flag) -> str:
    return (flag.value_type.keyword or flag.value_type.python) + _or_none(flag)


def _or_none(flag: Flag) -> str:
    """None stands for the automatic choice, if that is the default."""
    return " | None" if flag.value_type.choices and not flag.default else ""


def _describe(flag: Flag) -> str:
    return f"{flag.help}; None by default" if _field_type(flag).endswith(" | None") else flag.help


def _arguments(docs: Iterable[tuple[str, str]]) -> str:
    """Return the rows of a docstring's section Args, without a line end."""
    return "\n".join(
        line
        for name, text in docs
        for line in wrap(
            f"{name}: {text}" + "." * (not text.endswith(".")),
            _WIDTH,
            initial_indent=" " * 8,
            subsequent_indent=" " * 12,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def _annotations(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"    {name}: {kind}" for name, kind in rows)
