"""Capture files for Wireshark and tcpdump: pcapng and pcap (--output-pcap)."""
