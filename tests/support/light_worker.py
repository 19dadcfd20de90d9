"""A worker without Scrapy: the steps of a crawl, one at a time, over a session of the port.

The real worker's loop decides by its own clock what it does when. Here whoever plays
decides it, so that a play can be repeated, and the load test has hundreds of workers in
a process. What a worker knows is kept by the real `Leases` and `Outbox`. Pages are names;
a *site* says what each of them yields.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from scrapy_dist.core.frontier import (
    BATCH,
    SUSPECTS,
    Answer,
    Ask,
    ChainLink,
    Claim,
    NewRequest,
    Outcome,
    Reject,
)
from scrapy_dist.core.slots import NO_SLOT
from scrapy_dist.core.tasks import Begin, Beginning
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.worker.leases import HeldLease, Leases
from scrapy_dist.worker.outbox import Outbox, RecentFingerprints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scrapy_dist.core.frontier import CommitReply, Joined, Lease
    from scrapy_dist.core.frontier_port import Frontier
    from scrapy_dist.worker.outbox import Numbered

    #: Is called with each part before the broker has it; what it returns gets the answer.
    Watch = Callable[["LightWorker", Ask], Callable[[Answer], None] | None]


@dataclass(frozen=True)
class Yield:
    """What a page yields. Of requests the names; *kept* ones stay in their worker.

    *chain* are filtered requests that no other page yields, so that they can be crawled
    ahead of the broker. *failure*: why it is a dead letter. *in_parts*: what it yields goes
    ahead of its ack.
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


def plain(name: str) -> str:
    """The fingerprint of the page *name*."""
    return f"fp-{name}"


