"""Instructions of the two BPF machines."""
