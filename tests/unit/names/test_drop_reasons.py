"""Names of drop reasons, where they are printed, and those of subsystems."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from pypwru.names.drop_reasons import ENUM, DropReasons, find_drop_enums, invert_enum
from pypwru.names.functions import FunctionNames
from tests.support.records import TC, XDP, btf_of

CORE = {
    "SKB_NOT_DROPPED_YET": 0,
    "SKB_CONSUMED": 1,
    "SKB_DROP_REASON_NO_SOCKET": 3,
    "SKB_DROP_REASON_MAX": 3,
}
NAMES = {1: "ip_rcv", 2: "kfree_skb_reason", 3: "tp:kfree_skb", 4: "skb_release_data"}
MAC80211 = {"RX_CONTINUE": 1, "___RX_DROP_UNUSABLE": 0x10000, "RX_DROP_U_MIC_FAIL": 0x10001}


def function_names(core: dict[str, int]) -> FunctionNames:
    btf = btf_of((ENUM, core)) if core else btf_of()
    return FunctionNames(NAMES, DropReasons(btf, list))


@pytest.mark.parametrize(
    ("address", "reason", "text"),
    [
        (1, 0, "ip_rcv"),
        (2, 3, "kfree_skb_reason(SKB_DROP_REASON_NO_SOCKET)"),
        (2, 0, "kfree_skb_reason(SKB_NOT_DROPPED_YET)"),
        (2, 1, "kfree_skb_reason(SKB_CONSUMED)"),
        (2, 70000, "kfree_skb_reason (70000)"),
        (3, 0, "tp:kfree_skb(SKB_NOT_DROPPED_YET)"),
        (4, 0, "skb_release_data"),
        (4, 1, "skb_release_data"),
        (4, 3, "skb_release_data(SKB_DROP_REASON_NO_SOCKET)"),
        (4, 70000, "skb_release_data (70000)"),
        (0xFFFFFFFF81000000, 0, "0xffffffff81000000"),
    ],
)
def test_functions_with_a_reason(address: int, reason: int, text: str) -> None:
    assert function_names(CORE).text(address, reason, 0) == text


def test_programs_have_their_type() -> None:
    assert function_names(CORE).text(1, 0, TC) == "ip_rcv(tc)"
    assert function_names(CORE).text(1, 0, XDP) == "ip_rcv(xdp)"


def test_kernel_without_reasons() -> None:
    assert function_names({}).text(3, 0, 0) == "tp:kfree_skb"


def test_names_added_later_are_used() -> None:
    names: dict[int, str] = {}
    found = FunctionNames(names, DropReasons(btf_of((ENUM, CORE)), list))
    assert found.text(7, 0, 0) == "0x7"
    names[7] = "bpf_prog_x[bpf]"
    assert found.text(7, 0, TC) == "bpf_prog_x[bpf](tc)"


def test_max_member_hides_no_reason() -> None:
    assert invert_enum(CORE)[3] == "SKB_DROP_REASON_NO_SOCKET"


def test_subsystem_reasons_are_read_lazily() -> None:
    now = 0.0
    pending: list[dict[str, int]] = []
    calls = 0

    def enums() -> Iterator[dict[str, int]]:
        nonlocal calls
        calls += 1
        while pending:
            yield pending.pop()

    reasons = DropReasons(btf_of((ENUM, CORE)), enums, lambda: now)
    assert reasons.reason_name(3) == "SKB_DROP_REASON_NO_SOCKET"
    assert reasons.reason_name(200) == ""
    assert calls == 0, "the core has no other enum"
    assert reasons.reason_name(0x10001) == ""
    pending.append(MAC80211)
    assert reasons.reason_name(0x10001) == ""
    assert calls == 1
    now = 1.0
    assert reasons.reason_name(0x10001) == "RX_DROP_U_MIC_FAIL"
    assert reasons.reason_name(0x10000) == "___RX_DROP_UNUSABLE"
    assert reasons.reason_name(1) == "SKB_CONSUMED", "a subsystem's name for it doesn't count"
    assert calls == 2


def test_duplicate_reason_has_no_underscores() -> None:
    """In mac80211: ``enum mac80211_drop_reason``, and another one for the compiler's checks."""
    twice = {f"___{name}": value for name, value in MAC80211.items()}
    for enums in ([twice, MAC80211], [MAC80211, twice]):
        reasons = DropReasons(btf_of((ENUM, CORE)), partial(list, enums))
        assert reasons.reason_name(0x10001) == "RX_DROP_U_MIC_FAIL"


def test_drop_enums_are_found_by_name() -> None:
    btf = btf_of((ENUM, CORE), ("mac80211_drop_reason", MAC80211), ("tcp_state", {"X": 0x10002}))
    assert list(find_drop_enums(btf)) == [CORE, MAC80211]
    reasons = DropReasons(btf, lambda: find_drop_enums(btf))
    assert reasons.reason_name(0x10001) == "RX_DROP_U_MIC_FAIL"
    assert reasons.reason_name(0x10002) == ""
