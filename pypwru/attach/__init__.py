"""Programs onto functions, each a context manager."""
