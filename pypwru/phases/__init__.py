"""The phases of a session, each a value that the next one needs: plan, load, attach."""
