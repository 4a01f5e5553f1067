"""The Python API: ``trace`` yields events, each optionally with its captured packet."""
