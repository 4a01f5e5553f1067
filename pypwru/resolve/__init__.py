"""Numbers to names."""
