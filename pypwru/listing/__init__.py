"""What would be traced, to look at: --list-functions and --function-list."""
