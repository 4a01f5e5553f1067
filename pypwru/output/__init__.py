"""Events to what the user reads."""
