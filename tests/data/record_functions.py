"""Records functions.txt: the functions that take a packet and can be traced, on each lab kernel.

``python -m tests.data.record_functions`` boots them one after another. Modules that a firewall,
router or container host has are loaded first, since BTF shows only loaded modules.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from pypwru.btf import load
from pypwru.discovery.functions import discover_functions
from pypwru.discovery.selection import Selection
from pypwru.kernel.ftrace import traceable_functions
from tests.lab.vm.packages import KERNELS

HERE = Path(__file__).parent
_MODULES = """
8021q act_ct act_gact act_mirred act_nat act_skbmod act_tunnel_key act_vlan af_packet ah4 ah6
arp_tables bonding br_netfilter bridge cfg80211 cls_bpf cls_flower cls_matchall cls_u32 dummy
e1000 e1000e ebtable_filter ebtables esp4 esp6 fou6 geneve gre i40e ice ifb inet_diag ip6_gre
ip6_tables ip6_tunnel ip6t_REJECT ip6table_filter ip6table_mangle ip6table_nat ip_gre ip_set
ip_set_hash_ip ip_set_hash_net ip_tables ip_vs ip_vs_rr ip_vti ipip ipt_REJECT iptable_filter
iptable_mangle iptable_nat iptable_raw ipvlan ixgbe l2tp_core l2tp_ip mac80211 macsec macvlan
mlx5_core netlink_diag nf_conntrack nf_conntrack_bridge nf_conntrack_ftp nf_conntrack_h323
nf_conntrack_netlink nf_conntrack_sip nf_dup_ipv4 nf_flow_table nf_log_syslog nf_nat nf_nat_ftp
nf_nat_sip nf_synproxy_core nf_tables nfnetlink_log nfnetlink_queue nft_chain_nat nft_compat
nft_ct nft_dup_ipv4 nft_fib_inet nft_fib_ipv4 nft_fib_ipv6 nft_flow_offload nft_fwd_netdev
nft_limit nft_log nft_masq nft_meta_bridge nft_nat nft_queue nft_redir nft_reject_bridge
nft_reject_inet nft_socket nft_synproxy nft_tproxy nft_xfrm openvswitch psample r8169 sch_cake
sch_fq sch_fq_codel sch_htb sch_ingress sch_netem sch_prio sch_sfq sch_tbf sctp sit tap tcp_diag
team tls tun tipc udp_diag unix_diag veth virtio_net vmw_vsock_virtio_transport vmxnet3 vrf vsock
vxlan wireguard xfrm_interface xfrm_user xt_LOG xt_MASQUERADE xt_REDIRECT xt_TCPMSS xt_TPROXY
xt_comment xt_conntrack xt_mark xt_nat xt_set
"""
MODULES = _MODULES.split()


def show() -> None:
    """On this kernel: print them, as ``name@module``."""
    for name in MODULES:
        subprocess.run(["modprobe", "-q", name], check=False)
    btf = load.load_vmlinux()
    modules = {name: load.load_module(name, btf) for name in load.module_names()}
    found = discover_functions(btf, modules, traceable_functions(), None, Selection())
    print("\n".join(f"{function.name}@{function.module}" for function in found.functions))


def record() -> None:
    """Boot every kernel and write what they print."""
    kernels: defaultdict[str, list[str]] = defaultdict(list)
    for kernel in KERNELS:
        inside = [sys.executable, "-m", __spec__.name, "show"]
        vm = [str(HERE.parent / "lab/boot"), kernel, "--timeout", "500", "--", *inside]
        printed = subprocess.run(vm, capture_output=True, text=True, check=True).stdout
        for function in printed.split():
            kernels[function].append(kernel)
    lines = [f"{function} {' '.join(where)}" for function, where in sorted(kernels.items())]
    head = "# Functions that take a packet and can be traced, by kernel: see record_functions.py\n"
    (HERE / "functions.txt").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    show() if sys.argv[1:] == ["show"] else record()
