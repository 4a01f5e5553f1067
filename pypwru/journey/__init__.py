"""Output by packet instead of by event (--output-journey)."""
