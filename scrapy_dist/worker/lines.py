"""What can be handed out, in a line for each slot."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from scrapy_dist.core.slots import NO_SLOT, Slots
from scrapy_dist.worker.prefetch import Rate

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.worker.leases import HeldLease, HeldLeases


class Own(NamedTuple):
    """A request that stays in this worker and can be handed out."""

    priority: int
    number: int
    request: Request
    records: HeldLeases


@dataclass(eq=False, slots=True)
class Line:
    """The requests of one slot, by its *number*; the first lease of them is decoded.

    *own* is a heap of those that stay in this worker. *key* is the downloader's name of the
    slot of *keyed*, which was the first one when somebody looked. *rests_until*
    (`time.monotonic`): none may be started before. *is_open*: the delay was over then.
    *rate*: of what it hands out.
    """

    number: int
    leases: deque[tuple[HeldLease, bytes]] = field(default_factory=deque)
    head: tuple[HeldLease, Request] | None = None
    own: list[Own] = field(default_factory=list)
    key: str = ""
    keyed: Request | None = None
    rests_until: float = 0.0
    is_open: bool = False
    rate: Rate = field(default_factory=Rate)

    def __len__(self) -> int:
        return len(self.leases) + (self.head is not None) + len(self.own)

    @property
    def own_is_first(self) -> bool:
        """Whether the next one is of *own*: those go first among equal priorities."""
        head = self.head
        return bool(self.own) and (
            head is None or -self.own[0].priority >= head[1].priority
        )

    @property
    def first(self) -> Request | None:
        """The next one, if it is decoded."""
        if self.own_is_first:
            return self.own[0].request
        return None if self.head is None else self.head[1]


class Lines:
    """All lines, the one that was used the longest ago first.

    *by_slot* false: there is one line only.
    """

    def __init__(self, slots: Slots) -> None:
        self.by_slot = slots.are_many
        self._slots = slots
        self.lines: dict[int, Line] = {}
        #: Whether a slot has come that had no line, since somebody set it to false.
        self.has_new = True
        self._count = 0
        #: Number of the last lease that was moved; those that stay here count from 1.
        self._moved = -(1 << 62)
        if not self.by_slot:
            self.lines[NO_SLOT] = Line(NO_SLOT)

    def __len__(self) -> int:
        """Requests in all of them."""
        return self._count

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines.values())

    def _line(self, number: int) -> Line:
        number = number if self.by_slot else NO_SLOT
        line = self.lines.get(number)
        if line is None:
            line = self.lines[number] = Line(number)
            self.has_new = True
        return line

    def numbers(self) -> Collection[int]:
        """The slots that have a line."""
        return self.lines.keys()

    def waiting(self, number: int) -> int:
        """Requests in the line of slot *number*."""
        return len(self.lines.get(number, ()))

    def add(self, number: int, record: HeldLease, payload: bytes) -> None:
        """A lease of the slot *number* has come."""
        self._line(number).leases.append((record, payload))
        self._count += 1

    def add_own(self, own: Own) -> None:
        """One that stays here can be handed out."""
        number = self._slots.number(own.request)
        heapq.heappush(self._line(number).own, own)
        self._count += 1

    def move(self, line: Line, record: HeldLease, request: Request) -> None:
        """Put *request*, a lease that *line* had, into the line of its slot."""
        self._moved += 1
        other = self._line(self._slots.number(request))
        own = Own(-request.priority, self._moved, request, (record,))
        heapq.heappush(other.own, own)
        self.removed(line, 0)

    def take(self, line: Line) -> tuple[Request, HeldLeases, bool]:
        """The first one of *line*, its leases, and whether it was leased; it is decoded."""
        if line.own_is_first:
            own = heapq.heappop(line.own)
            found = own.request, own.records, own.number < 0
        else:
            assert line.head is not None
            record, request = line.head
            line.head = None
            found = request, (record,), True
        self.removed(line)
        if self.by_slot:
            line.rate.add()
            if line.number in self.lines:
                self.lines[line.number] = self.lines.pop(line.number)
        return found

    def removed(self, line: Line, count: int = 1) -> None:
        """*count* are no longer in *line*."""
        self._count -= count
        if self.by_slot and not len(line):
            self.lines.pop(line.number, None)

    def keep(
        self,
        *,
        leased: Callable[[HeldLease], bool] | None = None,
        own: Callable[[Own], bool] | None = None,
    ) -> tuple[list[HeldLease], list[Own]]:
        """Drop the others, of one kind or both; returns those. None: all stay."""
        records: list[HeldLease] = []
        owns: list[Own] = []
        for line in list(self):
            before = len(line)
            if leased is not None:
                records += [r for r, _ in line.leases if not leased(r)]
                line.leases = deque(each for each in line.leases if leased(each[0]))
                if line.head is not None and not leased(line.head[0]):
                    records.append(line.head[0])
                    line.head = None
            if own is not None:
                owns += [each for each in line.own if not own(each)]
                line.own = [each for each in line.own if own(each)]
                heapq.heapify(line.own)
            if before > len(line):
                self.removed(line, before - len(line))
        return records, owns