def parts_of(ask: Ask) -> Iterator[Ask]:
    """*ask*, a part after the other, in the order in which it is carried out."""
    for commit in ask.commits:
        yield Ask(commits=[commit])
    for name in (
        *("releases", "rejects", "claims", "begins", "reap", "heartbeat", "readmit"),
    ):
        if value := getattr(ask, name):
            yield Ask(**{name: value})
    if ask.seeds:
        yield Ask(seeds=ask.seeds)
    if ask.leases:
        yield Ask(leases=ask.leases, suspects=ask.suspects, enough=ask.enough)


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

    *items* is the key that items go to. After `cut_after`, the broker carries out so many
    parts of what is asked next, and then the connection is lost, before any answer.
    *slot*: the number of the slot of the page *name*. *may_go_ahead*: whether this worker
    knows of the page *name*, without asking, that it is new and that nobody else will yield
    it. *token*: of a seed that is a task one more token; '': it is none.
    """

    def __init__(
        self,
        session: Frontier,
        site: Callable[[str], Yield],
        *,
        items: str,
        fingerprint: Callable[[str], str] = plain,
        slot: Callable[[str], int] = lambda name: NO_SLOT,
        watch: Watch | None = None,
        may_go_ahead: Callable[[LightWorker, str], bool] = lambda worker, name: False,
        token: Callable[[str], str] = lambda name: "",
    ) -> None:
        self.session = session
        self.outbox = Outbox()
        self.leases = Leases()
        self.recent = RecentFingerprints(1000)
        self.inbox: deque[Task] = deque()
        self.open: list[Task] = []
        self.unclaimed: list[Task] = []
        #: Seeds that are tasks, and have not begun.
        self.to_begin: list[tuple[Task, Begin]] = []
        #: Pages that it has yielded, ever.
        self.sent: set[str] = set()
        self.silent = 0
        self.waiting = 0
        self.to_be_alone = False
        self.was_cut = False
        self.is_new_here = True
        self.has_doubts = False
        self.is_full = False
        self.finished_pages = 0
        self.rollbacks = 0
        self._name = ""
        self._site = site
        self._fingerprint = fingerprint
        self._slot = slot
        self._watch = watch
        self._may_go_ahead = may_go_ahead
        self._token = token
        self._items = items
        self._budget = math.inf

    # Pages

    def start(self, name: str) -> None:
        """Yield the start request *name*; every worker does."""
        self._send(name, self._fingerprint(name), start=1)

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
            self._send(name, self._fingerprint(name), record.task)
        for name in result.unfiltered:
            place = {"slot": self._slot(name), "task": record.task}
            record.add_request(NewRequest(name.encode(), score(name), **place))
        for item in result.items:
            record.add_item(self._items, item)
        for name in result.chain:
            fingerprint = self._fingerprint(name)
            stays = not (record.suspect or record.invalidated)
            if not (stays and self._may_go_ahead(self, name)):
                record.produced = True
                self._send(name, fingerprint, record.task)
            elif self.recent.add(fingerprint):
                link = ChainLink(fingerprint, slot=self._slot(name))
                self._go_ahead(Task(name, record, True, link))
        for name in result.kept:
            fingerprint = self._fingerprint(name)
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

    def reject(self, reason: str) -> None:
        """The next page cannot be read; not if another one is crawled under its lease."""
        if not self.inbox:
            return
        task = self.inbox[0]
        if task.is_kept or task.record.settled or task.record.invalidated:
            return
        self.inbox.popleft()
        task.record.settled = True
        kind = "seed" if task.record.is_seed else "request"
        self.outbox.rejects.append(Reject(task.record.id, kind, reason))

    def _send(
        self, name: str, fingerprint: str, task: str = "", start: int = 0
    ) -> None:
        self.sent.add(name)
        # Whatever is sent counts as seen when it comes to going ahead; a start request is
        # sent all the same.
        if self.recent.add(fingerprint) or start:
            place = score(name), fingerprint, start, self._slot(name), task
            self.outbox.add_request(NewRequest(name.encode(), *place), name)

    def _let_go(self, record: HeldLease) -> None:
        for done in self.leases.let_go((record,)):
            if done.id not in self.leases.records:
                continue
            if done.invalidated:
                done.drop_outputs()
                self.outbox.releases.append(done.id)
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
            or self.to_begin
            or self.outbox.releases
            or self.outbox.rejects
            or self.has_doubts
            or self.is_new_here
        )

    @property
    def in_hand(self) -> list[str]:
        """Pages that it has begun, or will, whether or not their leases are its own."""
        waiting = [task for task, _ in self.to_begin]
        tasks = (*self.inbox, *self.open, *self.unclaimed, *waiting)
        return [task.name for task in tasks]

    # Exchanges

    def cut_after(self, parts: float) -> None:
        """Lose the connection when the broker has carried out so many *parts*."""
        self._budget = parts

    async def exchange(
        self, *, want: int = 0, seeds: int = 0, enough: Sequence[int] = ()
    ) -> None:
        """One exchange; see `Ask` for *enough*.

        Raises RedisUnavailable, and nothing is lost then.
        """
        if self.is_new_here:
            await self.join(self._name)
            self.has_doubts = True
        if self.has_doubts:
            await self._compare()
        numbered = self.outbox.take(1 if self.is_full else 4)
        claiming = list(self.unclaimed)
        if self.leases.is_alone or self.was_cut:
            want = seeds = 0
        ask = Ask(
            commits=[each.commit for each in numbered],
            releases=self.outbox.releases[:BATCH],
            rejects=self.outbox.rejects[:BATCH],
            claims=[
                Claim(self._fingerprint(task.name), [task.record.id])
                for task in claiming
            ],
            begins=[begin for _, begin in self.to_begin][:BATCH],
            reap=self.silent > 0,
            heartbeat=True,
            readmit=self.waiting > 0 and want > 0,
            seeds=0 if self.to_be_alone else seeds,
            leases=want,
            suspects=max(0, SUSPECTS - self.leases.suspects),
            enough=enough,
        )
        self.was_cut = True
        answer = await self._ask(ask)
        self.was_cut = False
        assert not answer.refused, answer.refused
        if answer.claims is not None:
            self._claimed(claiming, answer.claims)
        is_strange = self._begun(ask.begins, answer.begun or ())
        self._ended(ask)
        if not self._committed(numbered, answer.commits):
            self.has_doubts = True
            return
        beat = answer.heartbeat
        if not beat.known or beat.commit < self.outbox.confirmed:
            self._rollback()
            return
        self.silent = beat.silent
        self.has_doubts = is_strange or beat.held != len(self.leases.records)
        if answer.left is not None:
            self.waiting = answer.left.waiting
            self.to_be_alone = answer.left.alone
        self._accept([*answer.leases, *answer.seeds])

    async def join(self, info: str) -> Joined:
        """Join, or join again; raises RedisUnavailable."""
        self._name = info
        self._spend()
        joined = await self.session.join(
            info, commit=self.outbox.number, flush=False, persist=False, age=0
        )
        self._lose_if_spent()
        self.is_new_here = False
        return joined

    def give_back(self) -> None:
        """Before it leaves: what is in hand will not be finished here."""
        waiting = [task for task, _ in self.to_begin]
        tasks = [*self.inbox, *self.open, *self.unclaimed, *waiting]
        self.to_begin.clear()
        self.inbox.clear()
        self.open.clear()
        self.unclaimed.clear()
        for task in tasks:
            task.record.invalidated = True
            self._let_go(task.record)

    def _spend(self) -> None:
        self._budget -= 1

    def _lose_if_spent(self) -> None:
        if self._budget < 1:
            self._budget = math.inf
            raise RedisUnavailable("the connection was cut")

    async def _ask(self, ask: Ask) -> Answer:
        if self._watch is None and self._budget == math.inf:
            return await self.session.exchange(ask)
        whole = Answer()
        for part in parts_of(ask):
            if self._budget < 1:
                break
            self._spend()
            look = self._watch(self, part) if self._watch is not None else None
            answer = await self.session.exchange(part)
            if look is not None:
                look(answer)
            for each in fields(answer):
                value = getattr(answer, each.name)
                if each.name == "commits":
                    whole.commits += value
                elif value:
                    setattr(whole, each.name, value)
        self._lose_if_spent()
        return whole

    def _claimed(self, tasks: list[Task], are_new: list[bool]) -> None:
        del self.unclaimed[: len(tasks)]
        for task, new in zip(tasks, are_new, strict=True):
            if new:
                self.inbox.append(task)
            else:
                self._let_go(task.record)

    def _begun(self, begins: Sequence[Begin], found: Sequence[Beginning]) -> bool:
        """What has become of *begins*; whether some leases are not its own."""
        outcome = dict(zip((begin.lease for begin in begins), found, strict=False))
        assert set(found) <= {Beginning.BEGUN, Beginning.NOT_OWNED}
        for each in list(self.to_begin):
            task, begin = each
            if outcome.get(begin.lease) is Beginning.BEGUN:
                self.to_begin.remove(each)
                task.record.task = begin.token
                self.inbox.append(task)
        return Beginning.NOT_OWNED in found

    def _ended(self, ask: Ask) -> None:
        del self.outbox.releases[: len(ask.releases)]
        del self.outbox.rejects[: len(ask.rejects)]
        self.leases.close(ask.releases)
        self.leases.close([reject.lease for reject in ask.rejects])

    def _committed(
        self, commits: Sequence[Numbered], replies: Sequence[CommitReply]
    ) -> bool:
        not_owned = 0
        for numbered, reply in zip(commits, replies, strict=True):
            outcome = reply.outcome
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
            not_owned += reply.not_owned
        if not_owned:
            self._rollback()
        return not not_owned

    def _accept(self, leases: Sequence[Lease]) -> None:
        known = [lease for lease in leases if lease.id in self.leases.records]
        for lease in leases:
            if lease not in known:
                name = lease.payload.decode()
                task = Task(name, self.leases.open(lease))
                is_new = lease.is_seed and not lease.task
                if token := self._token(name) if is_new else "":
                    begin = Begin(lease.id, name, token, is_new=True)
                    self.to_begin.append((task, begin))
                else:
                    self.inbox.append(task)
        if known:
            # They were leased before the broker went back, and are in hand; a part of them
            # may have come while they were not ours.
            self._rollback()

    def _rollback(self) -> None:
        self.rollbacks += 1
        self.is_new_here = True
        self.outbox.releases += self.outbox.withdraw_settlements()
        self.recent.forget()
        self.leases.invalidate()
        self.outbox.releases += self._drop_unstarted(set(self.leases.records))

    def _drop_unstarted(self, ids: set[str]) -> list[str]:
        dropped = [t for t in self.inbox if t.record.id in ids and not t.is_kept]
        for task in dropped:
            self.inbox.remove(task)
        for each in [e for e in self.to_begin if e[0].record.id in ids]:
            self.to_begin.remove(each)
            dropped.append(each[0])
        for task in dropped:
            task.record.settled = True
        return [task.record.id for task in dropped]

    async def _compare(self) -> None:
        self._lose_if_spent()
        held = await self.session.held()
        here = set(self.leases.records)
        self.outbox.releases += sorted(held - here - set(self.outbox.releases))
        gone = here - held
        self._drop_unstarted(gone)
        for id_ in gone:
            record = self.leases.remove(id_)
            record.invalidated = record.settled = True
            record.drop_outputs()
            for link in record.chain:
                self.recent.remove(link.fingerprint)
        self.has_doubts = False
