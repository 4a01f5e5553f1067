"""The whole kernel tree that BCC needs to see: one header."""
