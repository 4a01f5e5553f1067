"""Interfaces of the running kernel: bpf(2), perf events, netlink, tracefs, /proc and /sys."""
