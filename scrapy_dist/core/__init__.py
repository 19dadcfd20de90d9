"""The words, values and ports of the frontier, without any input or output."""
