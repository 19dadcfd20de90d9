"""Who has which slot of a polite crawl in memory: see lib/seats.lua of Redis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from scrapy_dist.core.politeness import Rules, Yield, slot_of_seat

#: Milliseconds that a leap of the clock counts at the most, and that a visitor is waited for,
#: and a worker that has no seat.
_LEAP, _VISITOR, _HUNGRY = 10_000, 2000, 2000


def index_of(name: str) -> int:
    """Of a seat: 0 is the first one of its slot."""
    return int(name.partition(".")[2] or 0)


def _name(slot: int, index: int) -> str:
    return f"{slot}.{index}" if index else str(slot)


def count_seats(rules: Rules, most: int) -> int:
    """How many seats a slot has, *most* at the most; only one if it has a delay."""
    return 1 if rules.delay > 0 else min(max(1, rules.places), most)


@dataclass(slots=True)
class Seats:
    """All seats of a crawl. *now*: ms on the wall clock."""

    taken: dict[str, str] = field(default_factory=dict)
    #: When a seat may be taken, if that is not now; on a clock that never goes back.
    ready: dict[str, int] = field(default_factory=dict)
    rules: dict[int, Rules] = field(default_factory=dict)
    #: Slots whose first seat goes by all places, or may still do so: no other is opened.
    undivided: set[int] = field(default_factory=set)
    #: Who waits to visit a slot, and since when.
    wanted: dict[int, tuple[str, int]] = field(default_factory=dict)
    #: When a worker without any seat has asked for one in vain.
    asked_in_vain: int | None = None
    #: The rules of slots that have none of their own.
    default: Rules = field(default_factory=Rules)
    _seen: int = 0
    _shift: int = 0

    def _time(self, wall: int) -> int:
        now = wall + self._shift
        moved = min(max(now, self._seen), self._seen + _LEAP) if self._seen else now
        self._seen, self._shift = moved, self._shift + moved - now
        return moved

    def rules_of(self, slot: int) -> Rules:
        return self.rules.get(slot, self.default)

    def rules_of_seat(
        self, name: str, most: int, under_way: int | None = None
    ) -> Rules:
        """The rules of its slot, with the places of one seat.

        With a delay all are those of the first one, when the others are given back.
        *under_way*: the most downloads that its owner may have there, None: unknown.
        """
        slot = slot_of_seat(name)
        rules = self.rules_of(slot)
        if rules.delay > 0 and any(_name(slot, n) in self.taken for n in range(1, 8)):
            return replace(rules, places=1)
        if rules.delay > 0:
            self.undivided.add(slot)
        share, more = divmod(max(1, rules.places), count_seats(rules, most))
        places = share + (index_of(name) < more)
        if rules.delay <= 0 and under_way is not None and under_way <= places:
            self.undivided.discard(slot)
        return replace(rules, places=places)

    def held(self, worker: str) -> list[str]:
        return [name for name, owner in self.taken.items() if owner == worker]

    def waits(self, name: str, now: int) -> int | None:
        """Ms until a seat may be taken; None: somebody has it."""
        if name in self.taken:
            return None
        return max(0, self.ready.get(name, 0) - self._time(now))

    def want(self, slot: int, worker: str, now: int) -> None:
        """*worker* waits to visit *slot*."""
        self.wanted[slot] = worker, self._time(now)

    def is_wanted(self, slot: int, worker: str, now: int) -> bool:
        """Whether another one than *worker* waits to visit *slot*."""
        who, since = self.wanted.get(slot, (worker, 0))
        return who != worker and self._time(now) - since < _VISITOR

    def ask_in_vain(self, now: int) -> None:
        """A worker without any seat gets none."""
        self.asked_in_vain = self._time(now)

    def is_somebody_without(self, now: int) -> bool:
        """Whether one has asked in vain lately."""
        at = self.asked_in_vain
        return at is not None and self._time(now) - at < _HUNGRY

    def free_seats(self, slot: int, most: int, now: int) -> list[tuple[str, int]]:
        """The seats of *slot* that nobody has, and ms until they may be taken.

        The first one alone, if it is free: it opens the others.
        """
        has_first = str(slot) in self.taken
        is_whole = slot in self.undivided or not has_first
        count = 1 if is_whole else count_seats(self.rules_of(slot), most)
        names = (_name(slot, index) for index in range(count))
        waits = ((name, self.waits(name, now)) for name in names)
        return [(name, wait) for name, wait in waits if wait is not None]

    def give_back(self, worker: str, yields: Iterable[Yield], now: int) -> None:
        time = self._time(now)
        for seat in yields:
            if self.taken.get(seat.name) != worker:
                continue
            del self.taken[seat.name]
            self.ready[seat.name] = time + round(seat.rest * 1000)
            if seat.rules is not None:
                slot = slot_of_seat(seat.name)
                places = seat.rules.places or self.rules_of(slot).places
                self.rules[slot] = replace(seat.rules, places=places)
        self.ready = {name: at for name, at in self.ready.items() if at > time}
        wanted = self.wanted.items()
        self.wanted = {s: (w, at) for s, (w, at) in wanted if time - at < _VISITOR}

    def end(self, worker: str, now: int) -> None:
        """*worker* is gone: its seats may be taken when their delays are over."""
        time = self._time(now)
        for name in self.held(worker):
            del self.taken[name]
            delay = self.rules_of(slot_of_seat(name)).delay
            self.ready[name] = time + round(delay * 1000)

    def clear(self) -> None:
        for part in (self.taken, self.ready, self.rules, self.wanted, self.undivided):
            part.clear()
