"""Slots that a worker of a polite crawl has not, and needs for what no lease stands for."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy_dist.core.politeness import Visit

#: Seconds after which a slot that somebody else has is asked for again: at first, each time
#: twice as long, and at the longest; and the longest that a delay is waited for before that.
_AGAIN, _LONGEST, _REST_LONGEST = 0.05, 0.5, 1.0


@dataclass(slots=True)
class _Wish:
    """*count* requests need a slot. It is asked for at the time *at* (`time.monotonic`).

    And *pause* seconds after that if another worker has it.
    """

    count: int = 0
    at: float = 0.0
    pause: float = _AGAIN


class Wishes:
    """What is needed, by the numbers of slots; *held* are those that this worker has."""

    def __init__(self, held: Container[int]) -> None:
        self._held = held
        self._wishes: dict[int, _Wish] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._wishes

    def __len__(self) -> int:
        return len(self._wishes)

    def add(self, number: int, by: int = 1) -> None:
        """*by* more requests (or less) need slot *number*."""
        wish = self._wishes.setdefault(number, _Wish())
        wish.count += by
        if wish.count <= 0:
            del self._wishes[number]

    def keep(self, numbers: Iterable[int]) -> None:
        """These slots are needed, and no others."""
        here = {number for number in numbers if number not in self._held}
        self._wishes = {n: self._wishes.get(n) or _Wish(1) for n in here}

    def due(self, now: float, most: int) -> list[int]:
        """The slots to be asked for now."""
        due = [
            number
            for number, wish in self._wishes.items()
            if number not in self._held and wish.at <= now
        ]
        return due[:most]

    def answered(self, number: int, visit: Visit, now: float) -> None:
        """Slot *number* was asked for."""
        wish = self._wishes.get(number)
        if wish is None:
            return
        if visit.granted:
            wish.at, wish.pause = 0.0, _AGAIN
        elif visit.wait is None:
            wish.at = now + wish.pause
            wish.pause = min(2 * wish.pause, _LONGEST)
        else:
            wish.at = now + min(visit.wait, _REST_LONGEST)

    def next_look(self, now: float) -> float | None:
        """Seconds until a slot is to be asked for; None: there is none."""
        waits = [
            wish.at - now
            for number, wish in self._wishes.items()
            if number not in self._held
        ]
        return max(0.0, min(waits)) if waits else None
