"""For people who script: ``trace`` gives events, which may carry their packets."""
