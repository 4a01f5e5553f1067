"""A BTF writer for tests, of either byte order, whole or split; bpftool reads its output."""

from __future__ import annotations

import struct

from pypwru.btf.types import Kind

Words = tuple[int, ...]


class Encoder:
    """Add types, take ``bytes()``.

    Args:
        order: "<" or ">".
        base: the encoder whose ids and strings this one continues (a module's kernel).
    """

    def __init__(self, order: str = "<", base: Encoder | None = None) -> None:
        self.order = order
        self.first_id: int = base.next_id if base else 1
        self.first_string: int = base.first_string + len(base.strings) if base else 0
        self.strings: bytes = b"" if base else b"\0"
        self.next_id: int = self.first_id
        self.types = b""
        self.ids: dict[str, int] = {}

    def string(self, text: str) -> int:
        """Add ``text``, and return its offset."""
        if not text:
            return 0
        offset = self.first_string + len(self.strings)
        self.strings += text.encode() + b"\0"
        return offset

    def add(
        self, kind: int, name: str = "", last: int = 0, *tail: int, vlen: int = 0, flag: int = 0
    ) -> int:
        """A ``struct btf_type`` and the words after it; gives its id."""
        words = (self.string(name), flag << 31 | kind << 24 | vlen, last, *tail)
        self.types += self.pack(*words)
        self.ids[name] = self.next_id
        self.next_id += 1
        return self.next_id - 1

    def reuse(self, kind: int, name_offset: int, last: int, *tail: int, vlen: int = 0) -> int:
        """As ``add``, of a name that is there already, in the base perhaps."""
        self.types += self.pack(name_offset, kind << 24 | vlen, last, *tail)
        self.next_id += 1
        return self.next_id - 1

    def pack(self, *words: int) -> bytes:
        return struct.pack(f"{self.order}{len(words)}I", *(word & 0xFFFFFFFF for word in words))

    def integer(
        self, name: str, size: int, encoding: int = 0, bits: int = 0, start: int = 0
    ) -> int:
        return self.add(Kind.INT, name, size, encoding << 24 | start << 16 | (bits or size * 8))

    def ptr(self, target: int) -> int:
        return self.add(Kind.PTR, "", target)

    def array(self, element: int, index: int, count: int) -> int:
        return self.add(Kind.ARRAY, "", 0, element, index, count)

    def struct(
        self, name: str, size: int, *members: tuple[str, int, int], kind: Kind = Kind.STRUCT
    ) -> int:
        """``members``: (name, type, bit offset), without bit fields."""
        tail = [word for m in members for word in (self.string(m[0]), m[1], m[2])]
        return self.add(kind, name, size, *tail, vlen=len(members))

    def bit_struct(self, name: str, size: int, *members: tuple[str, int, int, int]) -> int:
        """``members``: (name, type, bit offset, bit size), with kind_flag."""
        tail = [word for m in members for word in (self.string(m[0]), m[1], m[3] << 24 | m[2])]
        return self.add(Kind.STRUCT, name, size, *tail, vlen=len(members), flag=1)

    def enum(self, name: str, values: dict[str, int], signed: bool = False) -> int:
        tail = [word for key, value in values.items() for word in (self.string(key), value)]
        return self.add(Kind.ENUM, name, 4, *tail, vlen=len(values), flag=signed)

    def enum64(self, name: str, values: dict[str, int], signed: bool = False) -> int:
        tail = [
            word for key, value in values.items() for word in (self.string(key), value, value >> 32)
        ]
        return self.add(Kind.ENUM64, name, 8, *tail, vlen=len(values), flag=signed)

    def proto(self, result: int, *params: tuple[str, int]) -> int:
        tail = [word for name, type_id in params for word in (self.string(name), type_id)]
        return self.add(Kind.FUNC_PROTO, "", result, *tail, vlen=len(params))

    def func(self, name: str, proto: int, linkage: int = 0) -> int:
        return self.add(Kind.FUNC, name, proto, vlen=linkage)

    def bytes(self, layout: bytes | None = None, padding: int = 0) -> bytes:
        """The blob; with the ``layout`` section of Linux 7.1, or a header longer by ``padding``."""
        types, strings = len(self.types), len(self.strings)
        extra = b""
        if layout is not None:
            extra = self.pack(types + strings, len(layout))
        extra += bytes(padding)
        header = struct.pack(
            self.order + "HBBIIIII", 0xEB9F, 1, 0, 24 + len(extra), 0, types, types, strings
        )
        return header + extra + self.types + self.strings + (layout or b"")


