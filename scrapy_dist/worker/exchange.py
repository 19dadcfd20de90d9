"""One exchange with Redis: what is asked, and what becomes of the answer.

It is one pipelined round trip, which commits what this worker produced, beats, and
brings leases.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy_dist.core.frontier import BATCH, Answer, Ask, JoinOutcome, Outcome
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.worker.delays import Delays
from scrapy_dist.worker.recovery import Link
from scrapy_dist.worker.view import Account

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scrapy_dist.core.frontier import CommitReply, Heartbeat
    from scrapy_dist.core.frontier_port import Frontier
    from scrapy_dist.worker.neighbours import Neighbours
    from scrapy_dist.worker.outbox import Numbered
    from scrapy_dist.worker.queues import Queues
    from scrapy_dist.worker.recovery import Recovery
    from scrapy_dist.worker.view import EngineView

#: Commits in one exchange at the most, so that no exchange is long.
COMMITS = 4
#: Seconds between two deliveries of stats, and of what this worker tells of itself.
_STATS, _INFO = 1.0, 1.0


class Refused(RedisUnavailable):
    """Redis refuses what this worker produced; the log says so."""


@dataclass(eq=False)
class Exchange:
    """Carries out exchanges with the frontier, never two at once.

    *name* tells people who this worker is. *persist*: see `Frontier.join`.
    """

    _frontier: Frontier
    _queues: Queues
    _engine: EngineView
    _recovery: Recovery
    _neighbours: Neighbours
    name: str
    persist: bool
    #: Whether Redis has been told that a request without a lease is in hand.
    _busy: bool = False
    #: Workers that Redis has not heard of for long.
    _silent: int = 0
    _stats_at: float = 0.0
    _info_at: float = 0.0
    _stats_sent: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        #: What has changed of the stats since it was called last.
        self.changes: Callable[[], list[tuple[str, str, str]]]
        self.changes = getattr(self._engine.stats, "take_changes", list)
        self._delays = Delays(self._engine.spider)
        queues = self._queues
        self._outbox, self._view = queues.outbox, queues.view
        self._pacing, self._politeness = queues.pacing, queues.politeness

    async def run_once(self, *, take: bool = True) -> None:
        """One exchange. *take* false: bring no new work (the worker is closing).

        Raises RedisUnavailable; nothing is lost then, and the next exchange repeats what
        is not confirmed.
        """
        queues, view = self._queues, self._view
        if view.account is Account.REJOINING:
            await self._join_again()
        if view.is_over:
            return
        if view.account is Account.RECONCILING:
            await self._compare_leases()
        if self._politeness is not None and self._politeness.is_unsure:
            self._politeness.compare(await self._frontier.seats())
        queues.collect()
        commits = self._outbox.take(1 if view.is_full else COMMITS)
        ask = self._ask(commits, take=take)
        self._pacing.unplan_alarm()
        started = time.monotonic()
        # It may hear of it without a reply.
        self._busy = bool(ask.busy) or self._busy
        try:
            answer = await self._frontier.exchange(ask)
        except BaseException:  # it may have been cancelled, too
            queues.pinned.claimed([])
            self._grants_are_unsure()
            raise
        self._pacing.exchanged(time.monotonic() - started)
        self._heard_of(ask, started)
        self._grants_are_unsure()  # until all of the answer was taken in
        self._end_leases(ask, answer)
        if not self._apply_commits(commits, answer.commits):
            # Leases of this exchange are found again by comparing accounts.
            return
        if answer.heartbeat is not None and not self._apply_beat(answer.heartbeat):
            return
        self._apply_grants(ask, answer, started)
        if answer.readmitted is not None:
            view.waiting = answer.readmitted
        news = self._apply_leases(ask, answer)
        self._recovery.look_at_room(self._frontier.failed_key)
        self._plan(answer, news=news)
        if answer.refused:
            raise RedisUnavailable(answer.refused)

    def _grants_are_unsure(self) -> None:
        if self._politeness is not None:
            self._politeness.is_unsure = True

    # What to ask for

    def _ask(self, commits: Sequence[Numbered], *, take: bool) -> Ask:
        """What to ask for now; *take* false: no new work."""
        queues, polite, now = self._queues, self._politeness, time.monotonic()
        claims = queues.pinned.take_claims()
        # No lease while Redis refuses commits: what it hands out could not be stored. One
        # that is only full takes acknowledgements, and those free its memory. Nor right
        # after a failure: first the beat tells whether leases came that were not heard of.
        # They would be blamed for a death of this worker.
        again = self._recovery.link is not Link.ANSWERED
        hungry = take and not self._recovery.refusal and not again
        want = queues.wanted() if hungry else 0
        gone = list(self._neighbours.gone)[:BATCH] if take else []
        # Until what such a request led to is stored: the others might see nothing left.
        busy = queues.pinned.is_busy or (self._busy and len(self._outbox) > 0)
        # Commits find out, too, whether Redis still knows this worker.
        beat_due = self._pacing.beat_is_due or busy != self._busy
        beats = not (commits and take) or beat_due or again
        info_due = beats and now - self._info_at >= _INFO
        return Ask(
            commits=[numbered.commit for numbered in commits],
            releases=self._outbox.releases[:BATCH],
            rejects=self._outbox.rejects[:BATCH],
            claims=claims,
            begins=queues.beginnings.take(),
            gone=gone,
            reap=bool(self._silent or gone) and take,
            meet=take and self._neighbours.ask_in() == 0.0,
            heartbeat=beats,
            info=queues.progress.info() if info_due else "",
            busy=busy if beats and (busy or self._busy) else None,
            readmit=bool(self._view.waiting and want),
            seeds=queues.seeds_wanted() if hungry else 0,
            leases=want,
            suspects=queues.leases.suspects_wanted if want else 0,
            enough=queues.enough() if want else (),
            count=take and queues.is_empty(),
            **({} if polite is None else polite.ask(now, want=want)),
            stats=self._stats_due(force=not take),
        )

    def _stats_due(self, *, force: bool) -> list[tuple[str, str, str]]:
        now = time.monotonic()
        if force or now - self._stats_at >= _STATS:
            self._stats_at = now
            self._stats_sent += self.changes()
        return self._stats_sent[: 10 * BATCH]

    # What becomes of the answer

    def _heard_of(self, ask: Ask, at: float) -> None:
        """Redis has heard of what *ask* told it, *at* that moment."""
        del self._stats_sent[: len(ask.stats)]
        if ask.heartbeat:
            self._pacing.beaten(at)
            self._busy = bool(ask.busy)
        if ask.info:
            self._info_at = at

    def _end_leases(self, ask: Ask, answer: Answer) -> None:
        """Take in what has become of leases and claims that end, and who is here."""
        queues, outbox = self._queues, self._outbox
        if answer.claims is not None:
            queues.pinned.claimed(answer.claims)
        elif ask.claims and answer.refused:
            queues.pinned.claimed([])
        elif ask.claims:
            queues.pinned.claim_again()
            self._pacing.something_waits()
        if queues.beginnings.answered(ask.begins, answer.begun):
            self._recovery.doubt()
        if answer.met is not None:
            self._neighbours.see(*answer.met)
        if answer.deaths is not None:
            self._recovery.took_over(answer.deaths)
        if answer.refused:
            return  # nobody knows of the rest: it is told again, which does no harm
        if ask.gone:
            self._neighbours.told(ask.gone)
        if ask.releases:
            del outbox.releases[: len(ask.releases)]
            queues.leases.close(ask.releases)
        if ask.rejects:
            del outbox.rejects[: len(ask.rejects)]
            queues.leases.close([reject.lease for reject in ask.rejects])

    def _apply_commits(
        self, commits: Sequence[Numbered], replies: Sequence[CommitReply]
    ) -> bool:
        """Take the replies in; false if the rest of the exchange is not to be trusted."""
        not_owned = 0
        for numbered, reply in zip(commits, replies, strict=True):
            if reply.outcome is Outcome.REFUSED:
                self._recovery.refused(reply.reason)
                raise Refused(reply.reason)
            if reply.outcome is Outcome.FULL:
                self._queues.leases.close(self._outbox.only_empty_ends())
                if self._recovery.full(len(self._outbox)):
                    self._queues.outputs.redis_is_full()
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
            self._outbox.confirm(numbered)
            self._queues.confirmed(numbered, reply)
            if numbered.outputs > len(reply.duplicates) + len(reply.dropped):
                self._recovery.stored()
            not_owned += reply.not_owned
        if not_owned:
            # What they sent ahead of their ack was not taken. Not before all replies are
            # read: what is confirmed must not be sent again.
            self._rollback(
                "Redis does not hold leases that this worker has: it went back to an"
                " earlier state"
            )
            return False
        self._recovery.taken(len(self._outbox))
        return True

    def _apply_beat(self, beat: Heartbeat) -> bool:
        """As ``_apply_commits``."""
        if not beat.known:
            self._rollback("Redis does not know this worker any more")
            return False
        confirmed = self._outbox.confirmed
        if beat.commit < confirmed:
            self._rollback(
                f"Redis holds commit {beat.commit} of this worker, {confirmed} was"
                " confirmed: it went back to an earlier state"
            )
            return False
        view = self._view
        view.alive = max(1, beat.alive)
        view.alone = view.alone and view.alive == 1
        if self._politeness is not None:
            self._politeness.is_alone = view.alive == 1
        self._delays.look(view.alive)
        self._silent = beat.silent
        self._neighbours.heard(beat.met, beat.alive)
        self._neighbours.look()
        if beat.held != len(self._queues.leases.records):
            self._recovery.doubt()
        self._recovery.heard(beat)
        return True

    def _apply_grants(self, ask: Ask, answer: Answer, sent_at: float) -> None:
        """Take in which slots this worker may ask, and that Redis counts it as alive."""
        politeness = self._politeness
        if politeness is None:
            return
        if answer.heartbeat is not None:
            politeness.beaten(sent_at)
        if answer.refused:
            self._grants_are_unsure()
        else:
            politeness.answered(ask, answer, time.monotonic())

    def _apply_leases(self, ask: Ask, answer: Answer) -> bool:
        """Hand what was leased to the scheduler; false if there was nothing."""
        queues, view = self._queues, self._view
        known = False
        if ask.leases or ask.seeds:
            queues.prefetch.answered()
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
        if known:
            # A part of that page may have come while the lease was not ours.
            self._rollback(
                "Redis hands out what this worker holds: it went back to an earlier state"
            )
        return bool(answer.leases or answer.seeds)

    def _plan(self, answer: Answer, *, news: bool) -> None:
        """Say what the next exchange is for."""
        queues, outbox, pacing = self._queues, self._outbox, self._pacing
        pacing.rest()
        if self.is_unsettled:
            pacing.something_waits()
        elif len(outbox):
            pacing.outputs_wait()
        if self._busy and not queues.pinned.is_busy:
            pacing.request()
        if self._silent:
            pacing.others_are_silent()
        ask_in = self._neighbours.ask_in()
        if ask_in is not None:
            pacing.request(ask_in)
        if answer.goes_on:
            pacing.request()
        counts = answer.counts
        look_again = None if counts is None else queues.on_drained(counts)
        if look_again is not None:
            pacing.request(look_again)
        if news:
            pacing.sated()
        if self._politeness is not None:
            look_again = self._politeness.wishes.next_look(time.monotonic())
            if look_again is not None:
                pacing.request(look_again)
        if queues.wanted() and not self._recovery.refusal:
            opening = None
            if self._politeness is not None and not news:
                opening = self._politeness.next_opening(time.monotonic())
            pacing.hungry(vain=not news, lead_time=queues.lead_time(), opening=opening)

    @property
    def is_unsettled(self) -> bool:
        """Whether leases are to end, beside those of the pages in the outbox."""
        joined = self._view.account is Account.JOINED
        leaves = self._politeness is not None and bool(self._politeness.leaving)
        ends = self._outbox.releases or self._outbox.rejects
        return bool(ends or leaves or not joined)

    # Redis went back to an earlier state

    def _rollback(self, found: str) -> None:
        self._recovery.rolled_back(found)
        acks = self._outbox.withdraw_settlements()
        self._outbox.releases += acks
        self._outbox.releases += self._queues.rolled_back()
        if self._politeness is not None:
            self._politeness.forget()
        self._pacing.request()

    async def _join_again(self) -> None:
        joined = await self._frontier.join(
            self.name,
            commit=self._outbox.number,
            flush=False,
            persist=self.persist,
            age=0.0,
        )
        if joined.outcome is JoinOutcome.REFUSED:
            self._recovery.shut_out(joined.refusal)
        if joined.refusal:
            raise RedisUnavailable(joined.refusal)
        self._neighbours.ask_again()
        if joined.outcome is JoinOutcome.MISSED:
            self._recovery.missed_end(len(self._outbox))
            return
        self._busy = False
        self._recovery.rejoined(len(self._queues.leases.records))

    async def _compare_leases(self) -> None:
        """Release what Redis holds for us and we do not know; forget the opposite."""
        in_redis = await self._frontier.held()
        releases, here = self._outbox.releases, set(self._queues.leases.records)
        releases += sorted(in_redis - here - set(releases))
        self._queues.lost(sorted(here - in_redis))
        self._recovery.compared()
