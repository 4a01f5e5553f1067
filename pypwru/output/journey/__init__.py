"""Packet by packet: --output-journey."""
