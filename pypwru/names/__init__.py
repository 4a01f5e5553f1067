"""Resolve numbers of records to names: addresses, pids, inodes, handles, drop reasons."""
