"""BPF programs: compile bpf/*.c, create the maps, splice filters in, load into the kernel."""
