"""Attach BPF handlers to kernel functions, tracepoints and programs, by context managers."""
