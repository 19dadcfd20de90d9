"""One worker: what it holds, what it has produced, and its exchanges with the broker."""
