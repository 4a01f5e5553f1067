"""The layout: C macros of the offsets and sizes of struct members in the running kernel.

The members are those that the C refers to: ``FIELD(struct, member)``, ``OPTIONAL_FIELD(struct,
member)`` for members that some kernels lack, ``SKB_BLOCK(type, member)`` for members of struct
sk_buff that are read together in one block, ``TYPE_ID(struct)`` for the BTF type id, and
``SIZE_OF(struct)`` for the size in bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from pypwru.btf.members import find_member, has_member
from pypwru.btf.types import Field, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pypwru.btf.query import BTF

_FIELD = re.compile(r"\b(OPTIONAL_)?FIELD\((\w+), (\w+)\)")
_TYPE_ID = re.compile(r"\bTYPE_ID\((\w+)\)")
_SIZE_OF = re.compile(r"\bSIZE_OF\((\w+)\)")
_SKB_BLOCK = re.compile(r"\bSKB_BLOCK\(\w+, (\w+)\)")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def _code_lines(sources: Iterable[str]) -> list[str]:
    """Return the lines that may use the macros: without comments and macro definitions."""
    return [
        line
        for text in sources
        for line in _COMMENT.sub(" ", text).splitlines()
        if not line.lstrip().startswith("#define")
    ]


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


def build_layout(sources: Iterable[str], btf: BTF, *modules: ModuleTypes) -> str:
    """Return the layout as C text, to be put before ``sources``.

    Args:
        sources: C texts that use the macros.
        btf: types of the kernel that will run them.
        modules: searched in this order for optional members that ``btf`` lacks.

    Raises:
        BTFError: the kernel lacks a member that isn't optional.
    """
    optional_by_member: dict[tuple[str, str], bool] = {}
    block_members: set[str] = set()
    types: set[str] = set()
    sizes: set[str] = set()
    for line in _code_lines(sources):
        for optional, struct, member in _FIELD.findall(line):
            optional_by_member[struct, member] = bool(optional)
        block_members.update(_SKB_BLOCK.findall(line))
        types.update(_TYPE_ID.findall(line))
        sizes.update(_SIZE_OF.findall(line))
    lines: list[str] = []
    for (struct, member), optional in sorted(optional_by_member.items()):
        path = member.replace("__", ".") if not member.startswith("_") else member
        field: Field | None
        if optional and not has_member(btf, struct, path):
            in_modules = (module.member(struct, path) for module in modules)
            field = next(filter(None, in_modules), None)
        else:
            field = find_member(btf, struct, path)
        if field is not None:
            lines += _field_macros(struct, member, field)
    fields = {member: find_member(btf, "sk_buff", member) for member in sorted(block_members)}
    for member, field in fields.items():
        if ("sk_buff", member) not in optional_by_member:
            lines += _field_macros("sk_buff", member, field)
    start = min(field.offset for field in fields.values()) & ~7
    end = max(field.offset + field.size for field in fields.values())
    lines += [f"#define BLOCK_START {start}", f"#define BLOCK_SIZE {end - start}"]
    lines += [f"#define TYPE_ID_{name} {btf.find(name, Kind.STRUCT)[0]}" for name in sorted(types)]
    known_sizes = {name: btf.find(name, Kind.STRUCT) for name in sorted(sizes)}
    lines += [f"#define SIZE_OF_{n} {btf.size(ids[0])}" for n, ids in known_sizes.items() if ids]
    return "\n".join(lines) + "\n"
