"""How much this worker has done, for the people who watch the crawl."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import deque
from pathlib import Path

__all__ = ["Progress"]

#: Seconds over which the rate of pages is measured.
_WINDOW = 60.0
#: Seconds between two marks of the window.
_STEP = 1.0


class Progress:
    """Pages that Redis has confirmed, and their rate over the last minute."""

    def __init__(self) -> None:
        self.pages = 0
        self.failed = 0
        self._marks = deque([(time.monotonic(), 0)])

    def add(self, pages: int) -> None:
        self.pages += pages

    def rate(self) -> float:
        """Pages per second over the last minute, or since the start if that is later."""
        now = time.monotonic()
        marks = self._marks
        if now - marks[-1][0] >= _STEP:
            marks.append((now, self.pages))
        while len(marks) > 1 and marks[1][0] <= now - _WINDOW:
            marks.popleft()
        since, pages = marks[0]
        return (self.pages - pages) / max(now - since, _STEP)

    def info(self) -> str:
        """What the frontier keeps of this worker for people: one JSON object.

        ``pages`` and ``failed`` since its start, ``pages_per_second`` over the last
        minute, ``memory`` in bytes.
        """
        return json.dumps(
            {
                "pages": self.pages,
                "failed": self.failed,
                "pages_per_second": round(self.rate(), 2),
                "memory": memory(),
            },
            separators=(",", ":"),
        )


def memory() -> int:
    """Bytes of RAM that this process holds; where the system does not tell, its peak."""
    try:
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
        return int(pages) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
