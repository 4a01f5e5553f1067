"""Find the kernel functions and tracepoints to trace, and the argument that holds the sk_buff."""
