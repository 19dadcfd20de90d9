"""A worker of a polite crawl without Scrapy, I/O and clock of its own: what it obeys.

It starts a request only while it has a seat of its slot, as far apart as the delay says
by its own clock, in its places, and only if its last confirmed heartbeat was sent less
than 0.99 TTL ago. All times here are milliseconds on its own clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.core.frontier import SUSPECTS, Ask, Commit, Outcome, Settlement
from scrapy_dist.core.politeness import Manners, Renewal, Rules, Yield
from tests.support.frontiers import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scrapy_dist.core.frontier import Answer, Lease, NewRequest
    from scrapy_dist.core.politeness import Visit

#: Part of the TTL after which an unconfirmed worker starts nothing.
FENCE = 0.99

#: Deliberate mistakes: what a worker does wrong.
FAULTS = frozenset(
    {
        "no fence",
        "no spacing",
        "no rest",
        "no places",
        "gives back too early",
        "keeps what it lost",
        "never compares",
        "believes the reply",
        "tells nothing of downloads",
    }
)


@dataclass(slots=True)
class Seat:
    """A seat, by its *name*. *queue*: leases that wait in it, and visits.

    *ready*: when it may start the next one. *stops*: it is given back when it is empty.
    """

    name: str
    slot: int
    delay: int
    places: int
    ready: float
    since: float
    active: int = 0
    stops: bool = False
    #: Renewed, and nothing came.
    is_dry: bool = False
    #: What it has learned of its slot.
    learned: int | None = None
    queue: deque[tuple[str, int]] = field(default_factory=deque)
    timer: float = 0.0
    #: When Redis had granted it, in the time of the simulation.
    total: int = 0


class PoliteWorker:
    """*turn*: ms after which it gives a seat back while others are ready for somebody."""

    def __init__(
        self,
        number: int,
        *,
        ttl: int,
        rules: Rules,
        capacity: int,
        horizon: int,
        portion: int,
        seats: int,
        turn: float,
        faults: Iterable[str] = (),
    ) -> None:
        self.frontier = Frontier(
            None,  # type: ignore[arg-type]
            KEYS,
            ttl=ttl / 1000,
            max_deliveries=1 << 30,
            failed_limit=100,
        )
        self.frontier.worker = str(number)
        self.faults = frozenset(faults)
        self.ttl, self.capacity, self.turn = ttl, capacity, turn
        self.rules, self.horizon, self.portion = rules, horizon / 1000, portion
        self.most_seats = seats
        self.active = self.queued = 0
        self.commits = 0
        self._forget()

    def _forget(self) -> None:
        """Nothing that this worker had is its own any more."""
        self.seats: dict[str, Seat] = {}
        self.yielding: dict[str, Seat] = {}
        self.leases: set[str] = set()
        #: Lease of each request under way that may be acknowledged when it is done.
        self.acks: list[str] = []
        self.found: list[NewRequest] = []
        self.releases: list[str] = []
        self.commit: Commit | None = None
        self.beat: float | None = None
        self.is_known = False
        self.compares = False
        self.compares_at = 0.0
        self.silent = 0
        self.ready = 0
        self.queued = 0
        self.visit: int | None = None

    # What it says

    def ask(self, now: float) -> Ask:
        if self.commit is None and (self.acks or self.found):
            acks, self.acks = self.acks[:100], self.acks[100:]
            found, self.found = self.found[:100], self.found[100:]
            settlements = [Settlement(id_) for id_ in acks]
            self.commit = Commit(self.commits + 1, found, (), settlements)
        for seat in [s for s in self.seats.values() if self._is_over(s, now)]:
            self.yielding[seat.name] = self.seats.pop(seat.name)
        want = min(100, self.capacity - self.active - self.queued)
        manners = None
        if want > 0:
            manners = self.manners(self._renewals(now, want))
        return Ask(
            commits=[self.commit] if self.commit else (),
            releases=self.releases[:100],
            yields=self._yields(now),
            reap=self.silent > 0,
            heartbeat=True,
            leases=max(0, want),
            suspects=SUSPECTS if want > 0 else 0,
            manners=manners,
        )

    def manners(self, renewals: Sequence[Renewal] = ()) -> Manners:
        return Manners(
            self.rules, self.horizon, self.portion, self.most_seats, renewals
        )

    def _is_over(self, seat: Seat, now: float) -> bool:
        if seat.queue or (seat.active and "gives back too early" not in self.faults):
            return False
        over = self.ready > 0 and now - seat.since > self.turn
        return seat.stops or seat.is_dry or over

    def _yields(self, now: float) -> list[Yield]:
        found = []
        for seat in list(self.yielding.values())[:100]:
            rest = 0.0 if "no rest" in self.faults else max(0.0, seat.ready - now)
            rules = None
            if seat.learned is not None:
                rules = Rules(seat.learned / 1000, seat.total)
            found.append(Yield(seat.name, rest / 1000, rules))
        return found

    def _renewals(self, now: float, want: int) -> list[Renewal]:
        found: list[Renewal] = []
        for seat in self.seats.values():
            most = self.portion
            if seat.delay > 0:
                most = min(most, 1 + int(1000 * self.horizon / seat.delay))
            most = min(most - len(seat.queue), want)
            stays = not self.ready or now - seat.since < self.turn
            if most > 0 and not seat.stops and stays:
                under_way = max(seat.places, seat.active)
                if "tells nothing of downloads" in self.faults:
                    under_way = 0
                found.append(Renewal(seat.name, most, under_way))
                want -= most
            if want <= 0 or len(found) == 100:
                break
        return found

    # What it is told

    def lost(self, now: float) -> None:
        """No reply came; perhaps it was carried out."""
        if "never compares" not in self.faults:
            self.compares = True
        del now

    def read(self, ask: Ask, answer: Answer, sent: float, now: float) -> bool:
        """Take *answer* in; false: this worker is not known, and has nothing."""
        beat = answer.heartbeat
        assert beat is not None
        assert not answer.refused, answer.refused
        is_gap = False
        for commit, reply in zip(ask.commits, answer.commits, strict=True):
            if reply.outcome in (Outcome.STORED, Outcome.REPEATED):
                self.leases.difference_update(commit.ended)
                self.commits, self.commit = commit.number, None
            else:
                assert reply.outcome in (Outcome.UNKNOWN_WORKER, Outcome.GAP), reply
                is_gap = True
        if not beat.known:
            if "keeps what it lost" in self.faults:
                self.is_known = False
                return True
            self._forget()
            self.commits = 0
            return False
        if ask.releases:
            self.leases.difference_update(ask.releases)
            del self.releases[: len(ask.releases)]
        for seat in ask.yields:
            self.yielding.pop(seat.name, None)
        self.beat, self.silent = sent, beat.silent
        if "believes the reply" in self.faults:
            self.beat = now
        if is_gap or beat.commit != self.commits:
            self._rolled_back()
        elif beat.held != len(self.leases):
            self.compares = "never compares" not in self.faults
        if answer.granted is not None:
            self._grant(ask, answer, now)
        return True

    def _grant(self, ask: Ask, answer: Answer, now: float) -> None:
        granted = answer.granted
        assert granted is not None
        self.ready = granted.ready
        leases = iter(answer.leases)
        asked = {each.name for each in ask.manners.renewals} if ask.manners else set()
        for grant in granted.grants:
            delay = round(grant.rules.delay * 1000)
            seat = self.open(grant.name, delay, grant.rules.places, now)
            seat.is_dry = grant.name in asked and not grant.leases
            for _ in range(grant.leases):
                self._lease(seat, next(leases))
        assert next(leases, None) is None
        for name in granted.taken:
            self.lose(name)
        for name in granted.wanted:
            if name in self.seats:
                self.seats[name].stops = True

    def open(self, name: str, delay: int, places: int, now: float) -> Seat:
        """The seat of that name, with what Redis says of it."""
        seat = self.seats.get(name)
        if seat is None and name in self.yielding:
            # It was not given back yet: a suspect came, or a visit was asked for.
            seat = self.seats[name] = self.yielding.pop(name)
            seat.is_dry = seat.stops = False
        if seat is None:
            slot = int(name.partition(".")[0])
            seat = self.seats[name] = Seat(name, slot, delay, places, now, now)
        if seat.learned is None:
            seat.delay = delay
        seat.places = places
        return seat

    def _lease(self, seat: Seat, lease: Lease) -> None:
        assert lease.slot == seat.slot
        seat.queue.append((lease.id, int(lease.payload)))
        self.leases.add(lease.id)
        self.queued += 1

    def visited(self, slot: int, visit: Visit, now: float) -> Seat | None:
        """The seat in which it may ask *slot* now."""
        if not visit.granted:
            return None
        delay = round(visit.rules.delay * 1000)
        return self.open(str(slot), delay, visit.rules.places, now)

    def compare(self, seats: set[str], leases: set[str], now: float) -> None:
        """Redis has these for this worker."""
        self.compares = False
        for name in seats - self.seats.keys() - self.yielding.keys():
            # Granted in a reply that was lost: nothing was started in it.
            slot = int(name.partition(".")[0])
            self.yielding[name] = Seat(name, slot, 0, 1, now, now)
        for name in (self.seats.keys() | self.yielding.keys()) - seats:
            self.lose(name)
        self.releases += sorted(leases - self.leases - {*self.releases})
        for seat in self.seats.values():
            before = len(seat.queue)
            seat.queue = deque(x for x in seat.queue if x[0] in leases or x[1] < 0)
            self.queued -= before - len(seat.queue)
        self.leases &= leases

    def lose(self, name: str) -> None:
        if "keeps what it lost" in self.faults:
            return
        seat = self.seats.pop(name, None) or self.yielding.pop(name, None)
        if seat is not None:
            self.queued -= len(seat.queue)
            self.releases += [id_ for id_, number in seat.queue if number >= 0]
            seat.queue.clear()

    def _rolled_back(self) -> None:
        """Redis does not know the last commits: nothing under way may be acknowledged."""
        queued = {id_ for seat in self.seats.values() for id_, _ in seat.queue}
        self.leases &= queued
        self.acks, self.found, self.commit = [], [], None
        self.is_known = False
        self.compares = True

    # What it starts

    def is_fenced(self, now: float) -> bool:
        return "no fence" not in self.faults and self.is_late(now)

    def is_late(self, now: float) -> bool:
        """Whether its last confirmed beat is too long ago."""
        return self.beat is None or now - self.beat > FENCE * self.ttl

    def start(self, seat: Seat, now: float) -> tuple[str, int] | None:
        """What may be started now in *seat*."""
        has_place = seat.active < seat.places or "no places" in self.faults
        if not seat.queue or self.active >= self.capacity or not has_place:
            return None
        if seat.ready > now and "no spacing" not in self.faults:
            return None
        found = seat.queue.popleft()
        seat.active += 1
        seat.ready = now + seat.delay
        self.active += 1
        self.queued -= 1
        return found

    def finish(self, seat: Seat, id_: str, found: Sequence[NewRequest]) -> None:
        """What was started in *seat* is done."""
        seat.active -= 1
        self.active -= 1
        if id_ in self.leases and id_ not in self.releases:
            self.acks.append(id_)
            self.found += found
