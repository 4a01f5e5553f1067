"""Make what documents the fields of events: the schema of --output-json, and the tables of columns.

``tools/data/event.schema.json`` has all of the schema but its properties and the types of events.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pypwru.output.columns import COLUMNS
from pypwru.output.fields import FIELDS, Field
from pypwru.wire.kinds import DROP_TYPE, FUNCTION, KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WIDTH = 100  # characters of a line of JSON
_FRAME = Path(__file__).with_name("data") / "event.schema.json"


def schema() -> str:
    """Return ``pypwru/data/event.schema.json``."""
    frame = json.loads(_FRAME.read_text(encoding="utf-8"))
    others = (kind.json_type for kind in KINDS.values())
    types = dict.fromkeys((FUNCTION.json_type, DROP_TYPE, *others))  # each once
    definitions = {**frame.pop("$defs"), "type": {"enum": [*types]}}
    properties = {
        field.key: {
            "description": _sentence(describe(field)),
            "$ref": f"#/$defs/{field.schema}",
        }
        for field in FIELDS
    }
    return _format({**frame, "properties": properties, "$defs": definitions}) + "\n"


def describe(field: Field) -> str:
    """Return the description of a field, with the flag that it needs."""
    return f"with {field.option}: {field.doc}" if field.option else field.doc


def by_title() -> Mapping[str, str]:
    """Return title -> description of the columns of text, in their order."""
    order = [column.name for column in COLUMNS]
    shown = sorted((one for one in FIELDS if one.titles), key=lambda one: order.index(one.key))
    return {", ".join(field.titles): describe(field) for field in shown}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _format(value: object, indent: str = "") -> str:
    """Return ``value`` as JSON: on one line if that fits, else with a line per member."""
    whole = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(indent) + len(whole) < _WIDTH - 24:
        return whole
    deeper = f"{indent}  "
    if isinstance(value, dict):
        members: Iterable[str] = (
            f"{json.dumps(key)}: {_format(member, deeper)}" for key, member in value.items()
        )
        opening, closing = "{}"
    else:
        members = (_format(member, deeper) for member in value)
        opening, closing = "[]"
    return f"{opening}\n" + ",\n".join(f"{deeper}{one}" for one in members) + f"\n{indent}{closing}"
