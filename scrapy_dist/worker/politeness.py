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
import time
from typing import TYPE_CHECKING, Any

from scrapy_dist.core.politeness import Manners, Rules, Yield, slot_of_seat
from scrapy_dist.core.slots import NO_SLOT
from scrapy_dist.worker.held import HORIZON, PORTION, Held, portion_of
from scrapy_dist.worker.wishes import Wishes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scrapy import Request

    from scrapy_dist.core.frontier import Answer, Ask
    from scrapy_dist.core.politeness import Granted, Renewal
    from scrapy_dist.core.politeness_settings import PolitenessOptions
    from scrapy_dist.core.slots import Slots
    from scrapy_dist.worker.view import Downloads, EngineView

#: What part of FRONTIER_WORKER_TTL after its last beat a worker may start downloads.
_FENCE = 0.99
#: Seconds before the end of a delay at which a request is handed out, for its way through
#: the downloader middlewares to the gate.
_LEAD = 0.02
#: Seats of a slot without a delay, at the most.
_SEATS = 8
#: Seats that are renewed, given back or asked for in one exchange.
_MOST = 100
#: Seconds between two questions of a worker that waits for a slot to open.
_LOOK_SHORTEST, _LOOK_LONGEST = 0.05, 0.5


class Politeness:
    """The slots of one worker. *ttl*: FRONTIER_WORKER_TTL.

    *is_gated*: every download passes `start`; else those that are handed out wait for
    their slots, and the others only count.
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
        #: Whether there is no other worker.
        self.is_alone = False
        self._engine = engine
        self._slots = slots
        #: Tells how many requests of a slot wait in this worker, and of which slots some do.
        self.waiting: Callable[[int], int] = lambda _: 0
        self.waiting_slots: Callable[[], Iterable[int]] = tuple
        self._options = options
        self._rules = options.rules
        #: Requests that come with a slot.
        self.portion = portion_of(options.rules.delay)
        self._fence = _FENCE * ttl
        self._beat_at = -math.inf
        self._others_wait = False
        self._where: dict[Request, Held] = {}
        #: Those that have reached the downloader, and whether they have been sent.
        self._arrived: dict[Request, bool] = {}
        #: Slots that are to be asked for.
        self.wishes = Wishes(self.held)
        #: When something may be started in slots that were given back or lost.
        self._rests: dict[int, float] = {}
        #: When another slot may be asked, as Redis said last; None: nobody knows.
        self._opens_at: float | None = None
        #: Called when a slot of this worker is not used any more.
        self.unused: Callable[[], None] = lambda: None
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
        # Where there is no gate, the downloader starts it at once.
        return held.next_start - (_LEAD if self.is_gated else 0.0)

    def could_start(self, number: int, within: float) -> tuple[int, float | None]:
        """See `Held.could_start`, of slot *number*."""
        held = self.held.get(number)
        return (0, None) if held is None else held.could_start(within, time.monotonic())

    def handed(self, number: int, request: Request, now: float) -> None:
        """*request* is on its way to the downloader."""
        held = self.held.get(number) or Held(number, now)
        self._where[request] = held
        held.coming.add(request)

    def may_start(self, request: Request, now: float) -> float | None:
        """Seconds until *request* may start, 0: now; None: a seat of its slot is needed."""
        held = self.held.get(self._slots.number(request))
        if held is None:
            return None
        if self.is_fenced(now) or len(held.active) >= held.places:
            return math.inf
        if self._ends_visits(held, now) and request not in self._where:
            return math.inf
        return max(0.0, held.next_start - now)

    def _ends_visits(self, held: Held, now: float) -> bool:
        """Whether the turn of a slot is over that this worker only visits.

        It gives it back then, and asks for it again: others may need it.
        """
        if self.is_alone or now - held.since < self._options.turn:
            return False
        return not held.coming and not self.waiting(held.number)

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

    def _started(self, held: Held, request: Request, at: float) -> None:
        slot, raised = self._downloads(request) if held.delay > 0 else (None, 0.0)
        held.start(request, at, slot, raised)

    def _downloads(self, request: Request) -> tuple[Downloads | None, float]:
        """The downloader's slot of *request*, and `PolitenessOptions.raised` of it."""
        key = self._engine.download_slot(request)
        slot = self._engine.download_state(key, request)
        return slot, 0.0 if slot is None else self._options.raised(key, slot.delay)

    def reached(self, request: Request, now: float) -> None:
        """*request* has reached the downloader."""
        held = self._where.get(request)
        is_due = self.is_gated
        if not self.is_gated:
            number = self._slots.number(request)
            is_due = held is not None and held.number == number
            if held is not None and not is_due:  # a middleware gave it another slot
                self._where.pop(request).coming.discard(request)
            held = held if is_due else self.held.get(number)
        if held is None:
            return
        if request not in held.active:
            self._where[request] = held
            # The downloader starts what was not handed out behind the delay.
            self._started(held, request, now if is_due else max(now, held.next_start))
        self.sent(request, now)
        self._arrived[request] = False
        # What has no delay for all workers may have got one in the downloader.
        if is_due and (held.delay > 0 or not self._downloads(request)[1]):
            self._engine.start_now(request)

    def sent(self, request: Request, now: float) -> None:
        """*request* may have left only now: its delay counts from here at the earliest.

        This process may have done other things since `start`.
        """
        held = self._where.get(request)
        if held is not None and request in held.active:
            self._arrived[request] = True
            held.next_start = max(held.next_start, now + held.gap)

    def look(self) -> bool:
        """See which downloads have ended; whether any has."""
        if not self._where:
            return False
        here, in_progress = self._engine.in_downloader(), self._engine.in_progress()
        in_scraper = self._engine.in_scraper()
        ended = []
        for request in self._where:
            if request in here:
                self._arrived.setdefault(request, True)  # a project's may not say so
            elif (
                request in self._arrived  # some turns later before Scrapy 2.14
                or request in in_scraper  # its response was cached
                or request not in in_progress
            ):
                ended.append(request)
        for request in ended:
            if not self._arrived.get(request, True):  # its response is quicker
                self.sent(request, time.monotonic())
            self._arrived.pop(request, None)
            held = self._where.pop(request)
            if request in held.active and held.delay > 0:
                held.ended(time.monotonic())
                if self._options.learns:
                    held.learn(self._downloads(request)[0])
            held.active.discard(request)
            held.coming.discard(request)
            if not held.busy and held.number in self.held and not self._is_needed(held):
                self.unused()
        if ended:
            self.changed()
        return bool(ended)

    # With Redis

    def next_opening(self, now: float) -> float | None:
        """Seconds after which a worker that was given nothing is to ask; None: unknown.

        Where others have all slots, it asks some times in each delay.
        """
        if self._opens_at is not None and self._opens_at > now:
            return min(self._opens_at - now, _LOOK_LONGEST)
        delay = self._rules.delay
        return min(max(_LOOK_SHORTEST, delay / 3), _LOOK_LONGEST) if delay > 0 else None

    def ask(self, now: float, *, want: int) -> dict[str, Any]:
        """What the next `Ask` says of slots; *want* requests are asked for."""
        self.look()
        self._rests = {n: at for n, at in self._rests.items() if at > now}
        renewals = self._renewals(now) if want else []
        yields = self._yields(now, renewals)
        kept = [each for each in renewals if slot_of_seat(each.name) in self.held]
        return {
            "manners": Manners(self._rules, HORIZON, PORTION, _SEATS, kept),
            "yields": yields,
            "visits": self._visits(now),
        }

    def answered(self, ask: Ask, answer: Answer, now: float) -> None:
        """Take in the answer, all of which is right."""
        self.is_unsure = False
        for seat in ask.yields:
            self.leaving.pop(seat.name, None)
        if ask.visits:
            for number, visit in zip(ask.visits, answer.visits, strict=True):
                if visit.granted:
                    self._take(str(number), visit.rules, now)
                self.wishes.answered(number, visit, now)
            self.changed()
            if not self.is_gated:
                self._engine.wake()
        if answer.granted is not None and ask.manners is not None:
            self._granted(answer.granted, ask.manners, now)

    def _visits(self, now: float) -> list[int]:
        if not self.is_gated:
            # On behalf of what waits in this worker.
            self.wishes.keep(n for n in self.waiting_slots() if n != NO_SLOT)
        return self.wishes.due(now, _MOST)

    def _renewals(self, now: float) -> list[Renewal]:
        """The seats that more requests are wanted of, and how many of each."""
        renewals: list[Renewal] = []
        for held in self.held.values():
            more = held.portion - self.waiting(held.number)
            if more > 0 and len(renewals) < _MOST and self._goes_on(held, now):
                renewals += held.renewals(more)
        return renewals

    def _goes_on(self, held: Held, now: float) -> bool:
        """Whether this worker may keep the slot for more requests of it."""
        if held.is_wanted or self._is_idle(held, now):
            return False
        return not self._others_wait or now - held.since < self._options.turn

    def _yields(self, now: float, renewals: Iterable[Renewal]) -> list[Yield]:
        """The seats to be given back: those of slots that have nothing, but *renewals*."""
        renewed = {slot_of_seat(each.name) for each in renewals}
        for held in list(self.held.values()):
            number = held.number
            ends = self._ends_visits(held, now) or self._is_idle(held, now)
            if held.busy or (self._is_needed(held) and not ends):
                continue
            if held.in_vain or number not in renewed or number in self.wishes:
                self._leave(held, now)
        return list(self.leaving.values())[:_MOST]

    def _is_idle(self, held: Held, now: float) -> bool:
        """Whether nothing starts there that could, while this worker waits for others' slots.

        All its downloads may be waiting for those, and their owners' for this one. What
        waits here of the slot asks for it again when it comes to the gate.
        """
        if not self.is_gated or self.is_alone or not held.is_unused(now):
            return False
        return held.number not in self.wishes and self.wishes.next_look(now) is not None

    def _is_needed(self, held: Held) -> bool:
        """Whether something waits here for the slot."""
        return held.number in self.wishes or self.waiting(held.number) > 0

    def _leave(self, held: Held, now: float) -> None:
        self._drop(held)
        self.leaving |= {seat.name: seat for seat in held.yields(now)}

    def _drop(self, held: Held) -> None:
        """The slot is not this worker's any more; it may soon be again."""
        if self.held.pop(held.number, None) is not None and held.delay > 0:
            self._rests[held.number] = held.next_start

    def beaten(self, sent_at: float) -> None:
        """Redis has confirmed a beat that was sent then."""
        was_fenced = self.is_fenced(time.monotonic())
        self._beat_at = max(self._beat_at, sent_at)
        if was_fenced:
            self.changed()
            self._engine.wake()

    def _granted(self, answer: Granted, asked: Manners, now: float) -> None:
        """Take in what came of *asked*."""
        self._others_wait = answer.ready > 0
        for held in self.held.values():
            held.in_vain = any(each.name in held.seats for each in asked.renewals)
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
        self._opens_at = now + answer.wait if answer.wait else None
        self.changed()

    def _take(self, name: str, rules: Rules, now: float) -> Held:
        """The seat *name* is this worker's."""
        number = slot_of_seat(name)
        self.leaving.pop(name, None)
        held = self.held.get(number)
        if held is None:
            rests_until = self._rests.pop(number, 0.0)
            held = self.held[number] = Held(number, now, next_start=rests_until)
        if held.learned is None:
            held.delay = rules.delay
        held.seats[name] = rules.places
        return held

    def _lose(self, name: str) -> None:
        held = self.held.get(slot_of_seat(name))
        if held is not None:
            held.seats.pop(name, None)
            if not held.seats:
                self._drop(held)

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
            # Granted in an answer that was lost. Nothing was started, but what this worker
            # had started there before may be as young as can be.
            rest = self._rests.get(slot_of_seat(name), 0.0) - time.monotonic()
            self.leaving[name] = Yield(name, max(self._rules.delay, rest))
        self.is_unsure = False

    def forget(self) -> None:
        """Redis does not know this worker any more: it has no slot."""
        for held in list(self.held.values()):
            self._drop(held)
        self.leaving.clear()
        self.is_unsure = True
