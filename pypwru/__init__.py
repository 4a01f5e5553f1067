"""pypwru: packet, where are you? A pwru-compatible tracer of kernel functions."""

__version__ = "0.1.0"
