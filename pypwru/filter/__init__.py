"""pcap-filter text to classic BPF to eBPF, spliced into a handler."""
