"""Member access resolved by BTF: the pointer chain to a member, its bits and its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf import members, prototype
from pypwru.btf.members import Place
from pypwru.btf.types import MODIFIERS, STRUCTS, Kind, Type
from pypwru.errors import BTFError
from pypwru.expression.numbers import TRUTH, U64, Number
from pypwru.expression.tree import ROOT, Cell, Read
from pypwru.suggestions import did_you_mean

if TYPE_CHECKING:
    from pypwru.btf.query import BTF
    from pypwru.expression.source import Mark

_SIGNED, _BOOL = 1, 4  # encoding of a BTF_KIND_INT
LARGEST = 8  # bytes of an integer
FARTHEST = 1 << 30  # bytes from a pointer: the s32 immediate of an addition holds it with a margin


class Spot(NamedTuple):
    """An object in kernel memory.

    Args:
        pointers: byte offsets of the pointers to follow, each relative to the target of the one
            before it, the first to the root's address.
        place: the object: its type, and its bit offset from the last pointer's target.
    """

    pointers: tuple[int, ...]
    place: Place


class Bits(NamedTuple):
    """The ``width`` bits of ``cell`` from bit ``shift`` on."""

    cell: Cell
    shift: int
    width: int


class Paths:
    """Resolves members of the struct that a root points to.

    Args:
        btf: the kernel's types.
        root: the root's name in expressions, such as ``skb``.
        struct: the name of the struct that it points to, such as ``sk_buff``.

    Raises:
        BTFError: there is no such struct.
    """

    def __init__(self, btf: BTF, root: str, struct: str) -> None:
        ids = btf.find(struct, Kind.STRUCT)
        if not ids:
            raise BTFError(f"no struct {struct} in this kernel's BTF")
        self.btf = btf
        self.root = root
        self._target = Spot((), Place(ids[0], 0, 0))
        self._names: dict[int, dict[str, Place]] = {}

    def member(self, parent: Spot | None, name: str, mark: Mark) -> Spot:
        """Return the object ``parent->name`` or ``parent.name``.

        Args:
            parent: a struct, a union or a pointer to one; None for the root.
            name: the member's name.
            mark: its position, for errors.

        Raises:
            FilterError: ``parent`` has no such member.
        """
        owner = self._target if parent is None else parent
        if parent is not None and self._bare(parent).kind is Kind.PTR:
            owner = self._behind(parent, mark)
        found = self._bare(owner)
        if found.kind not in STRUCTS:
            raise mark.error(f"{self.described(owner)} has no members")
        names = self.names(found.id)
        if name not in names:
            raise mark.error(
                f"{self.described(owner)} has no member {name}" + did_you_mean(name, names)
            )
        inner = names[name]
        start = owner.place.bit_offset + inner.bit_offset
        return owner._replace(place=inner._replace(bit_offset=start))

    def element(self, parent: Spot | None, place: int, mark: Mark) -> Spot:
        """Return the object ``parent[place]``.

        Args:
            parent: an array or a pointer; None for the root.
            place: the index, 0 or more.
            mark: its position, for errors.

        Raises:
            FilterError: ``parent`` has no elements, or not so many.
        """
        if parent is None:
            parent = self._target
        elif self._bare(parent).kind is Kind.PTR:
            parent = self._behind(parent, mark)
        elif self._bare(parent).kind is Kind.ARRAY:
            array = self.btf.array(self._bare(parent).id)
            if array.nelems and place >= array.nelems:
                raise mark.error(f"the array has {array.nelems} elements: 0 to {array.nelems - 1}")
            parent = parent._replace(place=parent.place._replace(type=array.type))
        else:
            raise mark.error(f"{self.described(parent)} has no elements")
        start = parent.place.bit_offset + 8 * place * self._size(parent, mark)
        if start >= 8 * FARTHEST:
            raise mark.error(f"element {place} is too far away: {FARTHEST >> 20} MiB at most")
        return parent._replace(place=parent.place._replace(bit_offset=start))

    def read(self, spot: Spot | None, mark: Mark) -> Read:
        """Return a read of the integer or pointer ``spot``; None for the root's address.

        Raises:
            FilterError: it is of another type, or its bits span more than 8 bytes.
        """
        if spot is None:
            return ROOT
        found = self._bare(spot)
        if found.kind not in _NUMBERS:
            raise mark.error(f"{self.described(spot)} is not a number{self._cure(found)}")
        bits = self.bits(spot, mark)
        if bits.cell.size > LARGEST:
            raise mark.error(f"{self.described(spot)} lies in more than 8 bytes")
        return Read(
            bits.cell,
            self._number(found, bits.width),
            bits.shift,
            bits.width == 8 * bits.cell.size and self._is_big_endian(spot.place.type),
            found.id if found.kind in (Kind.ENUM, Kind.ENUM64) else 0,
        )

    def bits(self, spot: Spot, mark: Mark) -> Bits:
        """Return the bits that ``spot`` occupies.

        Raises:
            FilterError: its type has no size.
        """
        self._size(spot, mark)
        field = members.field(self.btf, spot.place)
        width = field.bit_size or 8 * field.size
        if not width:
            raise mark.error(f"{self.described(spot)} has no size")
        size = (field.bit_offset + width + 7) // 8
        return Bits(Cell((*spot.pointers, field.offset), size), field.bit_offset, width)

    def text(self, spot: Spot | None, length: int, mark: Mark) -> Cell | None:
        """Return the memory to read to compare ``spot`` with a string.

        Args:
            spot: a char array, of which no more than its size is read, or a ``char *``.
            length: of the string in bytes, without its NUL.
            mark: the position, for errors.

        Returns:
            None if ``spot`` is neither.
        """
        found = self._bare(spot) if spot else None
        if spot is None or found is None:
            return None
        element = self.btf.type(self.btf.resolve(found.type))
        if element.kind is not Kind.INT or element.size != 1:
            return None
        if found.kind is Kind.ARRAY:
            size = min(self.btf.array(found.id).nelems, length + 1)
            return self.bits(spot, mark).cell._replace(size=size)
        if found.kind is not Kind.PTR or element.name != "char":
            return None
        steps = (*self.bits(spot, mark).cell.steps, 0)
        return Cell(steps, length + 2, is_string=True)

    def names(self, struct: int | None = None) -> dict[str, Place]:
        """Return the members of ``struct``, a BTF type id, by name; by default the root's struct.

        The result is cached: it must not be changed.
        """
        if struct is None:
            struct = self._target.place.type
        if struct not in self._names:
            self._names[struct] = members.flatten(self.btf, struct)
        return self._names[struct]

    def _bare(self, spot: Spot) -> Type:
        return self.btf.type(self.btf.resolve(spot.place.type))

    def described(self, spot: Spot) -> str:
        """Return the type of ``spot`` in C."""
        return prototype.declare(self.btf, spot.place.type, "").replace(" [", "[")

    def _cure(self, found: Type) -> str:
        if found.kind in STRUCTS:
            return ": name one of its members"
        return ": name an element, such as [0]" if found.kind is Kind.ARRAY else ""

    def _behind(self, spot: Spot, mark: Mark) -> Spot:
        """Return the target of the pointer ``spot``.

        A struct that BTF only declares here (BTF_KIND_FWD) is looked up by name.
        """
        field = members.field(self.btf, spot.place)
        target = self._bare(spot).type
        bare = self.btf.type(self.btf.resolve(target))
        if bare.kind is Kind.FWD:
            complete = self.btf.find(bare.name, Kind.UNION if bare.kind_flag else Kind.STRUCT)
            if not complete:
                raise mark.error(
                    f"{self.described(spot)} points to a type that is not in this kernel's BTF"
                )
            target = complete[0]
        return Spot((*spot.pointers, field.offset), Place(target, 0, 0))

    def _size(self, spot: Spot, mark: Mark) -> int:
        try:
            return self.btf.size(spot.place.type)
        except BTFError:
            raise mark.error(f"{self.described(spot)} has no size") from None

    def _is_big_endian(self, type_id: int) -> bool:
        """Return whether the type is ``__be16``, ``__be32`` or ``__be64``, or a typedef of one."""
        found = self.btf.type(type_id)
        while found.kind in MODIFIERS:
            if found.kind is Kind.TYPEDEF and found.name.startswith("__be"):
                return True
            found = self.btf.type(found.type)
        return False

    def _number(self, found: Type, bits: int) -> Number:
        if found.kind is Kind.PTR:
            return U64
        if found.kind is not Kind.INT:
            return Number(bits, found.kind_flag)
        encoding = self.btf.integer(found.id).encoding
        return TRUTH if encoding & _BOOL else Number(bits, bool(encoding & _SIGNED))


_NUMBERS = {Kind.INT, Kind.PTR, Kind.ENUM, Kind.ENUM64}
