"""Which rule or chain of nftables or iptables-legacy decided about a packet."""
