"""Which slots this worker may ask, and when it may start the next download there.

In a polite crawl (FRONTIER_POLITENESS) delays and places hold for all workers together. A
worker starts a download only in a slot of which it has a seat, and only while Redis is
sure to count it as alive: within 0.99 of FRONTIER_WORKER_TTL after its last confirmed beat
was sent. Who has a slot with a delay spaces the starts by its own clock, and says when it
gives the slot back how much of the delay is left. So the clocks of workers need not agree:
each duration errs to the safe side at both ends.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scrapy_dist.core.politeness import Manners, Rules, Yield, slot_of_seat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scrapy import Request

    from scrapy_dist.core.frontier import Answer, Ask
    from scrapy_dist.core.politeness import Granted, Visit
    from scrapy_dist.core.politeness_settings import PolitenessOptions
    from scrapy_dist.core.slots import Slots
    from scrapy_dist.worker.view import EngineView

#: What part of FRONTIER_WORKER_TTL after its last beat a worker may start downloads.
_FENCE = 0.99
#: Seconds before the end of a delay at which a request is handed out, for its way through
#: the downloader middlewares to the gate.
_LEAD = 0.02
#: Seconds of starts that one grant is for, and requests in it at the most.
_HORIZON, _PORTION = 0.5, 16
#: Seats of a slot without a delay, at the most.
_SEATS = 8
#: Seats that are renewed, given back or asked for in one exchange.
_MOST = 100
#: Seconds after which a slot that somebody else has is asked for again; and at the longest.
_VISIT_AGAIN, _VISIT_LONGEST = 0.05, 1.0


@dataclass(eq=False, slots=True)
class Held:
    """A slot that this worker may ask; times are those of `time.monotonic`.

    *seats*: their names and places. *since*: when it got the slot. *next_start*: before
    that no download may start. *coming* are requests on their way to the gate, *active*
    those behind it that have not left the downloader.
    """

    number: int
    since: float
    delay: float = 0.0
    seats: dict[str, int] = field(default_factory=dict)
    next_start: float = 0.0
    #: The delay as it was drawn for the last start.
    gap: float = 0.0
    coming: set[Request] = field(default_factory=set)
    active: set[Request] = field(default_factory=set)
    #: Whether another one waits to visit it, or all seats but the first are too many.
    is_wanted: bool = False
    #: Whether nothing came when more was asked for.
    in_vain: bool = False
    #: What this worker has learned of the slot, to be kept.
    learned: Rules | None = None

    @property
    def places(self) -> int:
        return sum(self.seats.values())

    @property
    def busy(self) -> int:
        return len(self.coming) + len(self.active)


class Politeness:
    """The slots of one worker. *ttl*: FRONTIER_WORKER_TTL.
    *is_gated*: every download passes `start`; else what is handed out counts as started.
    """

    def __init__(
        self,
        engine: EngineView,
        options: PolitenessOptions,
        slots: Slots,
        *,
        ttl: float,
        is_gated: bool,
    ) -> None:
        self.is_gated = is_gated
        self.held: dict[int, Held] = {}
        #: Seats that are to be given back: how, and until Redis has confirmed it.
        self.leaving: dict[str, Yield] = {}
        #: Whether Redis may have granted seats that this worker has not heard of.
        self.is_unsure = False
        self._engine = engine
        self._slots = slots
        #: Tells how many requests of a slot wait in this worker.
        self.waiting: Callable[[int], int] = lambda _: 0
        self._options = options
        self._rules = options.rules
        self._fence = _FENCE * ttl
        self._beat_at = -math.inf
        self._others_wait = False
        self._where: dict[Request, Held] = {}
        #: Those that were seen in the downloader.
        self._arrived: set[Request] = set()
        #: Slots that requests at the gate need, how many do, and when to ask next.
        self._wishes: dict[int, int] = {}
        self._wish_at: dict[int, float] = {}
        #: Delays of slots that this worker had when Redis forgot it.
        self._forgotten: dict[int, float] = {}
        #: Seconds until another slot may be asked, as Redis said last; None: none.
        self.wait: float | None = None
        #: Called when something may start that had to wait.
        self.changed: Callable[[], None] = lambda: None

    # Whether, and when

    def is_fenced(self, now: float) -> bool:
        """Whether Redis might count this worker as dead by now."""
        return now - self._beat_at > self._fence

    def opens_at(self, number: int, now: float) -> float:
        """When a request of slot *number* may be handed out; *now* or before: now.

        Infinite: when something ends or comes. A slot that this worker has not is for
        the gate to ask for, one request at a time.
        """
        held = self.held.get(number)
        if self.is_fenced(now) or (held is None and not self.is_gated):
            return math.inf
        if held is None:
            is_alone = all(each.number != number for each in self._where.values())
            return now if is_alone else math.inf
        if held.busy >= held.places or (held.delay > 0 and held.coming):
            return math.inf
        return held.next_start - (_LEAD if self.is_gated else 0.0)

    def could_start(self, number: int, within: float) -> int:
        """How many requests of slot *number* may be handed out in *within* seconds."""
        held = self.held.get(number)
        if held is None:
            return 0
        free = max(0, held.places - held.busy)
        if held.delay <= 0:
            return free
        waits = held.next_start - time.monotonic() + len(held.coming) * held.delay
        return min(free, max(0, int(1 + (within - max(0.0, waits)) // held.delay)))

    def handed(self, number: int, request: Request, now: float) -> None:
        """*request* is on its way to the downloader."""
        held = self.held.get(number) or Held(number, now)
        self._where[request] = held
        held.coming.add(request)
        if not self.is_gated:
            self._started(held, request, now)

    def may_start(self, request: Request, now: float) -> float | None:
        """Seconds until *request* may start, 0: now; None: a seat of its slot is needed."""
        held = self.held.get(self._slots.number(request))
        if held is None:
            return None
        if self.is_fenced(now) or len(held.active) >= held.places:
            return math.inf
        return max(0.0, held.next_start - now)

    def start(self, request: Request, now: float) -> None:
        """*request* starts now, as `may_start` has allowed."""
        held = self.held[self._slots.number(request)]
        before = self._where.get(request)
        if before is not None:
            before.coming.discard(request)
        self._where[request] = held
        if self._options.learns:
            self._engine.set_delay(request, held.delay)
        self._started(held, request, now)

    def _started(self, held: Held, request: Request, now: float) -> None:
        held.coming.discard(request)
        held.active.add(request)
        if held.delay > 0:
            state = self._engine.download_state(
                self._engine.download_slot(request), request
            )
            jitter = 0.0 if state is None else state.jitter
            held.gap = held.delay * (1 + jitter * random.uniform(-1, 1))
            held.next_start = now + held.gap

    def began(self, request: Request) -> None:
        """The download of *request* has begun by now: its delay counts from here."""
        held = self._where.get(request)
        if held is not None and held.delay > 0:
            held.next_start = max(held.next_start, time.monotonic() + held.gap)

    def look(self) -> bool:
        """See which downloads have ended; whether any has."""
        if not self._where:
            return False
        here, in_progress = self._engine.in_downloader(), self._engine.in_progress()
        in_scraper = self._engine.in_scraper()
        ended = []
        for request, held in self._where.items():
            if request in here:
                self._arrived.add(request)
            elif (
                request in held.active
                or request in self._arrived
                or request in in_scraper  # its response was cached
                or request not in in_progress
            ):
                ended.append(request)
        for request in ended:
            held = self._where.pop(request)
            self._arrived.discard(request)
            if request in held.active and self._options.learns and held.delay > 0:
                self._learn(held, request)
            held.active.discard(request)
            held.coming.discard(request)
        if ended:
            self.changed()
        return bool(ended)

    def _learn(self, held: Held, request: Request) -> None:
        """AutoThrottle may have changed the delay: it is that of all workers."""
        state = self._engine.download_state(
            self._engine.download_slot(request), request
        )
        if state is not None and state.delay > 0 and state.delay != held.delay:
            held.delay = state.delay
            held.learned = Rules(state.delay, self._rules.places)

    # With Redis

    def wish(self, number: int, by: int) -> None:
        """*by* more requests (or less) wait at the gate for slot *number*."""
        count = self._wishes.get(number, 0) + by
        if count > 0:
            self._wishes[number] = count
        else:
            self._wishes.pop(number, None)
            self._wish_at.pop(number, None)

    def _visits(self, now: float) -> list[int]:
        """The slots to be asked for now, on behalf of what waits at the gate."""
        due = [
            number
            for number in self._wishes
            if number not in self.held and self._wish_at.get(number, now) <= now
        ]
        return due[:_MOST]

    def _visited(
        self, numbers: Sequence[int], answers: Sequence[Visit], now: float
    ) -> None:
        """Take in what came of `visits`."""
        for number, answer in zip(numbers, answers, strict=True):
            if answer.granted:
                self._take(str(number), answer.rules, now)
                self._wish_at.pop(number, None)
            else:
                wait = _VISIT_AGAIN if answer.wait is None else answer.wait
                self._wish_at[number] = now + min(wait, _VISIT_LONGEST)
        self.changed()

    def next_look(self, now: float) -> float | None:
        """Seconds until Redis is to be asked about a slot; None: there is no reason to."""
        missing = self._wishes.keys() - self.held.keys()
        waits = [self._wish_at.get(number, now) - now for number in missing]
        if self.wait is not None:
            waits.append(self.wait)
        return max(0.0, min(waits)) if waits else None

    def ask(self, now: float, *, want: int) -> dict[str, Any]:
        """What the next `Ask` says of slots; *want* requests are asked for."""
        self.look()
        manners = self._manners(now) if want else Manners(self._rules, seats=_SEATS)
        return {
            "manners": manners,
            "yields": self._yields(now, manners.renewals),
            "visits": self._visits(now),
        }

    def answered(self, ask: Ask, answer: Answer, now: float) -> None:
        """Take in the answer, all of which is right."""
        for seat in ask.yields:
            self.leaving.pop(seat.name, None)
        if ask.visits:
            self._visited(ask.visits, answer.visits, now)
        if answer.granted is not None and ask.manners is not None:
            self._granted(answer.granted, ask.manners, now)

    def _manners(self, now: float) -> Manners:
        """How leases are to come now."""
        renewals: list[tuple[str, int]] = []
        for held in self.held.values():
            more = self._portion(held) - self.waiting(held.number)
            if more > 0 and len(renewals) < _MOST and self._goes_on(held, now):
                renewals += [(name, more) for name in held.seats]
        return Manners(self._rules, _HORIZON, _PORTION, _SEATS, renewals)

    def _goes_on(self, held: Held, now: float) -> bool:
        """Whether this worker may keep the slot for more requests of it."""
        if held.is_wanted:
            return False
        return not self._others_wait or now - held.since < self._options.turn

    @staticmethod
    def _portion(held: Held) -> int:
        if held.delay > 0:
            return min(_PORTION, 1 + int(_HORIZON / held.delay))
        return max(1, min(_PORTION, held.places))

    def _yields(self, now: float, renewals: Iterable[tuple[str, int]]) -> list[Yield]:
        """The seats to be given back: those of slots that have nothing, but *renewals*."""
        renewed = {slot_of_seat(name) for name, _ in renewals}
        for held in list(self.held.values()):
            number = held.number
            is_used = held.busy or number in self._wishes or self.waiting(number)
            if not is_used and (held.in_vain or number not in renewed):
                self._leave(held, now)
        return list(self.leaving.values())[:_MOST]

    def _leave(self, held: Held, now: float) -> None:
        del self.held[held.number]
        rest = max(0.0, held.next_start - now) if held.delay > 0 else 0.0
        for name in held.seats:
            self.leaving[name] = Yield(name, rest, held.learned)

    def beaten(self, sent_at: float) -> None:
        """Redis has confirmed a beat that was sent then."""
        self._beat_at = max(self._beat_at, sent_at)
        self.changed()

    def _granted(self, answer: Granted, asked: Manners, now: float) -> None:
        """Take in what came of *asked*."""
        self._others_wait = answer.ready > 0
        for held in self.held.values():
            held.in_vain = any(name in held.seats for name, _ in asked.renewals)
        for name in answer.taken:
            self._lose(name)
        for name in answer.wanted:
            held_ = self.held.get(slot_of_seat(name))
            if held_ is not None:
                held_.is_wanted = True
        for grant in answer.grants:
            held = self._take(grant.name, grant.rules, now)
            if grant.leases:
                held.in_vain = False
        self.wait = answer.wait
        self.changed()

    def _take(self, name: str, rules: Rules, now: float) -> Held:
        """The seat *name* is this worker's."""
        number = slot_of_seat(name)
        self.leaving.pop(name, None)
        held = self.held.get(number)
        if held is None:
            held = self.held[number] = Held(number, now)
        if held.learned is None:
            held.delay = rules.delay
        held.seats[name] = rules.places
        return held

    def _lose(self, name: str) -> None:
        held = self.held.get(slot_of_seat(name))
        if held is not None:
            held.seats.pop(name, None)
            if not held.seats:
                del self.held[held.number]

    def compare(self, in_redis: Iterable[str]) -> None:
        """Redis holds exactly these seats for this worker."""
        names = set(in_redis)
        for held in list(self.held.values()):
            for name in [*held.seats]:
                if name not in names:
                    self._lose(name)
        here = {name for held in self.held.values() for name in held.seats}
        self.leaving = {n: seat for n, seat in self.leaving.items() if n in names}
        for name in names - here - self.leaving.keys():
            # Granted in an answer that was lost: nothing was started, but what it had
            # started before may be as young as can be.
            delay = self._forgotten.get(slot_of_seat(name), 0.0)
            self.leaving[name] = Yield(name, max(self._rules.delay, delay))
        self._forgotten.clear()
        self.is_unsure = False

    def forget(self) -> None:
        """Redis does not know this worker any more: it has no slot."""
        self._forgotten |= {number: held.delay for number, held in self.held.items()}
        self.held.clear()
        self.leaving.clear()
        self.is_unsure = True
