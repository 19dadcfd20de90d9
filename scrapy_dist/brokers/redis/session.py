"""One worker's session with a frontier in Redis: the port over the calls of scripts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import RedisError, ResponseError

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.brokers.redis import fingerprints
from scrapy_dist.brokers.redis.layout import batches
from scrapy_dist.brokers.redis.orphans import Orphans
from scrapy_dist.brokers.redis.upgrade import upgrade
from scrapy_dist.brokers.redis.views.status import read_status
from scrapy_dist.brokers.redis.wakeup import Wakeup
from scrapy_dist.core.frontier import BATCH, Answer, CommitReply, Outcome
from scrapy_dist.core.politeness import Granted, Visit
from scrapy_dist.core.slots import NO_SLOTS, Slots
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.redis_client.client import close_client, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scrapy import Spider

    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.brokers.redis.replies import LeaseReply, SeedsReply
    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.core.frontier import Ask, Joined, LeaseId, LeaveOutcome
    from scrapy_dist.core.politeness import Rules
    from scrapy_dist.core.status import Status
    from scrapy_dist.core.tasks import Beginning

logger = get_logger(__name__)

T = TypeVar("T")

#: How often an older format is converted before this worker gives it up.
_UPGRADES = 3


class RedisFrontier:
    """`core.frontier_port.Frontier`.

    *process*: machine and process of this worker, if its neighbours are to see it.
    *slots*: those of what an older version has left.
    """

    def __init__(
        self,
        frontier: Frontier,
        spider: Spider | None,
        *,
        process: tuple[str, str] | None = None,
        slots: Slots = NO_SLOTS,
    ) -> None:
        self.worker = frontier.worker
        self._frontier = frontier
        self._spider = spider
        self.process = process
        self._slots = slots
        self._changed: Callable[[], None] = lambda: None
        keys = frontier.keys
        self.where = describe(frontier.client)
        self.key, self.failed_key = keys.requests, keys.failed
        watched = (keys.requests, keys.suspects, keys.leases, keys.control)
        self._wakeup = Wakeup(
            frontier.client, (*watched, *frontier.seed_keys), self._tell
        )
        self._orphans = Orphans(frontier, spider)
        self._was_away = False
        #: Whether tasks are left that have ended long ago.
        self._prunes = False

    @property
    def limit(self) -> float | None:
        return self._frontier.limit

    @limit.setter
    def limit(self, seconds: float | None) -> None:
        self._frontier.limit = seconds

    def _tell(self) -> None:
        self._changed()

    async def _call(self, call: Call[T]) -> T:
        await self._frontier.exchange([call])
        try:
            return call.reply()
        except ResponseError as e:
            raise RedisUnavailable(f"{type(e).__name__}: {e}") from e

    async def join(
        self, info: str, *, commit: int, flush: bool, persist: bool, age: float
    ) -> Joined:
        for left in range(_UPGRADES, -1, -1):
            joined = await self._call(
                self._frontier.register(
                    info, commit=commit, flush=flush, persist=persist, age=age
                )
            )
            older = self._frontier.older
            if not older or not left:
                break
            await upgrade(self._frontier, self._slots, self._spider, older)
        return joined

    async def leave(
        self, *, finished: bool | None, persist: bool, reason: str
    ) -> tuple[LeaveOutcome, int]:
        return await self._call(
            self._frontier.leave(finished=finished, persist=persist, reason=reason)
        )

    async def held(self) -> frozenset[LeaseId]:
        return frozenset(await self._frontier.leases_held())

    async def seats(self) -> frozenset[str]:
        names = await self._call(self._frontier.held_seats())
        return frozenset(names)

    async def set_rules(self, rules: Mapping[int, Rules]) -> None:
        await self._frontier.set_rules(rules)

    async def watch(self, changed: Callable[[], None]) -> bool:
        self._changed = changed
        try:
            return await self._wakeup.arm()
        except Exception:
            logger.exception(
                "Cannot watch for changes in Redis: polling instead",
                extra={"spider": self._spider},
            )
            self._wakeup.available = False
            return False

    async def tell_last(self, stats: Sequence[tuple[str, str, str]]) -> None:
        await self._call(self._frontier.count(stats, if_exists=True))

    async def status(self) -> Status:
        name = self._spider.name if self._spider is not None else ""
        return await read_status(self._frontier, name)

    async def sweep(self) -> None:
        try:
            await fingerprints.sweep(self._frontier)
        except (RedisError, OSError, ValueError) as e:
            raise RedisUnavailable(str(e)) from e

    async def close(self) -> None:
        await self._wakeup.close()

    async def disconnect(self) -> None:
        await close_client(self._frontier.client)

    async def exchange(self, ask: Ask) -> Answer:
        if self._orphans.is_searching and ask.leases:
            await self._orphans.step()
        round_ = _Round(self._frontier)
        round_.store(ask)
        round_.report(ask, *(self.process or ("", "")))
        if ask.heartbeat or self._prunes:
            round_.prune()
        round_.take(ask)
        try:
            await self._frontier.exchange(round_.calls)
        except RedisUnavailable:
            self._was_away = True
            raise
        if self._was_away:
            self._was_away = False
            self._wakeup.retry_now()
        answer = round_.read()
        self._prunes = round_.prunes_on
        if answer.counts is not None:
            self._orphans.told(answer.counts)
        answer.goes_on = self._orphans.is_searching and ask.leases > 0
        return answer


class _Round:
    """The calls of one round trip in their order, and the answer that comes of them."""

    def __init__(self, frontier: Frontier) -> None:
        self.calls: list[Call[Any]] = []
        self._frontier = frontier
        self._answer = Answer()
        self._commits: list[Call[CommitReply]] = []
        self._reads: list[tuple[Call[Any], Callable[[Any], None]]] = []
        #: Whether old tasks are left.
        self.prunes_on = False
        grow = frontier.grow()
        if grow is not None:
            self._add(grow)

    def _add(self, call: Call[T], read: Callable[[T], None] = lambda _: None) -> None:
        self.calls.append(call)
        self._reads.append((call, read))

    def _sets(self, name: str) -> Callable[[Any], None]:
        return lambda reply: setattr(self._answer, name, reply)

    def store(self, ask: Ask) -> None:
        """What ends here: commits, leases, claims."""
        frontier = self._frontier
        if ask.manners is not None:
            frontier.rules = ask.manners.rules
        self._commits = [frontier.commit(commit) for commit in ask.commits]
        self.calls += self._commits
        for ids in batches(ask.releases):
            self._add(frontier.release(ids))
        for seats in batches(ask.yields):
            self._add(frontier.give_seats_back(seats))
        for rejects in batches(ask.rejects):
            self._add(frontier.reject(rejects, max_size=frontier.max_payload))
        if ask.claims:
            self._add(frontier.claim(ask.claims), self._sets("claims"))
        for begins in batches(ask.begins):
            self._add(frontier.begin(begins), self._begun)

    def report(self, ask: Ask, machine: str, process: str) -> None:
        """Who is here, and who is not any more."""
        frontier = self._frontier
        for gone in batches(ask.gone):
            self._add(frontier.gone(machine, gone))
        if ask.reap:
            self._add(frontier.reap(), self._sets("deaths"))
        if ask.meet:
            self._add(frontier.meet(machine, process), self._sets("met"))
        if ask.heartbeat:
            beat = frontier.heartbeat(ask.info, busy=ask.busy)
            self._add(beat, self._sets("heartbeat"))

    def prune(self) -> None:
        """Delete some of what is old."""
        self._add(self._frontier.prune_tasks(), self._pruned)

    def take(self, ask: Ask) -> None:
        """Leases, and what is left."""
        frontier = self._frontier
        if ask.readmit:
            self._add(frontier.readmit(), self._readmitted)
        # Seeds first, and suspects last: one that is to be alone comes only if nothing did.
        for first in range(0, ask.seeds, BATCH):
            self._add(frontier.take_seeds(ask.seeds - first), self._seeds)
        manners = ask.manners
        if manners is not None:
            for slot in ask.visits:
                self._add(frontier.visit(slot, manners), self._visited)
        for first in range(0, ask.leases, BATCH):
            last = first + BATCH >= ask.leases
            suspects = ask.suspects if last else 0
            want = ask.leases - first
            if manners is None:
                call = frontier.lease(want, suspects=suspects, enough=ask.enough)
                self._add(call, self._leases)
            else:
                polite = frontier.lease_politely(want, manners, suspects=suspects)
                self._add(polite, self._granted)
                manners = replace(manners, renewals=())
        if ask.count:
            self._add(frontier.heal_tasks())
            self._add(frontier.drained(), self._sets("counts"))
        if ask.stats:
            # Whatever becomes of them. The others may have finished the crawl.
            self.calls.append(frontier.count(ask.stats, if_exists=True))

    def _begun(self, reply: list[Beginning]) -> None:
        self._answer.begun = [*(self._answer.begun or ()), *reply]

    def _pruned(self, reply: tuple[int, bool]) -> None:
        self.prunes_on = reply[1]

    def _readmitted(self, reply: list[int]) -> None:
        self._answer.readmitted = reply[1]

    def _seeds(self, reply: SeedsReply) -> None:
        self._answer.seeds += reply.leases
        self._answer.seeds_left = reply.left

    def _leases(self, reply: LeaseReply) -> None:
        self._answer.leases += reply.leases
        self._answer.left = reply.left

    def _visited(self, visit: Visit | None) -> None:
        # A worker that is not known finds out by its beat.
        self._answer.visits.append(visit or Visit(granted=False))

    def _granted(self, reply: tuple[LeaseReply, Granted]) -> None:
        leases, new = reply
        self._leases(leases)
        old = self._answer.granted or Granted()
        self._answer.granted = replace(
            new,
            grants=[*old.grants, *new.grants],
            taken=[*old.taken, *new.taken],
            wanted=[*old.wanted, *new.wanted],
        )

    def read(self) -> Answer:
        """The answer, after the round trip."""
        answer = self._answer
        for commit in self._commits:
            try:
                reply = commit.reply()
            except ResponseError as e:
                reply = CommitReply(Outcome.REFUSED, reason=str(e))
            answer.commits.append(reply)
        for call, read in self._reads:
            try:
                read(call.reply())
            except ResponseError as e:
                answer.refused = answer.refused or str(e)
        return answer
