"""A worker without Scrapy: what Desk and Exchange do, as far as Redis can see it.

Pages are names; a *site* says what each of them yields. Used by the random plays against
the frontier and by the load test.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_dist.brokers.redis.buckets import compact
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.core.frontier import (
    BATCH,
    SUSPECTS,
    ChainLink,
    Claim,
    LeaveOutcome,
    NewRequest,
    Outcome,
)
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.worker.leases import HeldLease, Leases
from scrapy_dist.worker.outbox import Numbered, Outbox, RecentFingerprints

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from scrapy_dist.brokers.redis.keys import Keys
    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.core.frontier import CommitReply, Joined, Lease


@dataclass(frozen=True)
class Yield:
    """What a page yields. Of requests the names; *kept* ones stay in their worker.

    *hops* are filtered requests that no other page yields, so that they can be crawled
    ahead of Redis. *failure*: why it is a dead letter. *in_parts*: what it yields goes ahead of its ack.
    """

    filtered: Sequence[str] = ()
    unfiltered: Sequence[str] = ()
    kept: Sequence[str] = ()
    chain: Sequence[str] = ()
    items: Sequence[bytes] = ()
    failure: str = ""
    in_parts: bool = False


def score(name: str) -> float:
    """Deeper pages later."""
    return float(name.count("."))


@dataclass(eq=False)
class Task:
    """A page in hand, under the lease that *record* is about."""

    name: str
    record: HeldLease
    is_kept: bool = False
    link: ChainLink | None = None
    has_yielded: bool = False


class LightWorker:
    """Follows the protocol; whoever plays decides when it does what.

    *item_key* is where items go. After `cut_after`, Redis carries out so many calls of
    what is sent next, and then the connection is lost, before any reply. *watch* is
    called with each call before Redis has it, and what it returns is called afterwards.
    *may_go_ahead*: whether this worker knows of the page *name*, without asking Redis,
    that it is new and that nobody else will yield it.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        site: Callable[[str], Yield],
        *,
        seed_keys: Sequence[str] = (),
        watch: Callable[[LightWorker, Call[Any]], Callable[[], None] | None]
        | None = None,
        may_go_ahead: Callable[[LightWorker, str], bool] = lambda worker, name: False,
        **options: Any,
    ) -> None:
        self.frontier = Frontier(client, keys, seed_keys=seed_keys, **options)
        self.outbox = Outbox()
        self.leases = Leases()
        self.recent = RecentFingerprints(1000)
        self.inbox: deque[Task] = deque()
        self.open: list[Task] = []
        self.unclaimed: list[Task] = []
        self.releases: list[str] = []
        #: Pages that it has yielded, ever.
        self.sent: set[str] = set()
        self.silent = 0
        self.pending = 0
        self.waiting = 0
        self.to_be_alone = False
        self.was_cut = False
        self.is_new_here = True
        self.has_doubts = False
        self.is_full = False
        self.finished_pages = 0
        self.rollbacks = 0
        self._site = site
        self._watch = watch
        self._may_go_ahead = may_go_ahead
        self._item_key = keys.items
        self._budget = math.inf

    # Pages

    def start(self, name: str) -> None:
        """Yield the start request *name*; every worker does."""
        self._send(name, self.fingerprint(name), start=1)

    def take(self) -> Task | None:
        """Begin with the next page."""
        if not self.inbox:
            return None
        task = self.inbox.popleft()
        self.open.append(task)
        return task

    def go_on(self, task: Task) -> None:
        """The page yields everything; it is not finished yet."""
        task.has_yielded = True
        record = task.record
        result = self._site(task.name)
        for name in result.filtered:
            record.produced = True
            self._send(name, self.fingerprint(name))
        for name in result.unfiltered:
            record.add_request(NewRequest(name.encode(), score(name)))
        for item in result.items:
            record.add_item(self._item_key, item)
        for name in result.chain:
            fingerprint = self.fingerprint(name)
            stays = not (record.suspect or record.invalidated)
            if not (stays and self._may_go_ahead(self, name)):
                record.produced = True
                self._send(name, fingerprint)
            elif self.recent.add(fingerprint):
                self._go_ahead(Task(name, record, True, ChainLink(fingerprint)))
        for name in result.kept:
            fingerprint = self.fingerprint(name)
            if not record.chain:
                self.leases.hold((record,))
                self.unclaimed.append(Task(name, record, is_kept=True))
            elif record.invalidated or self.recent.add(fingerprint):
                link = ChainLink(fingerprint, is_page=False)
                self._go_ahead(Task(name, record, True, link))
        if result.failure and task.link is not None:
            task.link.reason, task.link.payload = result.failure, task.name.encode()
        elif result.failure:
            record.failure = result.failure
        if result.in_parts:
            if record.invalidated or record.settled:
                record.drop_outputs()
            else:
                self.outbox.add_settlement(record.take_part(items=True))

    def _go_ahead(self, task: Task) -> None:
        self.sent.add(task.name)
        self.leases.hold((task.record,))
        task.record.chain.append(task.link)
        self.inbox.append(task)

    def finish(self, task: Task) -> None:
        if not task.has_yielded:
            self.go_on(task)
        self.open.remove(task)
        self.finished_pages += 1
        self._let_go(task.record)

    def fingerprint(self, name: str) -> str:
        return f"fp-{name}" if self.frontier.shape is None else compact(f"fp-{name}")

    def _send(self, name: str, fingerprint: str, start: int = 0) -> None:
        self.sent.add(name)
        if self.recent.add(f"{start} {fingerprint}"):
            new = NewRequest(name.encode(), score(name), fingerprint, start)
            self.outbox.add_request(new, name)

    def _let_go(self, record: HeldLease) -> None:
        for done in self.leases.let_go((record,)):
            if done.id not in self.leases.records:
                continue
            if done.invalidated:
                done.drop_outputs()
                self.releases.append(done.id)
            else:
                self.outbox.add_settlement(done.settle())

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing in hand and nothing to tell."""
        return not (
            len(self.outbox)
            or self.inbox
            or self.open
            or self.unclaimed
            or self.releases
            or self.has_doubts
            or self.is_new_here
        )

    @property
    def in_hand(self) -> list[str]:
        """Pages that it has begun, or will, whether or not their leases are its own."""
        return [task.name for task in (*self.inbox, *self.open, *self.unclaimed)]

    # Exchanges

    def cut_after(self, calls: float) -> None:
        """Lose the connection when Redis has carried out so many *calls*."""
        self._budget = calls

    async def exchange(self, *, want: int = 0, seeds: int = 0) -> None:
        """One exchange. Raises RedisUnavailable, and nothing is lost then."""
        if self.is_new_here:
            await self._register()
        if self.has_doubts:
            await self._compare()
        numbered = self.outbox.take(1 if self.is_full else 4)
        commits = [(each, self.frontier.commit(each.commit)) for each in numbered]
        releases = self.releases[:BATCH]
        claiming, self.unclaimed = self.unclaimed, []
        grow = self.frontier.grow()
        calls: list[Call[Any]] = [*[grow] * (grow is not None)]
        calls += [call for _, call in commits]
        release = claim = None
        if releases:
            release = self.frontier.release(releases)
            calls.append(release)
        if claiming:
            claims = [
                Claim(self.fingerprint(task.name), [task.record.id])
                for task in claiming
            ]
            claim = self.frontier.claim(claims)
            calls.append(claim)
        if self.silent:
            calls.append(self.frontier.reap())
        beat = self.frontier.heartbeat()
        if self.leases.is_alone or self.to_be_alone or self.was_cut:
            seeds = 0
        if self.leases.is_alone or self.was_cut:
            want = 0
        readmit = self.frontier.readmit() if self.waiting and want else None
        suspects = max(0, SUSPECTS - self.leases.suspects)
        lease = self.frontier.lease(want, suspects=suspects)
        taken = self.frontier.take_seeds(seeds)
        calls += [beat, *[readmit] * (readmit is not None)]
        calls += [*[taken] * bool(seeds), *[lease] * bool(want)]
        try:
            await self._carry_out(calls)
        except RedisUnavailable:
            self.unclaimed = claiming + self.unclaimed
            self.was_cut = True
            raise
        self.was_cut = False
        if grow is not None:
            grow.reply()
        if claim is not None:
            self._claimed(claiming, claim.reply())
        if release is not None:
            release.reply()
            del self.releases[: len(releases)]
            self.leases.close(releases)
        if not self._committed(commits):
            self.has_doubts = True
            return
        reply = beat.reply()
        if not reply.known or reply.commit < self.outbox.confirmed:
            self._rollback()
            return
        self.silent = reply.silent
        self.has_doubts = reply.held != len(self.leases.records)
        if want:
            found = lease.reply()
            self.pending = found.left.pending + found.left.suspects
            self.waiting = found.left.waiting
            self.to_be_alone = found.left.alone
            self._accept(found.leases)
        if seeds:
            self._accept(taken.reply().leases)

    async def register(self, info: str) -> Joined:
        """Join, for the first time; raises RedisUnavailable."""
        call = self.frontier.register(info, commit=self.outbox.number)
        await self._carry_out([call])
        self.is_new_here = False
        return call.reply()

    async def leave(self, *, finished: bool) -> bool:
        call = self.frontier.leave(finished=finished)
        await self._carry_out([call])
        return call.reply()[0] is LeaveOutcome.DELETED

    def give_back(self) -> None:
        """Before it leaves: what is in hand will not be finished here."""
        tasks = [*self.inbox, *self.open, *self.unclaimed]
        self.inbox.clear()
        self.open.clear()
        self.unclaimed.clear()
        for task in tasks:
            task.record.invalidated = True
            self._let_go(task.record)

    async def _carry_out(self, calls: list[Call[Any]]) -> None:
        if self._watch is None and self._budget == math.inf:
            await self.frontier.exchange(calls)
            return
        for call in calls:
            if self._budget < 1:
                break
            self._budget -= 1
            seen = self._watch(self, call) if self._watch is not None else None
            await self.frontier.exchange([call])
            if seen is not None:
                seen()
        if self._budget < 1:
            self._budget = math.inf
            raise RedisUnavailable("the connection was cut")

    def _claimed(self, tasks: list[Task], verdicts: list[bool] | None) -> None:
        if verdicts is None:
            self.unclaimed = tasks + self.unclaimed
            return
        for task, new in zip(tasks, verdicts, strict=True):
            if new:
                self.inbox.append(task)
            else:
                self._let_go(task.record)

    def _committed(self, commits: Sequence[tuple[Numbered, Call[CommitReply]]]) -> bool:
        not_owned = 0
        for numbered, call in commits:
            outcome = call.reply().outcome
            if outcome is Outcome.FULL:
                self.is_full = True
                self.leases.close(self.outbox.only_empty_ends())
                return True
            if outcome is Outcome.AGAIN:
                return True
            if outcome not in (Outcome.STORED, Outcome.REPEATED):
                self._rollback()
                return False
            self.outbox.confirm(numbered)
            self.leases.close(numbered.commit.ended)
            if numbered.outputs:
                self.is_full = False
            not_owned += call.reply().not_owned
        if not_owned:
            self._rollback()
        return not not_owned

    def _accept(self, leases: Sequence[Lease]) -> None:
        known = [lease for lease in leases if lease.id in self.leases.records]
        for lease in leases:
            if lease in known:
                continue
            record = self.leases.open(lease)
            name = lease.payload.decode()
            self.inbox.append(Task(name, record))
        if known:
            # They were leased before Redis went back, and are in hand; a part of them may
            # have come while they were not ours.
            self._rollback()

    def _rollback(self) -> None:
        self.rollbacks += 1
        self.is_new_here = True
        self.releases += self.outbox.withdraw_settlements()
        self.recent.forget()
        self.leases.invalidate()
        self.releases += self._drop_unstarted(set(self.leases.records))

    def _drop_unstarted(self, ids: set[str]) -> list[str]:
        dropped = [t for t in self.inbox if t.record.id in ids and not t.is_kept]
        for task in dropped:
            self.inbox.remove(task)
            task.record.settled = True
        return [task.record.id for task in dropped]

    async def _register(self) -> None:
        await self.register(self.frontier.name)
        self.has_doubts = True

    async def _compare(self) -> None:
        if self._budget < 1:
            self._budget = math.inf
            raise RedisUnavailable("the connection was cut")
        in_redis = set(await self.frontier.leases_held())
        here = set(self.leases.records)
        self.releases += sorted(in_redis - here - set(self.releases))
        gone = here - in_redis
        self._drop_unstarted(gone)
        for id_ in gone:
            record = self.leases.remove(id_)
            record.invalidated = record.settled = True
            record.drop_outputs()
            for link in record.chain:
                self.recent.remove(link.fingerprint)
        self.has_doubts = False
