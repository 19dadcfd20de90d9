"""The background task that talks to Redis: one exchange after another, never two at once.

An exchange is one pipelined round trip. It commits what this worker produced, beats, and
brings leases. Everything here runs between two turns of the event loop; nothing in it
waits for Redis except the task itself (I4).
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import traceback
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.waits import first_try
from scrapy_dist.core.frontier import (
    BATCH,
    Answer,
    Ask,
    CommitReply,
    Heartbeat,
    JoinOutcome,
    Outcome,
)
from scrapy_dist.exceptions import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scrapy import Spider

    from scrapy_dist.core.ports import Frontier
    from scrapy_dist.worker.neighbours import Neighbours
    from scrapy_dist.worker.outbox import Numbered
    from scrapy_dist.worker.queues import Queues

logger = get_logger(__name__)

#: Pending requests, for each place of a downloader, that are enough for everybody, and
#: how many times longer this worker waits for its next exchange then.
_PLENTY, _PATIENCE = 2, 2
#: Commits in one exchange at the most, so that no exchange is long.
_COMMITS = 4
#: Seconds between two tries while Redis does not answer: first, longest.
_RETRY_FIRST, _RETRY_LONGEST = 0.1, 5.0
#: Seconds between two tries to store results in a Redis that is full.
_FULL_RETRY = 0.25
#: Seconds between two looks of an idle worker where Redis cannot wake it.
_POLL = 0.25
#: Seconds between two vain exchanges of a woken worker: first, longest.
_VAIN_FIRST, _VAIN_LONGEST = 0.01, 0.2
#: Seconds that a wake-up waits after a vain exchange at the most: many are woken at once.
_WOKEN_LONGEST = 0.02
#: Seconds without an exchange after which a hungry worker asks Redis to wake it.
_ARM = 0.02
#: Seconds between two beats: while commits tell that this worker lives, and at the most.
_BEAT_BUSY, _BEAT = 0.25, 5.0
#: Seconds that a round trip counts for at the most, and those up to which a longer one
#: than before is believed at once.
_ROUND_TRIP, _ROUND_TRIP_SURE = 1.0, 0.05
#: Seconds that a worker whose process is being ended has to give back what it holds.
_GOODBYE = 2.0
#: How often in a row an exchange may fail in the same way, if it is not Redis' fault.
_DEFECTS = 8
#: Seconds between two deliveries of stats.
_STATS = 1.0
#: Seconds between two deliveries of what this worker tells people of itself.
_INFO = 1.0


class _Refused(RedisUnavailable):
    """Redis refuses what this worker produced; the log says so."""


class Exchange:
    """Runs exchanges for one worker.

    The outbox is filled between exchanges; ``request()`` says when the next one should
    happen.
    """

    def __init__(
        self,
        frontier: Frontier,
        queues: Queues,
        spider: Spider,
        *,
        name: str,
        failed_key: str,
        concurrency: int,
        flush: float,
        ttl: float,
        patience: float = 0.0,
        persist: bool = False,
    ) -> None:
        self.outbox = queues.outbox
        self.view = queues.view
        self.outbox.something_waits = self.flush_soon
        self.view.request = self.request
        self.view.pause = flush
        self.changes: Callable[[], list[tuple[str, str, str]]] = list
        #: Called when Redis has not answered for *patience* seconds (0: never).
        self.give_up: Callable[[], None] = lambda: None
        #: Called when exchanges fail again and again, and it is not Redis' fault.
        self.broken: Callable[[], None] = lambda: None
        #: Called when the frontier has become one that this version cannot read.
        self.refused: Callable[[], None] = lambda: None
        #: Called when the crawl has finished without this worker.
        self.missed_end: Callable[[], None] = lambda: None
        #: Called when somebody asks this worker to close.
        self.stop_asked: Callable[[], None] = lambda: None
        #: What this worker tells people of itself.
        self.info: Callable[[], str] = str
        #: The other workers on this machine; None where their processes cannot be seen.
        self.neighbours: Neighbours | None = None
        self._failed_key = failed_key
        self.exchanges = 0

        self._frontier = frontier
        self._queues = queues
        self._spider = spider
        self._flush = flush
        self._plenty = _PLENTY * concurrency
        self._name = name
        self._patience = patience
        self._persist = persist
        self._beat_every = min(_BEAT, ttl / 4)
        self._beat_busy = min(_BEAT_BUSY, self._beat_every)
        # Not longer than the others may wait for a beat when Redis is back.
        self._retry_longest = min(_RETRY_LONGEST, ttl / 4)
        self._event = asyncio.Event()
        self._due = math.inf
        #: Whether what waits is sent soon enough.
        self._soon = False
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._armed = False
        self._arm_timer: asyncio.TimerHandle | None = None
        self._arming: asyncio.Task[None] | None = None
        self._rejoin = False
        #: Why this worker registers again.
        self._found = ""
        #: Whether Redis has been told that a request without a lease is in hand.
        self._busy = False
        self._reconcile = False
        self._silent = 0
        #: Where exchanges have failed last, and how often in a row.
        self._defect: tuple[object, ...] = ()
        self._defects = 0
        self._retry = 0.0
        self._vain = 0.0
        self._away = False
        self._answered_at = time.monotonic()
        self._last = 0.0
        self._stats_at = 0.0
        self._info_at = self._beat_at = 0.0
        self._stop_said = self._said_waiting = self._refusal_said = False
        #: What this worker has taken from a dead one so far.
        self._taken_over = self._given_up = 0
        self._stats_sent: list[tuple[str, str, str]] = []
        self._refused: str | None = None
        self._said_full = False

    # When

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="frontier exchange")
        self.request()

    def request(self, delay: float = 0.0) -> None:
        """Ask for an exchange in *delay* seconds at the latest."""
        self._soon = self._soon or delay <= self.view.pause
        loop = asyncio.get_running_loop()
        when = max(loop.time() + delay, self._not_before)
        if when >= self._due:
            return
        self._due = when
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when <= loop.time():
            self._event.set()
        else:
            self._timer = loop.call_at(when, self._event.set)

    def flush_soon(self) -> None:
        """Something waits to be sent: at once if it is a batch, else within a moment."""
        if self._soon and not self.outbox.full_batch:
            return
        at_once = self.outbox.full_batch and not self.view.is_full
        self.request(0.0 if at_once else self.view.pause)

    def _woken(self) -> None:
        """Redis says that a key has changed since ``arm``."""
        self._armed = False
        vain = min(self._vain, _WOKEN_LONGEST)
        self.request(max(0.0, self._last + vain - time.monotonic()))

    async def _run(self) -> None:
        try:
            await self._exchange_on()
        except asyncio.CancelledError:
            if not self._stopping:
                # The event loop ends, and nobody has closed this worker.
                await self.say_goodbye()
            raise

    async def end_early(self) -> None:
        """The process is about to end, and nobody closes this worker: say goodbye."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _exchange_on(self) -> None:
        while not self._stopping:
            await self._event.wait()
            self._nothing_due()
            if self._stopping:
                break
            # What one callback yields reaches the scheduler over some turns of the
            # loop; let it come together, so that one commit holds it.
            for _ in range(3):
                await asyncio.sleep(0)
            if self._soon:
                self._nothing_due()
            try:
                await self.run_once()
            except _Refused:
                self._failed(None)
            except RedisUnavailable as e:
                self._failed(e)
            except Exception as e:  # noqa: BLE001  logged there
                # A defect must not end the task in silence: the crawl would hang.
                self._count_defect(e)
                self._failed(None)
            else:
                self._answered()

    def _nothing_due(self) -> None:
        """The exchange that begins now is what was asked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._event.clear()
        self._due = math.inf
        self._soon = False

    def _failed(self, error: Exception | None) -> None:
        self._retry = min(max(self._retry * 2, _RETRY_FIRST), self._retry_longest)
        if error is not None and not self._away:
            self._away = True
            logger.warning(
                "No exchange with Redis (%s). This worker keeps its %d requests, goes on"
                " with them and tries again until Redis is back.",
                error,
                len(self._queues.held()),
                extra={"spider": self._spider},
            )
        if 0 < self._patience <= time.monotonic() - self._answered_at:
            logger.error(
                "Redis has not answered for %d seconds (FRONTIER_REDIS_PATIENCE):"
                " closing. What this worker holds is crawled by the next one.",
                self._patience,
                extra={"spider": self._spider},
            )
            self._patience = 0.0
            self.give_up()
        delay = self._retry * (0.5 + random.random())
        self._not_before = asyncio.get_running_loop().time() + delay
        self.request(delay)

    def _count_defect(self, error: Exception) -> None:
        """Log *error*, of which Redis is not the cause; close when it stays the same."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        defect = (type(error), place.filename, place.lineno)
        self._defects = self._defects + 1 if defect == self._defect else 1
        self._defect = defect
        if self._defects == 1:
            logger.error(
                "The exchange with Redis failed. It is tried again.",
                exc_info=error,
                extra={"spider": self._spider},
            )
        elif self._defects == _DEFECTS:
            logger.error(
                "The exchange with Redis failed %d times in a row at the same place (%s:"
                " %s): closing. This is a defect of scrapy-dist, or of what the project"
                " gives it; the traceback is above. What this worker holds goes back.",
                _DEFECTS,
                type(error).__name__,
                error,
                extra={"spider": self._spider},
            )
            self.broken()

    def _answered(self) -> None:
        self._defects = 0
        if self._away:
            self._away = False
            logger.info("Redis is back.", extra={"spider": self._spider})
        failed_before = self._retry > 0
        self._retry = 0.0
        self._not_before = 0.0
        if failed_before:
            self.request()  # leases, see run_once
        self._answered_at = time.monotonic()

    # What

    async def run_once(self, *, take: bool = True) -> None:
        """One exchange. *take* false: bring no new work (the worker is closing).

        Raises RedisUnavailable; nothing is lost then, and the next exchange repeats what
        is not confirmed.
        """
        if self._rejoin and not self.view.is_over:
            await self._join_again()
        if self.view.is_over:
            return
        if self._reconcile:
            await self._compare_leases()
        self._queues.collect()
        commits = self.outbox.take(1 if self.view.is_full else _COMMITS)
        ask = self._ask(commits, take=take)
        if self._arm_timer is not None:
            self._arm_timer.cancel()
            self._arm_timer = None
            self._armed = False
        started = time.monotonic()
        # It may hear of it without a reply.
        self._busy = bool(ask.busy) or self._busy
        try:
            answer = await self._frontier.exchange(ask)
        except BaseException:  # it may have been cancelled, too
            self._queues.pinned.claimed([])
            raise
        self._last = time.monotonic()
        self._took(self._last - started)
        self.exchanges += 1
        del self._stats_sent[: len(ask.stats)]
        if ask.heartbeat:
            self._beat_at = started
            self._busy = bool(ask.busy)
        if ask.info:
            self._info_at = started
        self._hear(ask, answer)
        if not self._apply_commits(commits, answer.commits):
            # Leases of this exchange are found again by comparing accounts.
            self._reconcile = True
            return
        if answer.heartbeat is not None and not self._apply_beat(answer.heartbeat):
            return
        if answer.readmitted is not None:
            self.view.waiting = answer.readmitted
        news = self._apply_leases(ask, answer)
        self._tell_of_waiting()
        self._plan(answer, news=news)
        if answer.refused:
            raise RedisUnavailable(answer.refused)

    def _ask(self, commits: Sequence[Numbered], *, take: bool) -> Ask:
        """What to ask for now; *take* false: no new work."""
        queues, now = self._queues, time.monotonic()
        claims = queues.pinned.take_claims()
        # No lease while Redis refuses commits: what it hands out could not be stored. One
        # that is only full takes acknowledgements, and those free its memory. Nor right
        # after a failure: first the beat tells whether leases came that were not heard of.
        # They would be blamed for a death of this worker.
        again = self._retry > 0
        hungry = take and self._refused is None and not again
        want = queues.wanted() if hungry else 0
        near = self.neighbours if take else None
        gone = [] if near is None else list(near.gone)[:BATCH]
        # Until what such a request led to is stored: the others might see nothing left.
        busy = queues.pinned.is_busy or (self._busy and len(self.outbox) > 0)
        # Commits find out, too, whether Redis still knows this worker.
        beat_due = now - self._beat_at >= self._beat_busy or busy != self._busy
        beats = not (commits and take) or beat_due or again
        return Ask(
            commits=[numbered.commit for numbered in commits],
            releases=self.outbox.releases[:BATCH],
            rejects=self.outbox.rejects[:BATCH],
            claims=claims,
            gone=gone,
            reap=bool(self._silent or gone) and take,
            meet=near is not None and near.ask_in() == 0.0,
            heartbeat=beats,
            info=self.info() if beats and now - self._info_at >= _INFO else "",
            busy=busy if beats and (busy or self._busy) else None,
            readmit=bool(self.view.waiting and want),
            seeds=queues.seeds_wanted() if hungry else 0,
            leases=want,
            suspects=queues.suspects_wanted() if want else 0,
            count=take and queues.is_empty(),
            stats=self._stats_due(force=not take),
        )

    def _hear(self, ask: Ask, answer: Answer) -> None:
        """Take in what has become of leases and claims that end, and who is here."""
        queues, near = self._queues, self.neighbours
        if answer.claims is not None:
            queues.pinned.claimed(answer.claims)
        elif ask.claims and answer.refused:
            queues.pinned.claimed([])
        elif ask.claims:
            queues.pinned.claim_again()
            self.flush_soon()
        if near is not None and answer.met is not None:
            near.see(*answer.met)
        if answer.deaths is not None:
            deaths = answer.deaths
            self._tell_of_dead(deaths.suspects, deaths.failed, deaths.ended)
        if answer.refused:
            return  # nobody knows of the rest: it is told again, which does no harm
        if near is not None and ask.gone:
            near.told(ask.gone)
        if ask.releases:
            del self.outbox.releases[: len(ask.releases)]
            queues.leases.close(ask.releases)
        if ask.rejects:
            del self.outbox.rejects[: len(ask.rejects)]
            queues.leases.close([reject.lease for reject in ask.rejects])

    def _took(self, seconds: float) -> None:
        """Smooth the round trip; a stall of Redis is none, however long it was."""
        most = min(_ROUND_TRIP, max(_ROUND_TRIP_SURE, 2 * self.view.round_trip))
        if not self.exchanges:
            self.view.round_trip = min(seconds, _ROUND_TRIP)
        else:
            self.view.round_trip += 0.2 * (min(seconds, most) - self.view.round_trip)

    def _apply_commits(
        self, commits: Sequence[Numbered], replies: Sequence[CommitReply]
    ) -> bool:
        """Take the replies in; false if the rest of the exchange is not to be trusted."""
        not_owned = 0
        for numbered, reply in zip(commits, replies, strict=True):
            if reply.outcome is Outcome.REFUSED:
                self._refuse(reply.reason)
                self._reconcile = True
                raise _Refused(reply.reason)
            if reply.outcome is Outcome.FULL:
                self._wait_for_memory()
                break  # the commits behind it found it missing
            if reply.outcome is Outcome.AGAIN:
                break  # to be sent again, and the commits behind it too
            if reply.outcome not in (Outcome.STORED, Outcome.REPEATED):
                self._rollback(
                    "Redis does not know this worker any more"
                    if reply.outcome is Outcome.UNKNOWN_WORKER
                    else "Redis has lost commits of this worker"
                )
                return False
            self.outbox.confirm(numbered)
            self._queues.confirmed(
                numbered, [numbered.requests[at] for at in reply.duplicates]
            )
            if numbered.outputs > len(reply.duplicates):
                self.view.is_full = False
            not_owned += reply.not_owned
        if not_owned:
            # What they sent ahead of their ack was not taken. Not before all replies are
            # read: what is confirmed must not be sent again.
            self._rollback(
                "Redis does not hold leases that this worker has: it went back to an"
                " earlier state"
            )
            return False
        if self._refused is not None:
            self._refused = None
            logger.info("Redis takes results again.", extra={"spider": self._spider})
        if self._said_full and not len(self.outbox):
            self._said_full = False
            logger.info("Redis has memory again.", extra={"spider": self._spider})
        return True

    def _wait_for_memory(self) -> None:
        self._queues.leases.close(self.outbox.only_empty_ends())
        if not self.view.is_full:
            self.view.is_full = True
            self._queues.outputs.redis_is_full()
        if self._said_full:
            return
        self._said_full = True
        logger.warning(
            "Redis is full (maxmemory). %d results of this worker wait until it takes"
            " them; pages that lead to nothing new go on. Raise maxmemory, move items"
            " out of Redis, or give it a bigger machine.",
            len(self.outbox),
            extra={"spider": self._spider},
        )

    def _apply_beat(self, beat: Heartbeat) -> bool:
        if not beat.known:
            self._rollback("Redis does not know this worker any more")
            return False
        confirmed = self.outbox.confirmed
        if beat.commit < confirmed:
            self._rollback(
                f"Redis holds commit {beat.commit} of this worker, {confirmed} was"
                " confirmed: it went back to an earlier state"
            )
            return False
        self.view.alive = max(1, beat.alive)
        self.view.alone = self.view.alone and self.view.alive == 1
        self._silent = beat.silent
        if self.neighbours is not None:
            self.neighbours.heard(beat.met, beat.alive)
            self.neighbours.look()
        self._reconcile = beat.held != len(self._queues.held())
        self._obey(beat)
        return True

    def _tell_of_dead(self, suspects: int, failed: int, ended: int) -> None:
        self._taken_over += suspects
        self._given_up += failed
        if ended:
            logger.info(
                "%d worker(s) are dead: silent for more than FRONTIER_WORKER_TTL, or their"
                " process is gone. Of what they held, %d request(s) are suspects now, and"
                " %d dead letters.",
                ended,
                self._taken_over,
                self._given_up,
                extra={"spider": self._spider},
            )
            self._taken_over = self._given_up = 0

    def _tell_of_waiting(self) -> None:
        if bool(self.view.waiting) == self._said_waiting:
            return
        self._said_waiting = bool(self.view.waiting)
        extra = {"spider": self._spider}
        if not self.view.waiting:
            logger.info("%s has room again.", self._failed_key, extra=extra)
            return
        logger.warning(
            "%s is full (FRONTIER_FAILED_LIMIT). What fails now stays among the suspects"
            " and is tried again when there is room (%d requests so far): see `scrapy"
            " frontier failed`, put dead letters back (`retry`), delete them (`forget`),"
            " or raise the limit.",
            self._failed_key,
            self.view.waiting,
            extra=extra,
        )

    def _obey(self, beat: Heartbeat) -> None:
        if beat.paused != self.view.paused:
            self.view.paused = beat.paused
            logger.info(
                "Paused: this worker finishes what it holds and takes no more."
                if beat.paused
                else "Resumed.",
                extra={"spider": self._spider},
            )
        if beat.stop and not self._stop_said:
            self._stop_said = True
            logger.info(
                "Asked to stop (scrapy frontier workers --stop): closing.",
                extra={"spider": self._spider},
            )
            self.stop_asked()

    def _apply_leases(self, ask: Ask, answer: Answer) -> bool:
        """Hand what was leased to the scheduler; false if there was nothing."""
        queues, view = self._queues, self.view
        known = False
        if ask.leases or ask.seeds:
            queues.answered()
        if answer.left is not None:
            left = answer.left
            view.pending = left.pending + left.suspects
            view.suspects = left.suspects
            view.waiting = left.waiting
            view.to_be_alone = left.alone
            if answer.leases:
                known = not queues.accept(answer.leases)
            else:
                queues.nothing_came()
        if answer.seeds_left is not None:
            view.seeds_left = answer.seeds_left
            if answer.seeds:
                known = not queues.accept(answer.seeds, seeds=True) or known
        news = bool(answer.leases or answer.seeds)
        if known:
            # A part of that page may have come while the lease was not ours.
            self._rollback(
                "Redis hands out what this worker holds: it went back to an earlier state"
            )
        return news

    def _plan(self, answer: Answer, *, news: bool) -> None:
        """Say when the next exchange is due."""
        # Nobody waits for what this worker has while there is enough for all.
        everybody_busy = (
            self.view.pending + self.view.seeds_left >= self._plenty * self.view.alive
        )
        self.view.pause = self._flush * (_PATIENCE if everybody_busy else 1)
        if self.outbox.releases or self.outbox.rejects or self._reconcile:
            self.flush_soon()
        elif len(self.outbox):
            if self.view.is_full and not self.outbox.has_empty_ends:
                self.request(_FULL_RETRY)
            else:
                self.flush_soon()
        self.request(self._beat_every)
        if self._busy and not self._queues.pinned.is_busy:
            self.request()
        if self._silent:
            self.request(self._flush)
        ask_in = None if self.neighbours is None else self.neighbours.ask_in()
        if ask_in is not None:
            self.request(ask_in)
        if answer.goes_on:
            self.request()
        counts = answer.counts
        look_again = None if counts is None else self._queues.on_drained(counts)
        if look_again is not None:
            self.request(look_again)
        if news:
            self._vain = 0.0
        if self._queues.wanted() == 0 or self._refused is not None:
            return
        if not news:
            self._vain = min(max(self._vain * 2, _VAIN_FIRST), _VAIN_LONGEST)
        if (self.view.pending or self.view.seeds_left) and not self.view.paused:
            # Others had their share first, or a suspect is in hand.
            self.request(max(self._flush, self._vain))
        elif not self._armed:
            self._armed = True
            # A worker that goes ahead will ask by itself, and so will one that has just
            # got something to do; the arming takes connections and round trips.
            legs = max(self._queues.lead_time(), self.view.round_trip)
            delay = max(_ARM, self._vain, 2 * legs)
            self._arm_timer = asyncio.get_running_loop().call_later(
                delay, self._start_arming
            )

    def _start_arming(self) -> None:
        self._arm_timer = None
        self._arming = asyncio.get_running_loop().create_task(self._arm())

    async def _arm(self) -> None:
        """Watch the keys, then look once more: something may have come before."""
        watched = await self._frontier.watch(self._woken)
        if watched:
            if self._armed:
                self.request()
        else:
            self._armed = False
            self.request(_POLL)

    def _stats_due(self, *, force: bool) -> list[tuple[str, str, str]]:
        now = time.monotonic()
        if force or now - self._stats_at >= _STATS:
            self._stats_at = now
            self._stats_sent += self.changes()
        return self._stats_sent[: 10 * BATCH]

    def _refuse(self, reason: str) -> None:
        if reason != self._refused:
            self._refused = reason
            logger.warning(
                "Redis refuses what this worker produced: %s. It is kept, and sent again"
                " until Redis takes it.",
                reason,
                extra={"spider": self._spider},
            )

    # Redis went back to an earlier state

    def _rollback(self, found: str) -> None:
        self._rejoin = True
        self.view.alone = False
        if self._away:
            # One line says that it is back, and what came of it.
            self._away = False
            found = f"Redis is back. {found}"
        acks = self.outbox.withdraw_settlements()
        self.outbox.releases += acks
        self.outbox.releases += self._queues.rolled_back()
        self._found = self._found or found
        self.request()

    async def _join_again(self) -> None:
        joined = await self._frontier.join(
            self._name,
            commit=self.outbox.number,
            flush=False,
            persist=self._persist,
            age=0.0,
        )
        final = joined.outcome is JoinOutcome.REFUSED
        if final and not self._refusal_said:
            # Its crawl was cleared, and another version, or one with another secret, has
            # begun a new one.
            self._refusal_said = True
            logger.error("%s", joined.refusal, extra={"spider": self._spider})
            self.refused()
        if joined.refusal:
            raise RedisUnavailable(joined.refusal)
        if self.neighbours is not None:
            self.neighbours.ask_again()
        self._rejoin = False
        if joined.outcome is JoinOutcome.MISSED:
            self.view.is_over = True
            logger.warning(
                "The others have finished this crawl while this worker was cut off. What"
                " it held was crawled by them; %d results of it are not stored. Closing:"
                " see scrapy frontier history.",
                len(self.outbox),
                extra={"spider": self._spider},
            )
            self.missed_end()
            return
        self._reconcile = True
        self._busy = False
        logger.warning(
            "%s. This worker registers again, and %d of its requests will be crawled"
            " again by whoever gets them.",
            self._found,
            len(self._queues.held()),
            extra={"spider": self._spider},
        )
        self._found = ""

    async def _compare_leases(self) -> None:
        """Release what Redis holds for us and we do not know; forget the opposite."""
        in_redis = await self._frontier.held()
        here = self._queues.held()
        self.outbox.releases += sorted(in_redis - here - set(self.outbox.releases))
        self._queues.lost(sorted(here - in_redis))
        self._reconcile = False

    # The end

    async def stop(self, timeout: float) -> None:
        """End the task after the exchange that is under way.

        *timeout*: what `finish` will have, in seconds. An exchange that takes longer than
        the first try there is given up; the next one finds out what came of it.
        """
        self._stopping = True
        self._event.set()
        for timer in (self._timer, self._arm_timer):
            if timer is not None:
                timer.cancel()
        if self._arming is not None:
            self._arming.cancel()
        await self._frontier.close()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=first_try(timeout))
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_GOODBYE)
        if self.neighbours is not None:
            self.neighbours.close()

    async def finish(self, timeout: float) -> bool:
        """Deliver everything that is left; false if Redis did not take it in time.

        *timeout* in seconds. A try may hang on a connection that is dead; its connection
        is closed then, and the next try makes a new one.
        """
        deadline = time.monotonic() + timeout
        limit = first_try(timeout)
        tries = 0
        while True:
            reason: object = "it is full"
            if self.view.is_over:
                return False
            left = deadline - time.monotonic()
            tries += 1
            # Redis may be slow and well: the third try has all the time that is left.
            self._frontier.limit = limit if tries < 3 else max(limit, left)
            try:
                await self.run_once(take=False)
            except RedisUnavailable as e:
                reason = e
            else:
                tries = 0
                unsettled = (
                    self.outbox.releases or self.outbox.rejects or self._reconcile
                )
                if not (len(self.outbox) or unsettled or self._rejoin):
                    return True
                if not self.view.is_full:
                    continue
            if time.monotonic() > deadline:
                logger.warning(
                    "Redis does not take the last results (%s). Nothing is lost: the"
                    " pages of this worker will be crawled again.",
                    reason,
                    extra={"spider": self._spider},
                )
                return False
            await asyncio.sleep(_RETRY_FIRST)

    async def say_goodbye(self) -> None:
        """Give back at once all that this worker holds, for its process ends now.

        So the others need not wait until it counts as dead. What it has begun is crawled
        again by them: nothing is acknowledged that was not finished before. Takes two
        seconds at the most.
        """
        self._stopping = True
        self._frontier.limit = _GOODBYE
        try:
            given_back = await asyncio.wait_for(self._give_up(), _GOODBYE)
        except (RedisUnavailable, OSError, asyncio.TimeoutError) as e:
            logger.warning(
                "This worker ends without a goodbye (%s): what it holds is crawled by the"
                " others after FRONTIER_WORKER_TTL.",
                e,
                extra={"spider": self._spider},
            )
        except Exception:
            logger.exception(
                "This worker ends without a goodbye", extra={"spider": self._spider}
            )
        else:
            logger.info(
                "This worker ends and gives %d request(s) back that it has not finished.",
                given_back,
                extra={"spider": self._spider},
            )
        finally:
            await self._frontier.close()

    async def _commit_last(self) -> None:
        whole = True
        while whole and (commits := self.outbox.take(_COMMITS)):
            ask = Ask(commits=[numbered.commit for numbered in commits])
            answer = await self._frontier.exchange(ask)
            for numbered, reply in zip(commits, answer.commits, strict=True):
                if reply.outcome is Outcome.REFUSED:
                    raise _Refused(reply.reason)
                stored = reply.outcome in (Outcome.STORED, Outcome.REPEATED)
                whole = whole and stored
                if whole:
                    self.outbox.confirm(numbered)

    async def _give_up(self) -> int:
        if self.view.is_over:
            return 0
        try:
            await self._commit_last()
        except _Refused as e:
            if not self._defects:
                logger.error(
                    "The last results of this worker are not stored (%s): their pages"
                    " will be crawled again.",
                    e,
                    extra={"spider": self._spider},
                )
        except (RedisUnavailable, OSError):
            raise
        except Exception:
            if not self._defects:
                logger.exception(
                    "The last results of this worker are not stored: their pages will be"
                    " crawled again.",
                    extra={"spider": self._spider},
                )
        held = sorted(await self._frontier.held())
        await self._frontier.exchange(Ask(releases=held))
        await self._frontier.leave(
            finished=None, persist=self._persist, reason="finished"
        )
        return len(held)
