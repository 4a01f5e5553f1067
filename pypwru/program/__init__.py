"""From bpf/*.c to programs that the kernel accepted."""
