"""RE2, whose time is linear in the text."""
