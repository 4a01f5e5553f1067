"""C declarations from BTF, spelled as in the kernel's sources.

A declarator is built from the name outwards (ISO C 6.7.6; libbpf's btf_dump does the same):
pointers go before it, arrays and parameter lists after it, and a pointer to either of those is
put in parentheses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.types import Kind, Type
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from pypwru.btf.query import BTF

# The longest prototype of a kernel takes some 60 steps and is nested 3 deep. These limits stop at
# malformed BTF, in which a type may refer to itself.
MAX_STEPS = 4096
MAX_DEPTH = 32

_QUALIFIERS = {Kind.CONST: "const", Kind.VOLATILE: "volatile", Kind.RESTRICT: "restrict"}
_TAGS = {Kind.STRUCT: "struct ", Kind.UNION: "union ", Kind.ENUM: "enum ", Kind.ENUM64: "enum "}


def declare(btf: BTF, type_id: int, declarator: str) -> str:
    """Return the C declaration of ``declarator`` as ``type_id``, without a semicolon.

    Args:
        btf: the types that ``type_id`` is of.
        type_id: of any kind.
        declarator: a name, or empty for an abstract declaration.

    Raises:
        BTFError: the type refers to itself, or to one that does not exist.
    """
    return _Declaration(btf).render(type_id, declarator)


def declare_function(btf: BTF, name: str) -> str:
    """Return the C declaration of function ``name``, without a semicolon.

    A function of these types takes precedence over one of their base.

    Raises:
        BTFError: there is no such function; as ``declare``.
    """
    ids = btf.find(name, Kind.FUNC)
    if not ids:
        raise BTFError(f"no function {name} in this kernel's BTF")
    func_id = next((candidate for candidate in ids if candidate in btf.ids()), ids[0])
    return declare(btf, btf.type(func_id).type, name)


def _tag(found: Type) -> str:
    """Return ``__user`` for btf_type_tag("user").

    With kind_flag (since Linux 6.15) the name is that of any attribute.
    """
    return f"__attribute__(({found.name}))" if found.kind_flag else "__" + found.name


class _Declaration:
    def __init__(self, btf: BTF) -> None:
        self._btf = btf
        self._steps = MAX_STEPS
        self._depth = 0

    def render(self, type_id: int, declarator: str) -> str:
        qualifiers: list[str] = []
        tags: list[str] = []
        nested = False  # the declarator is a pointer: a suffix needs parentheses around it
        while True:
            self._count_step(type_id)
            found = self._btf.type(type_id)
            if found.kind in _QUALIFIERS:
                qualifiers.append(_QUALIFIERS[found.kind])
            elif found.kind is Kind.TYPE_TAG:
                tags.append(_tag(found))
            elif found.kind is Kind.PTR:
                declarator = "*" + " ".join(filter(None, [*tags, *qualifiers, declarator]))
                qualifiers, tags, nested = [], [], True
            elif found.kind in (Kind.ARRAY, Kind.FUNC_PROTO):
                self._depth += 1
                declarator = f"({declarator})" if nested else declarator
                declarator += self._suffix(type_id, found.kind)
                nested = False
                self._depth -= 1
            else:
                words = [*qualifiers, self._base(type_id), *tags, declarator]
                return " ".join(filter(None, words))
            type_id = found.type

    def _suffix(self, type_id: int, kind: Kind) -> str:
        if kind is Kind.ARRAY:
            return f"[{self._btf.array(type_id).nelems}]"
        params = self._btf.params(type_id)
        last = len(params) - 1
        rendered = [
            "..." if index == last and param == ("", 0) else self.render(param.type, param.name)
            for index, param in enumerate(params)
        ]
        return f"({', '.join(rendered) or 'void'})"

    def _base(self, type_id: int) -> str:
        found = self._btf.type(type_id)
        if found.kind is Kind.FWD:
            return ("union " if found.kind_flag else "struct ") + found.name
        tag = _TAGS.get(found.kind, "")
        if tag and not found.name:
            return tag + "{...}"
        return tag + found.name

    def _count_step(self, type_id: int) -> None:
        self._steps -= 1
        if self._steps < 0 or self._depth > MAX_DEPTH:
            raise BTFError(f"BTF is malformed: the declaration of type id {type_id} does not end")
