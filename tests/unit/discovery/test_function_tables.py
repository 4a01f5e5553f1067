"""The tables of priorities and categories, compared with the functions of four kernels."""

from __future__ import annotations

from collections import Counter

import pytest

from pypwru.discovery import function_tables
from tests.support.paths import DATA

RECORDED = DATA / "functions.txt"
_ROWS = [line.split() for line in RECORDED.read_text().splitlines() if line[:1] != "#"]
KERNELS = sorted({kernel for row in _ROWS for kernel in row[1:]})
# Linux 5.10 has no BTF for modules.
WITH_MODULES = sorted({kernel for row in _ROWS for kernel in row[1:] if row[0][-1] != "@"})
LIMITS = {0: (10, 20), 1: (50, 80), 2: (150, 260)}


def recorded(kernel: str, modules: bool = True) -> list[tuple[str, str]]:
    """Return (name, module) of every traceable function of a kernel that takes an sk_buff."""
    functions = (row[0].split("@") for row in _ROWS if kernel in row[1:])
    return [(name, module) for name, module in functions if modules or not module]


def listed_priorities() -> dict[str, int]:
    return {
        name: int(row.key)
        for row in function_tables.load_table("priorities")
        for word in row.names
        for name in word.split("/")
    }


@pytest.mark.parametrize("modules", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_sizes_of_priorities(kernel: str, modules: bool) -> None:
    names = {name for name, _ in recorded(kernel, modules)}
    levels = Counter(map(function_tables.function_priority, names))
    for level, (least, most) in LIMITS.items():
        reached = sum(levels[lower] for lower in range(level + 1))
        assert least <= reached <= most, f"level {level}: {reached}"
    assert levels[3] > 1000


def test_every_listed_name_exists() -> None:
    existing = {name for kernel in KERNELS for name, _ in recorded(kernel)}
    assert listed_priorities().keys() - existing == set()


def test_no_name_is_listed_twice() -> None:
    names = [
        name
        for row in function_tables.load_table("priorities")
        for word in row.names
        for name in word.split("/")
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_priority_0_is_in_every_kernel(kernel: str) -> None:
    names = {name for name, _ in recorded(kernel)}
    for row in function_tables.load_table("priorities"):
        for word in row.names:
            if row.key == "0":
                assert names.intersection(word.split("/")), f"{word} is not in {kernel}"


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("modules", [False, True])
def test_few_functions_have_no_category(kernel: str, modules: bool) -> None:
    functions = recorded(kernel, modules)
    other = [
        name
        for name, module in functions
        if function_tables.category(name, module) == function_tables.OTHER
    ]
    assert len(other) / len(functions) < 0.15


@pytest.mark.parametrize("kernel", WITH_MODULES)
def test_no_category_is_empty(kernel: str) -> None:
    found = {function_tables.category(name, module) for name, module in recorded(kernel)}
    assert found == set(function_tables.categories())


def test_every_category_row_matches() -> None:
    functions = {entry for kernel in KERNELS for entry in recorded(kernel)}
    matching = {function_tables.matching_row(name, module) for name, module in functions}
    rows = {row for row in function_tables.load_table("categories") if row.key != "strip"}
    assert rows - matching == set()


@pytest.mark.parametrize(
    ("name", "module", "category"),
    [
        ("ip_rcv", "", "ip"),
        ("ip6_rcv_core", "", "ipv6"),
        ("ip_route_input_slow", "", "routing"),
        ("ip_set_test", "ip_set", "netfilter"),
        ("__tcp_transmit_skb", "", "tcp"),
        ("tcp_new", "nf_conntrack", "conntrack"),
        ("tcp_options", "nf_conntrack", "conntrack"),
        ("__udp4_lib_rcv", "", "udp"),
        ("icmp_rcv", "", "icmp"),
        ("nft_do_chain_inet", "nf_tables", "nft"),
        ("nf_hook_slow", "", "netfilter"),
        ("nf_conntrack_in", "nf_conntrack", "conntrack"),
        ("nf_nat_packet", "nf_nat", "nat"),
        ("ipt_do_table", "ip_tables", "netfilter"),
        ("br_forward", "bridge", "bridge"),
        ("br_nf_pre_routing", "br_netfilter", "netfilter"),
        ("xfrm_input", "", "ipsec"),
        ("vxlan_rcv", "vxlan", "tunnel"),
        ("vxlan_fdb_get", "vxlan", "tunnel"),
        ("htb_enqueue", "sch_htb", "qdisc"),
        ("sock_rfree", "", "socket"),
        ("ethnl_default_doit", "", "socket"),
        ("kfree_skb_reason", "", "drop"),
        ("consume_skb", "", "drop"),
        ("veth_xmit", "veth", "netdev"),
        ("skb_checksum_help", "", "netdev"),
        ("__dev_queue_xmit", "", "netdev"),
        ("skb_clone", "", "other"),
        ("__traceiter_tcp_probe", "", "tcp"),
        ("__bpf_trace_consume_skb", "", "drop"),
    ],
)
def test_category_of_a_function(name: str, module: str, category: str) -> None:
    assert function_tables.category(name, module) == category


def test_priorities_of_tracepoints() -> None:
    for name in ("kfree_skb", "consume_skb", "netif_receive_skb", "net_dev_queue", "net_dev_xmit"):
        assert function_tables.tracepoint_priority(name) == 0
    assert function_tables.tracepoint_priority("qdisc_enqueue") == 2
    assert function_tables.tracepoint_priority("unheard_of") == 3


def test_names_of_categories() -> None:
    documented = """
    nft netfilter conntrack nat ip ipv6 tcp udp icmp netdev bridge routing ipsec tunnel qdisc
    socket drop other
    """
    assert set(function_tables.categories()) == set(documented.split())
    assert function_tables.categories()[-1] == "other"


@pytest.mark.parametrize("text", ["1 | ip_rcv", "1 | ip_rcv |", "| a | b", "1 || why"])
def test_row_without_reason_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        function_tables.parse_rows(f"# comment\n{text}\n")
