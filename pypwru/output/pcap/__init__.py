"""The packets themselves, as files that Wireshark and tcpdump read."""
