"""Which packet a record is of, and what became of it."""
