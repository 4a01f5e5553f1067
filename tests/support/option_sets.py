"""Sets of options that together compile every line of bpf/."""

from __future__ import annotations

from collections.abc import Mapping

OPTIONS: Mapping[str, str] = {
    "plain": "host 10.0.0.1 and tcp port 443",
    "capture": "--output-pcap a.pcap --output-nft=text tcp",
    "drops": "--drops --filter-tunnel-pcap-l3 udp --output-caller --filter-mark 1 udp",
    "fragments": (
        "--filter-tunnel-pcap-l2 vlan --filter-tunnel-pcap-l3 udp[8:2]=5 --output-tunnel "
        "--output-pcap a.pcap --filter-track-skb --filter-trace-xdp --output-stack "
        "tcp[((tcp[12:1]&0xf0)>>2):4]=0x47455420"
    ),
    "everything": (
        "--filter-track-skb --filter-track-bpf-helpers --filter-trace-xdp --filter-trace-tc "
        "--output-bpfmap --output-caller --output-stack --output-skb --output-skb-shared-info "
        "--output-tunnel --output-ct --output-netns-names --output-pcap a.pcap "
        "--pcap-when first,drop --filter-mark 1 --max-hits 5 --rate-limit 100 --sample-rate 4 "
        "--sample-flow 4 tcp"
    ),
}
"""Name -> the command line; the filters are of all kinds, too."""
