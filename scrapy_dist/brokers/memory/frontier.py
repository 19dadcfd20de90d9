"""One worker's session with a crawl in memory: the port, as the scripts of Redis act."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scrapy_dist.brokers.memory.polite_lending import PoliteLending
from scrapy_dist.brokers.memory.presence import Presence
from scrapy_dist.brokers.memory.state import Entry, Limits, Present, State
from scrapy_dist.core.frontier import (
    Answer,
    Ask,
    Claim,
    Commit,
    CommitReply,
    End,
    Joined,
    JoinOutcome,
    LeaseId,
    LeaveOutcome,
    NewRequest,
    Outcome,
    Settlement,
)
from scrapy_dist.core.politeness import Rules, Visit, differ_in_manners
from scrapy_dist.core.tasks import Begin, Beginning

if TYPE_CHECKING:
    from scrapy_dist.brokers.memory.crawl import MemoryCrawl
    from scrapy_dist.brokers.redis.keys import Keys


class MemoryFrontier:
    """`core.frontier_port.Frontier`. *ttl* in seconds, the other *limits* as in `Limits`."""

    def __init__(
        self,
        state: State,
        crawl: MemoryCrawl,
        keys: Keys,
        *,
        ttl: float,
        newest_first: bool = False,
        seed_keys: Sequence[str] = (),
        process: tuple[str, str] | None = None,
        is_polite: bool = False,
        **limits: Any,
    ) -> None:
        self.limit: float | None = None
        self.worker = str(1 + secrets.randbits(52) % (2**52 - 1))
        self._state = state
        self._limits = heeded = Limits(int(ttl * 1000), **limits)
        state.tasks.keeps_results = heeded.result_ttl > 0
        self.polite = str(heeded.ttl) if is_polite else ""
        self._newest_first = newest_first
        self._lending = PoliteLending(state, self.worker, heeded, seed_keys)
        self._presence = Presence(state, self.worker, heeded, process)
        self._name = ""
        self.status = crawl.status
        self.where, self.key, self.failed_key = crawl.where, keys.requests, keys.failed
        self.process = process
        #: The crawl that this worker has joined.
        self._crawl = ""

    # Joining and leaving

    async def join(
        self, info: str, *, commit: int, flush: bool, persist: bool, age: float
    ) -> Joined:
        state, now = self._state, self._state.now()
        with state.lock:
            self._name = info
            # Somebody who beats four times per TTL and missed two beats is not here.
            others = state.alive(self._limits.ttl // 2, but=self.worker)
            is_over = (
                state.finished is not None
                and not state.left()
                and state.active <= state.finished
            )
            if self._crawl and self._has_ended(is_over=is_over, others=others):
                return Joined(JoinOutcome.MISSED, others)
            if (
                age > 0
                and not others
                and not state.left()
                and (is_over or not state.crawl)
            ):
                last = state.records[-1] if state.records else None
                if last and last.end and last.end.timestamp() > now / 1000 - age:
                    self._crawl = last.crawl
                    return Joined(JoinOutcome.LATE)
            if others and state.polite != self.polite:
                refusal = differ_in_manners(self.polite, state.polite)
                return Joined(JoinOutcome.REFUSED, others, refusal=refusal)
            state.polite = self.polite
            outcome = JoinOutcome.JOINED
            if others:
                outcome = JoinOutcome.NOT_FLUSHED if flush else outcome
            elif flush or (is_over and not persist):
                state.forget(all_=True)
                outcome = JoinOutcome.FLUSHED
            elif is_over:
                state.forget(all_=False)
            state.active = state.active or now
            if not state.crawl:
                state.crawl = f"{now}-{self.worker}"
                state.letters_before = len(state.letters)
            if not self._crawl:
                state.joined += 1
            self._crawl = state.crawl
            state.workers[self.worker] = Present(info, commit, now, now)
            blank = not (state.seen or state.started)
            return Joined(outcome, others, len(state.pending), blank)

    def _has_ended(self, *, is_over: bool, others: int) -> bool:
        state = self._state
        if state.crawl == self._crawl:
            return is_over and not others
        return any(record.crawl == self._crawl for record in state.records)

    async def leave(
        self, *, finished: bool | None, persist: bool, reason: str
    ) -> tuple[LeaveOutcome, int]:
        state, now = self._state, self._state.now()
        with state.lock:
            seen = len(state.seen)
            me = state.workers.get(self.worker)
            if state.held(self.worker):
                if me is not None:
                    me.beat = 0  # it knows nothing of them: whoever reaps gets them
                    state.changed()
                return LeaveOutcome.LEFT, seen
            state.workers.pop(self.worker, None)
            state.seats.end(self.worker, state.now())
            state.changed()
            present = state.alive(self._limits.ttl // 2)
            if state.left() or state.busy() or self._lending.seeds_left():
                return LeaveOutcome.LEFT, seen
            state.tasks.lose()
            if not finished:
                if finished is False:
                    state.finished = None
                return LeaveOutcome.LEFT if present else LeaveOutcome.KEPT, seen
            if present:
                state.finished = max(now, state.active)
                return LeaveOutcome.LEFT, seen
            state.record(reason, now)
            if persist:
                state.finished = max(now, state.active)
                return LeaveOutcome.LEFT, seen
            state.forget(all_=True)
            return LeaveOutcome.DELETED, seen

    async def tell_last(self, stats: Sequence[tuple[str, str, str]]) -> None:
        with self._state.lock:
            for change in stats if self._state.crawl else ():
                self._state.change_stat(*change)

    async def sweep(self) -> None:
        """Nothing: all is deleted at once."""

    async def close(self) -> None:
        """Nothing: whoever watches is told once at the most."""

    async def disconnect(self) -> None:
        """Nothing: there is no connection."""

    async def held(self) -> frozenset[LeaseId]:
        return frozenset(self._state.held(self.worker))

    async def seats(self) -> frozenset[str]:
        return frozenset(self._state.seats.held(self.worker))

    async def set_rules(self, rules: Mapping[int, Rules]) -> None:
        with self._state.lock:
            self._state.seats.rules.update(rules)

    async def watch(self, changed: Callable[[], None]) -> bool:
        self._state.watch(changed)
        return True

    # The round trip

    async def exchange(self, ask: Ask) -> Answer:
        await asyncio.sleep(0)
        with self._state.lock:
            if ask.manners is not None:
                self._state.seats.default = ask.manners.rules
            return self._answer(ask)

    def _answer(self, ask: Ask) -> Answer:
        state, answer = self._state, Answer()
        before = (len(state.pending), len(state.suspects), len(state.leases))
        answer.commits = [self._commit(commit) for commit in ask.commits]
        self._release(ask.releases)
        if ask.yields:
            self._lending.give_back(ask.yields)
        for reject in ask.rejects:
            self._bury(self._take(reject.lease), reject.reason)
        if ask.claims:
            answer.claims = [self._claim(claim) for claim in ask.claims]
        if ask.begins:
            answer.begun = [self._begin(begin) for begin in ask.begins]
        for number, process in ask.gone:
            self._presence.end(number, process)
        if ask.reap:
            answer.deaths = self._presence.reap()
        if ask.meet:
            answer.met = self._presence.meet()
        if ask.heartbeat:
            answer.heartbeat = self._presence.beat(ask)
        if ask.readmit:
            answer.readmitted = self._lending.readmit()
        if ask.seeds:
            answer.seeds = self._lending.lease_seeds(ask.seeds)
            answer.seeds_left = self._lending.seeds_left()
        if ask.manners is not None:
            manners = ask.manners
            visits = [self._lending.visit(slot, manners) for slot in ask.visits]
            answer.visits = [visit or Visit(granted=False) for visit in visits]
        if ask.leases and ask.manners is not None:
            answer.leases, answer.left, answer.granted = self._lending.lease_politely(
                ask.leases, ask.suspects, ask.manners
            )
        elif ask.leases:
            answer.leases, answer.left = self._lending.lease(
                ask.leases, ask.suspects, ask.enough
            )
        if ask.count:
            answer.counts = state.count(
                seeds=self._lending.seeds_left(), failed_limit=self._limits.failed_limit
            )
            if answer.counts.is_drained:
                state.tasks.lose()
        for change in ask.stats:
            state.change_stat(*change)
        if before != (len(state.pending), len(state.suspects), len(state.leases)):
            state.changed()
        return answer

    def _take(self, lease: LeaseId) -> Entry | None:
        """End *lease*, if it is this worker's; its request."""
        if self._state.owner(lease) != self.worker:
            return None
        self._state.active = self._state.now()
        return self._state.leases.pop(lease)[1]

    def _bury(self, entry: Entry | None, reason: str) -> None:
        if entry is not None:
            self._state.bury(
                entry,
                reason,
                self._name,
                self._limits.failed_limit,
                deliveries=entry.deaths + 1,
            )

    # Commits

    def _commit(self, commit: Commit) -> CommitReply:
        state = self._state
        me = state.workers.get(self.worker)
        if me is None:
            return CommitReply(Outcome.UNKNOWN_WORKER)
        if me.commit >= commit.number:
            return CommitReply(Outcome.REPEATED, int(me.not_owned >= commit.number))
        if me.commit != commit.number - 1:
            return CommitReply(Outcome.GAP)
        duplicates, dropped = [], []
        for at, request in enumerate(commit.requests):
            if self._is_known(request):
                duplicates.append(at)
            elif state.tasks.is_over(request.task):
                dropped.append(at)
            else:
                self._store(request)
        self._push(commit.items)
        owned = [state.owner(s.lease) == self.worker for s in commit.settlements]
        ended = 0
        for settlement, is_owned in zip(commit.settlements, owned, strict=True):
            if is_owned:
                ended += self._settle(settlement)
        if ended:
            state.pages += max(0, ended + commit.crawled - len(commit.ended))
        me.commit = commit.number
        state.active = state.now()
        not_owned = owned.count(False)
        if not_owned:
            me.not_owned = commit.number
        return CommitReply(Outcome.STORED, not_owned, duplicates, dropped=dropped)

    def _is_known(self, request: NewRequest) -> bool:
        name = request.fingerprint
        if request.start:
            return _mark_of(request) in self._state.started
        return bool(name) and name in self._state.seen

    def _store(self, request: NewRequest) -> None:
        """Make *request*, which is not known, pending."""
        state, name = self._state, request.fingerprint
        if request.start:
            state.started.add(_mark_of(request))
        if name and request.start <= 1:
            state.seen.add(name)
        state.add(request, newest_first=self._newest_first)

    def _push(self, items: Iterable[tuple[str, bytes]], task: str = "") -> None:
        for key, data in items:
            self._state.push_item(key, data)
            self._state.tasks.add_item(task, data)
            self._state.stored_items += 1

    def _settle(self, settlement: Settlement) -> bool:
        """Store what is part of it; whether the lease ends."""
        task, tasks = settlement.task, self._state.tasks
        for request in settlement.requests if not tasks.is_over(task) else ():
            self._store(replace(request, fingerprint="", start=0, task=task))
        self._push(settlement.items, task)
        if settlement.end is End.OPEN:
            return False
        for link in settlement.chain:
            if link.reason:
                order = self._state.next_order()
                entry = Entry(order, 0, link.payload, link.slot, task=task)
                tasks.count(task, 1)
                self._bury(entry, link.reason)
            if link.fingerprint:
                self._state.seen.add(link.fingerprint)
        entry_of_lease = self._take(settlement.lease)
        assert entry_of_lease is not None
        pages = sum(link.is_page and not link.reason for link in settlement.chain)
        if settlement.end is End.FAILED:
            self._bury(entry_of_lease, settlement.reason)
            tasks.count(task, done=pages)
        else:
            tasks.count(entry_of_lease.task, -1, done=pages + settlement.counts)
        return True

    def _begin(self, begin: Begin) -> Beginning:
        """The seed of a lease begins; asked again, it has."""
        state = self._state
        if state.owner(begin.lease) != self.worker:
            return Beginning.NOT_OWNED
        entry = state.leases[begin.lease][1]
        if entry.task and not state.tasks.is_over(entry.task):
            return Beginning.BEGUN
        begun = state.tasks.begin(begin, self._name)
        if begun is Beginning.BEGUN:
            entry.task = begin.token
        return begun

    def _claim(self, claim: Claim) -> bool | None:
        """Filter a request that stays here; whether to crawl it, see `Answer`.

        Whoever gets one of its leases after a death finds the fingerprint seen, but
        claimed by the lease, and may follow it once more.
        """
        state = self._state
        known = state.started if claim.start else state.seen
        name = _mark_of(claim)
        if any(state.owner(lease) != self.worker for lease in claim.leases):
            return True  # it has lost one, and marks nothing
        entries = [state.leases[lease][1] for lease in claim.leases]
        if entries and all(state.tasks.is_cancelled(entry.task) for entry in entries):
            return None
        if not name:
            return True
        if name not in known:
            known.add(name)
            for entry in entries:
                entry.claims.add(name)
            return True
        return any(name in entry.claims for entry in entries)

    def _release(self, leases: Iterable[LeaseId]) -> None:
        for lease in leases:
            entry = self._take(lease)
            if entry is not None:
                self._state.put(entry)


def _mark_of(request: NewRequest | Claim) -> str:
    """By what it is known again; one of ``start()`` may have a number in front."""
    name = request.fingerprint
    return name if request.start <= 1 else f"{request.start} {name}"
