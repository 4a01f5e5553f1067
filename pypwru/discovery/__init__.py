"""Which kernel functions take a packet, in which argument."""
