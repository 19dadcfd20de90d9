"""Where frontiers live."""
