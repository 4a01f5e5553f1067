"""Look-up of enums and enumerators by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.argument_index import indexes_of
from pypwru.btf.types import Kind
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.btf.parse import Blob
    from pypwru.btf.query import BTF


def find_enum(btf: BTF, name: str) -> dict[str, int]:
    """Return name -> value of ``enum name``.

    Several enums of that name are merged; the one with the lowest type id takes precedence.

    Raises:
        BTFError: there is none; malformed BTF.
    """
    ids = btf.find(name, Kind.ENUM, Kind.ENUM64)
    if not ids:
        raise BTFError(f"no enum {name} in this kernel's BTF")
    values: dict[str, int] = {}
    for type_id in reversed(ids):
        values.update(btf.enumerators(type_id))
    return values


def find_values(btf: BTF, enumerator: str) -> Iterator[int]:
    """Yield the values of ``enumerator`` in all enums that have it.

    Decodes every enum: slow.

    Raises:
        BTFError: malformed BTF.
    """
    blob: Blob | None = btf.blob
    while blob is not None:
        for kind in (Kind.ENUM, Kind.ENUM64):
            for index in indexes_of(blob, kind):
                values = btf.enumerators(index + blob.first_id)
                if enumerator in values:
                    yield values[enumerator]
        blob = blob.base
