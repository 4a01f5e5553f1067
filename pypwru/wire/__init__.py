"""Records as handlers write them."""
