"""The layout: C macros of the offsets and sizes of struct members in the running kernel.

bpf/fields.h lists the members, and describes the macros.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from pypwru.btf.members import find_member, has_member
from pypwru.btf.types import Field, Kind

if TYPE_CHECKING:
    from pypwru.btf.query import BTF

_ROW = re.compile(
    r"^(REQUIRED|OPTIONAL|IN_SKB_BLOCK|STRUCT_SIZE|BTF_ID)\((\w+)(?:, (\w+), [\w *]+)?\)$",
    re.MULTILINE,
)


def _field_macros(struct: str, member: str, field: Field) -> list[str]:
    lines = [f"#define FIELD_{struct}_{member} {field.offset}"]
    lines += [f"#define SIZE_{struct}_{member} {field.size}"]
    if field.bit_size:
        lines.append(f"#define BIT_{struct}_{member} {field.bit_offset}")
    return lines


class ModuleTypes(Protocol):
    """Source of struct members that the BTF of vmlinux lacks: those of a module."""

    def member(self, struct: str, path: str) -> Field | None:
        """Return the location as ``find_member``; None if there is no such struct or member."""


def build_layout(fields: str, btf: BTF, *modules: ModuleTypes) -> str:
    """Return the layout as C text, to be put before the sources.

    Args:
        fields: C text of the list, bpf/fields.h.
        btf: types of the kernel that will run the handlers.
        modules: searched in this order for optional members that ``btf`` lacks.

    Raises:
        BTFError: the kernel lacks a member that isn't optional.
    """
    rows = sorted(_ROW.findall(fields))
    lines: list[str] = []
    for kind, struct, member in rows:
        if kind in ("REQUIRED", "OPTIONAL"):
            path = member.replace("__", ".") if not member.startswith("_") else member
            field: Field | None
            if kind == "OPTIONAL" and not has_member(btf, struct, path):
                in_modules = (module.member(struct, path) for module in modules)
                field = next(filter(None, in_modules), None)
            else:
                field = find_member(btf, struct, path)
            if field is not None:
                lines += _field_macros(struct, member, field)
    block = [find_member(btf, "sk_buff", name) for kind, name, _ in rows if kind == "IN_SKB_BLOCK"]
    start = min(field.offset for field in block) & ~7
    end = max(field.offset + field.size for field in block)
    lines += [f"#define BLOCK_START {start}", f"#define BLOCK_SIZE {end - start}"]
    for kind, struct, _ in rows:
        if kind == "BTF_ID":
            lines.append(f"#define TYPE_ID_{struct} {btf.find(struct, Kind.STRUCT)[0]}")
        elif kind == "STRUCT_SIZE" and (ids := btf.find(struct, Kind.STRUCT)):
            lines.append(f"#define SIZE_OF_{struct} {btf.size(ids[0])}")
    return "\n".join(lines) + "\n"
