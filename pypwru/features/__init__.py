"""Features of the running kernel: which it has, and what each lack costs: --features."""
