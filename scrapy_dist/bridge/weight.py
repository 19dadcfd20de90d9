"""Bytes of the bodies that are held, and how many messages that lets in."""

from __future__ import annotations

#: Bytes of bodies that are held at the most.
BUDGET = 64 << 20
#: Messages by which the mean of their sizes is about that of new ones.
_MEMORY = 16


class Weight:
    """Counts bodies, each of *most* bytes at the most.

    *budget*: bytes that may be held; one message always may.
    """

    def __init__(self, most: int, budget: int) -> None:
        self._budget = budget
        # As long as nothing is known of them they are as large as they may be.
        self._mean = float(most)
        self.held = 0

    def add(self, body: bytes) -> bool:
        """Count *body*; false: there is no room for it, and it is not held."""
        size = len(body)
        self._mean += (size - self._mean) / _MEMORY
        if self.held and self.held + size > self._budget:
            return False
        self.held += size
        return True

    def remove(self, body: bytes) -> None:
        """*body*, which was added, is held no more."""
        self.held -= len(body)

    def clear(self) -> None:
        """Nothing is held any more."""
        self.held = 0

    @property
    def room(self) -> int:
        """How many more messages may come, if they are like the last ones."""
        free = max(0, self._budget - self.held)
        return max(int(free / max(1.0, self._mean)), int(not self.held))
