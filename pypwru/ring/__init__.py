"""Records of the ring buffer, from the mmap to Python slices."""
