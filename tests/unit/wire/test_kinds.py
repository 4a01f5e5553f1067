"""Each kind of event of bpf/event.h has a row."""

from __future__ import annotations

from pypwru.wire.kinds import KINDS, encode_kind
from pypwru.wire.record import header_constants


def test_each_kind_of_header_has_row() -> None:
    in_header = {name for name in header_constants() if name.startswith("EVENT_")}
    assert in_header == {f"EVENT_{kind.name}" for kind in KINDS.values()} | {"EVENT_SKB_FREE"}
    assert all(kind.number == number for number, kind in KINDS.items())


def test_encoded_kind_is_that_of_a_record() -> None:
    assert encode_kind("SKB_FREE") == header_constants()["EVENT_SKB_FREE"].to_bytes(2, "little")
