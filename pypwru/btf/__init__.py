"""BPF Type Format: parse, query, load."""
