"""List the functions that would be traced: --list-functions and --function-list."""
