"""What the bridge tells people: each trouble once, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Notices:
    """*tell* gets a sentence; *note* one that is no trouble."""

    tell: Callable[[str], object]
    note: Callable[[str], object]
    _troubles: set[str] = field(default_factory=set)

    def trouble(self, about: str, text: str) -> None:
        """Tell *text*, unless there is trouble about this already."""
        if about not in self._troubles:
            self._troubles.add(about)
            self.tell(text)

    def over(self, about: str, text: str) -> None:
        """Tell *text* if there was trouble about this."""
        if about in self._troubles:
            self._troubles.discard(about)
            self.note(text)
