"""/proc/kallsyms: recorded lines of Linux 6.12, and random lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.errors import KernelError
from pypwru.kernel.kallsyms import SymbolOffset, parse_symbols, read_symbols

SAMPLE = """\
0000000000000000 A fixed_percpu_data
ffffffff95a00000 T _stext
ffffffff95a00000 T _text
ffffffff95a00180 T do_one_initcall
ffffffff964f5a90 T ip_rcv
ffffffff96576dd0 t reg_vif_xmit
ffffffff966005c0 t reg_vif_xmit
ffffffff96a00000 D __start_rodata
ffffffff96b00000 W weak_function
ffffffffc0201000 t veth_xmit\t[veth]
ffffffffc0201400 r __func__.1\t[veth]
ffffffffc0301000 t ip_rcv\t[impostor]
ffffffffc0400000 t bpf_prog_6deef7357e7b4530\t[bpf]
"""


def test_addresses_by_name_and_module() -> None:
    symbols = parse_symbols(SAMPLE)
    assert symbols.addresses("ip_rcv") == (0xFFFFFFFF964F5A90,)
    assert symbols.addresses("ip_rcv", "impostor") == (0xFFFFFFFFC0301000,)
    assert symbols.addresses("reg_vif_xmit") == (0xFFFFFFFF96576DD0, 0xFFFFFFFF966005C0)
    assert symbols.addresses("weak_function") == (0xFFFFFFFF96B00000,)
    assert symbols.addresses("veth_xmit") == ()
    assert symbols.addresses("__start_rodata") == ()
    assert symbols.addresses("fixed_percpu_data") == ()
    assert symbols.select(["ip_rcv", "veth_xmit[veth]", "gone"]) == {
        "ip_rcv": (0xFFFFFFFF964F5A90,),
        "veth_xmit[veth]": (0xFFFFFFFFC0201000,),
    }


def test_last_symbol_at_an_address_wins() -> None:
    symbols = parse_symbols(SAMPLE)
    assert symbols.by_address[0xFFFFFFFF95A00000] == "_text"
    assert symbols.by_address[0xFFFFFFFFC0201000] == "veth_xmit[veth]"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (0xFFFFFFFF95A00000, SymbolOffset("_text", 0)),
        (0xFFFFFFFF95A0017F, SymbolOffset("_text", 0x17F)),
        (0xFFFFFFFF964F5AFF, SymbolOffset("ip_rcv", 0x6F)),
        (0xFFFFFFFFC0201404, SymbolOffset("veth_xmit[veth]", 0x404)),
        (0xFFFFFFFFFFFFFFFF, SymbolOffset("bpf_prog_6deef7357e7b4530[bpf]", 0x3FBFFFFF)),
        (0xFFFFFFFF959FFFFF, None),
        (0, None),
    ],
)
def test_nearest_symbol_below(address: int, expected: SymbolOffset | None) -> None:
    assert parse_symbols(SAMPLE).nearest(address) == expected


def test_parse_keeps_requested_names() -> None:
    symbols = parse_symbols(SAMPLE, ["reg_vif_xmit", "veth_xmit[veth]", "gone"])
    assert len(symbols) == 3
    assert symbols.addresses("reg_vif_xmit") == (0xFFFFFFFF96576DD0, 0xFFFFFFFF966005C0)
    assert symbols.addresses("veth_xmit", "veth") == (0xFFFFFFFFC0201000,)


@pytest.mark.parametrize("names", [None, ["ip_rcv"], ["gone"]])
def test_hidden_addresses_name_the_cure(names: list[str] | None) -> None:
    hidden = "0000000000000000 T ip_rcv\n0000000000000000 t veth_xmit\t[veth]\n"
    with pytest.raises(KernelError, match=r"CAP_SYSLOG.*sysctl kernel\.kptr_restrict=1"):
        parse_symbols(hidden, names)


def test_kernel_without_kallsyms(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="CONFIG_KALLSYMS"):
        read_symbols(path=tmp_path / "absent")


SYMBOL = st.tuples(
    st.integers(1, 2**64 - 1),
    st.sampled_from("tTwWdDrRbBAVv"),
    st.text("abcxyz_.0123456789", min_size=1, max_size=12),
    st.sampled_from(["", "", "veth", "nf_tables", "__builtin__ftrace"]),
)


@given(st.lists(SYMBOL, max_size=40), st.booleans())
def test_random_lines_equal_reference(
    rows: list[tuple[int, str, str, str]], modules_last: bool
) -> None:
    """The parser of blocks equals one by line, modules after vmlinux or anywhere."""
    if modules_last:
        rows = sorted(rows, key=lambda row: bool(row[3]))
    text = "".join(
        f"{address:016x} {kind} {name}" + (f"\t[{module}]\n" if module else "\n")
        for address, kind, name, module in rows
    )
    expected: dict[str, tuple[int, ...]] = {}
    for address, kind, name, module in rows:
        if kind in "tTwW":
            display = f"{name}[{module}]" if module else name
            expected[display] = (*expected.get(display, ()), address)
    assert parse_symbols(text).by_name == expected
    names = list(expected)[::2]
    assert parse_symbols(text, names).by_name == {name: expected[name] for name in names}
