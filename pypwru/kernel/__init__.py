"""The live kernel: the only readers of /proc, /sys and callers of bpf(2)."""
