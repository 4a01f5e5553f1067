"""The version of pypwru."""

__version__ = "0.1.0"
