"""From bpf/*.c to programs that the kernel accepted; the only importers of bcc."""