def kernel(order: str = "<") -> Encoder:
    """A small vmlinux: every kind, sk_buff's shapes of members, functions that take it or not."""
    e = Encoder(order)
    integer = e.integer("int", 4, encoding=1)
    skb = _sk_buff(e, integer)
    _functions(e, integer, skb)
    e.enum("small", {"MINUS": -1, "ONE": 1}, signed=True)
    e.enum64("big", {"HUGE": 1 << 63, "TWO": 2})
    e.enum64("below", {"LOW": -(1 << 40)}, signed=True)
    e.add(Kind.FWD, "opaque", flag=0)
    e.add(Kind.FWD, "choice", flag=1)
    e.add(Kind.VOLATILE, "", e.add(Kind.RESTRICT, "", e.ptr(skb)))
    variable = e.add(Kind.VAR, "counter", integer, 1)
    e.add(Kind.DATASEC, ".data", 4, variable, 0, 4, vlen=1)
    e.add(Kind.FLOAT, "double", 8)
    e.add(Kind.DECL_TAG, "bpf_kfunc", variable, -1)
    return e


def _sk_buff(e: Encoder, integer: int) -> int:
    """sk_buff { next; union { dev; struct { u8 low:3, high:1; int plain; }; }; cb; len }"""
    ulong = e.integer("long unsigned int", 8)
    u8 = e.add(Kind.TYPEDEF, "u8", e.integer("unsigned char", 1))
    words = e.array(ulong, integer, 3)
    bits = e.bit_struct("", 8, ("low", u8, 0, 3), ("high", u8, 13, 1), ("plain", integer, 32, 0))
    link = e.next_id
    union, skb = link + 1, link + 2
    e.ptr(skb)
    e.struct("", 8, ("dev", link, 0), ("", bits, 0), kind=Kind.UNION)
    members = (("next", link, 0), ("", union, 64), ("cb", words, 128), ("len", integer, 320))
    assert e.struct("sk_buff", 48, *members) == skb
    return skb


def _functions(e: Encoder, integer: int, skb: int) -> None:
    link = e.ptr(skb)
    anything = e.ptr(0)
    tagged = e.ptr(e.add(Kind.TYPE_TAG, "user", e.add(Kind.TYPEDEF, "skb_t", skb)))
    const_pointer = e.add(Kind.CONST, "", e.ptr(e.add(Kind.CONST, "", skb)))
    alias = e.add(Kind.TYPEDEF, "skb_ptr", link)
    text = e.ptr(e.add(Kind.CONST, "", e.integer("char", 1)))
    bounds = e.ptr(e.array(integer, integer, 3))
    callback = e.ptr(e.proto(integer, ("", anything), ("", link)))
    sixth = [(f"a{place}", integer) for place in range(5)]
    e.func("by_pointer", e.proto(integer, ("skb", link), ("dev", anything)), 1)
    e.func("by_const", e.proto(0, ("count", integer), ("skb", const_pointer)))
    e.func("by_alias", e.proto(0, ("a", alias), ("b", integer), ("c", tagged)))
    e.func("double_pointer", e.proto(0, ("skbs", e.ptr(link))))
    e.func("sixth", e.proto(0, *sixth, ("skb", link)))
    e.func("variadic", e.proto(integer, ("fmt", text), ("", 0)))
    e.func("nothing", e.proto(0))
    e.func("callbacks", e.proto(callback, ("call", callback), ("v", bounds)))
    trace = e.proto(0, ("__data", anything), ("skb", link))
    e.add(Kind.TYPEDEF, "btf_trace_kfree_skb", e.ptr(trace))
    e.add(Kind.TYPEDEF, "btf_trace_no_function", link)


def module(base: Encoder) -> Encoder:
    """A split blob: a struct of its own, functions whose types and names are its base's."""
    e = Encoder(base.order, base)
    e.struct("private", 8, ("skb", 0, 0))
    own = e.ptr(e.add(Kind.VOLATILE, "", base.ids["sk_buff"]))
    e.func("module_const", e.proto(1, ("skb", own), ("n", 1)))
    nothing = base.strings.index(b"\0nothing\0") + 1
    e.reuse(Kind.FUNC, nothing, e.proto(1))
    e.add(Kind.TYPEDEF, "btf_trace_module", e.ptr(e.proto(0, ("__data", 0), ("skb", own))))
    return e
