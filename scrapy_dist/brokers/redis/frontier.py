"""The frontier protocol: one typed method for each script in ``lua/``.

A method does not talk to Redis; it describes a call. ``Frontier.exchange`` sends any
number of calls in one round trip, in order, and each call then holds its reply. The
tools beside it make their calls by ``Frontier.call``, too. What a worker asks for at once
is in ``session.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, TypeVar

from scrapy_dist.brokers.redis import replies
from scrapy_dist.brokers.redis.buckets import SPLITS, Shape
from scrapy_dist.brokers.redis.commit import OUTCOMES, encode, marked
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import batches
from scrapy_dist.brokers.redis.link import Link
from scrapy_dist.brokers.redis.version import OLDEST, mixed, refusal
from scrapy_dist.codec.seal import differ
from scrapy_dist.core.frontier import (
    BATCH,
    CommitReply,
    Counts,
    Deaths,
    Heartbeat,
    Joined,
    JoinOutcome,
    LeaveOutcome,
    Outcome,
)
from scrapy_dist.core.politeness import Granted, Rules, Visit, differ_in_manners
from scrapy_dist.redis_client.waits import within

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.core.frontier import Claim, Commit, LeaseId, Reject
    from scrapy_dist.core.politeness import Manners, Yield
    from scrapy_dist.core.tasks import Begin, Beginning

T = TypeVar("T")


class Frontier(Link):
    """The calls that a worker makes, each by its values."""

    def register(
        self,
        info: str,
        *,
        commit: int,
        flush: bool = False,
        persist: bool = False,
        age: float = 0.0,
    ) -> Call[Joined]:
        """Join the frontier: see `frontier_port.Frontier.join`."""
        self.name = info
        return self.call(
            "register",
            self._parse_joined,
            info=info,
            commit=commit,
            flush=int(flush),
            persist=int(persist),
            oldest_format=OLDEST,
            crawl=self.crawl,
            signed=self.seal.check,
            age_ms=int(age * 1000),
        )

    def _parse_joined(self, raw: list[Any]) -> Joined:
        others, code, told, *rest = raw
        outcome = replies.JOINED.get(code, JoinOutcome.REFUSED)
        self.older = told if code == replies.OLDER else 0
        if code in (replies.WRONG_FORMAT, replies.OLDER):
            reason = refusal(self.keys.state, told)
        elif code == replies.MIXED_FORMATS:
            reason = mixed(told.decode("utf-8", "replace"))
        elif code == replies.OTHER_SECRET:
            reason = differ(self.seal.check, told.decode("latin-1"), self.keys.state)
        elif code == replies.OTHER_MANNERS:
            reason = differ_in_manners(self.polite, told.decode("latin-1"))
        else:
            self.crawl = rest[1].decode("latin-1")
            return Joined(outcome, others, told, bool(rest[0]))
        return Joined(outcome, others, refusal=reason)

    def heartbeat(self, info: str = "", *, busy: bool | None = None) -> Call[Heartbeat]:
        """Say that this worker lives; Redis' side of the account in return.

        *info* is for people, '' leaves those that were sent before. *busy*: whether it
        has a request in hand that no lease stands for, None if that is as before.
        """
        state = "" if busy is None else int(busy)
        return self.call("heartbeat", replies.parse_heartbeat, info=info, busy=state)

    def meet(
        self, machine: str, process: str
    ) -> Call[tuple[int, list[tuple[str, str]]]]:
        """Tell which *process* of which *machine* this worker is.

        How often workers have come in return, and the number and process of the others
        on that machine. A worker that has not registered only asks.
        """
        return self.call("meet", replies.parse_meet, machine=machine, process=process)

    def gone(self, machine: str, others: Sequence[tuple[str, str]]) -> Call[int]:
        """Declare workers dead whose processes are gone: (number, process)."""
        args = [arg for n, process in others for arg in (n, f"{machine} {process}")]
        return self.call("gone", int, others=args)

    def lease(
        self, want: int, *, suspects: int, enough: Sequence[int] = ()
    ) -> Call[replies.LeaseReply]:
        """Take at most *want* (<= BATCH) requests, at most *suspects* among them.

        Beside suspects, none is of the slots *enough*.
        """
        return self.call(
            "lease",
            replies.parse_leases,
            want=min(want, BATCH),
            most_suspects=suspects,
            enough=enough,
        )

    def lease_politely(
        self, want: int, manners: Manners, *, suspects: int
    ) -> Call[tuple[replies.LeaseReply, Granted]]:
        """Take at most *want* (<= BATCH) requests of slots that this worker may ask."""
        self.rules = manners.rules
        return self.call(
            "lease_polite",
            replies.parse_granted,
            want=min(want, BATCH),
            most_suspects=suspects,
            horizon_ms=int(manners.horizon * 1000),
            portion=manners.portion,
            most_seats=manners.seats,
            renewals=[part for renewal in manners.renewals for part in renewal],
        )

    def give_seats_back(self, seats: Sequence[Yield]) -> Call[int]:
        """Give seats (at most BATCH) back: how many were this worker's."""
        args: list[str | int] = []
        for seat in seats:
            rules = _rules_text(seat.rules) if seat.rules else ""
            args += (seat.name, max(0, ceil(seat.rest * 1000)), rules)
        return self.call("yield", int, seats=args)

    def visit(self, slot: int, manners: Manners) -> Call[Visit | None]:
        """Ask for the slot of a request that no lease stands for; None: join first."""
        self.rules = manners.rules
        return self.call(
            "visit", replies.parse_visit, slot=slot, most_seats=manners.seats
        )

    async def set_rules(self, rules: Mapping[int, Rules]) -> None:
        """Give slots rules of their own, that hold for all workers."""
        key = self.keys.politeness
        texts = [(str(slot).encode(), _rules_text(of)) for slot, of in rules.items()]
        with asking():
            for some in batches(texts):
                await within(self.limit, self.client.hset(key, mapping=dict(some)))

    def held_seats(self) -> Call[list[str]]:
        """Names of the seats that this worker has.

        What it has asked for before changes none of them any more, see lib/rounds.lua.
        """
        self._round += 1
        return self.call("held_seats", _texts)

    def commit(self, commit: Commit) -> Call[CommitReply]:
        """Store requests and items, then acknowledge; safe to repeat by its number."""

        def parse(raw: list[Any]) -> CommitReply:
            outcome = OUTCOMES[raw[0]]
            if outcome is Outcome.AGAIN:
                self._reshape(raw[1:4])
                return CommitReply(outcome)
            if self.shape is not None and outcome is Outcome.STORED and raw[2]:
                self._reshape([self.shape.epoch, *raw[2:4]])
            if outcome is Outcome.STORED and commit.requests:
                self._mostly_new = 2 * len(raw[4:]) < len(commit.requests)
            return replies.parse_stored(outcome, raw)

        values = encode(
            commit,
            self.shape,
            apart=self._mostly_new,
            keeps_results=self.result_ttl > 0,
        )
        return self.call("commit", parse, **values)

    def _reshape(self, raw: Sequence[Any]) -> None:
        """Take in epoch, buckets and fingerprints, as scripts reply them."""
        epoch, buckets, count = raw
        epoch = epoch.decode() if isinstance(epoch, bytes) else epoch
        self.shape = Shape(self.keys.dupefilter, epoch or "-", max(1, buckets), count)

    def grow(self) -> Call[None] | None:
        """Split buckets of fingerprints, if they hold too many."""
        shape = self.shape
        if shape is None or not shape.is_crowded:
            return None
        return self.call(
            "grow",
            self._reshape,
            buckets=[*shape.next()],
            first=shape.buckets,
            load=shape.load,
            splits=SPLITS,
        )

    def claim(self, claims: Sequence[Claim]) -> Call[list[bool | None] | None]:
        """Filter requests that stay in this worker.

        The reply tells of each whether to crawl it (see `Answer`); None: ask again, for
        other buckets.
        """
        shape = self.shape
        buckets: list[str] = []
        args: list[str | int] = []
        for claim in claims:
            number = 0
            if shape is not None:
                # Those of start() are in a set of their own.
                if claim.fingerprint and not claim.start:
                    number = shape.number(claim.fingerprint)
                buckets += shape.keys(number)
            name = marked(claim.fingerprint, claim.start)
            args += (name, number, len(claim.leases), *claim.leases)

        def parse(raw: list[Any]) -> list[bool | None] | None:
            if raw[:1] == [-1]:
                self._reshape(raw[1:4])
                return None
            return [None if new == 2 else bool(new) for new in raw]

        return self.call("claim", parse, claims=args, buckets=buckets)

    def begin(self, begins: Sequence[Begin]) -> Call[list[Beginning]]:
        """Begin the tasks (at most BATCH) whose seeds this worker holds."""
        args: list[str | int] = []
        for each in begins:
            args += (each.lease, each.id, each.token, each.batch, int(each.is_new))
        return self.call(
            "begin", lambda raw: [replies.BEGUN[code] for code in raw], begins=args
        )

    def heal_tasks(self) -> Call[int]:
        """End tasks that live although nothing is left in the frontier; how many."""
        return self.call("heal_tasks", int, most=BATCH)

    def prune_tasks(self) -> Call[tuple[int, bool]]:
        """Delete some tasks that have ended long ago, and their results.

        How many, and whether there may be more.
        """
        return self.call("prune_tasks", lambda raw: (raw[0], bool(raw[1])), most=BATCH)

    def release(self, ids: Sequence[LeaseId]) -> Call[int]:
        """Give leases (at most BATCH) back undone."""
        return self.call("release", int, ids=ids)

    def reject(self, rejects: Sequence[Reject], *, max_size: int) -> Call[int]:
        """Set leases (at most BATCH) aside as dead letters."""
        args = [part for r in rejects for part in (r.lease, r.kind, r.reason)]
        return self.call("reject", int, max_size=max_size, rejects=args)

    def readmit(self) -> Call[list[int]]:
        """Take up what has failed while S:failed was full: how many, how many still wait."""
        return self.call("readmit", list)

    def reap(self) -> Call[Deaths]:
        """Take some leases of a dead worker away."""
        return self.call("reap", lambda raw: Deaths(*raw), most=BATCH)

    def take_seeds(self, want: int) -> Call[replies.SeedsReply]:
        """Lease at most *want* (<= BATCH) seeds, a fair share at most."""
        return self.call("seeds", replies.parse_seeds, want=min(want, BATCH))

    def drained(self) -> Call[Counts]:
        """What is left to do for anybody."""
        return self.call(
            "drained", lambda raw: Counts(*[*raw[:4], raw[4] / 1000, *raw[5:]])
        )

    def leave(
        self, *, finished: bool | None, persist: bool = False, reason: str = "finished"
    ) -> Call[tuple[LeaveOutcome, int]]:
        """Go: see `frontier_port.Frontier.leave`."""
        return self.call(
            "leave",
            lambda raw: (replies.LEFT[raw[0]], raw[1]),
            finished="" if finished is None else int(finished),
            persist=int(persist),
            reason=reason,
        )

    def pause(self, paused: bool) -> Call[tuple[bool, int]]:
        """Let no worker lease anything, or let them again: (paused before, alive)."""
        return self.call("pause", lambda raw: (bool(raw[0]), raw[1]), pause=int(paused))

    def stop(self, workers: Sequence[str]) -> Call[int]:
        """Ask workers (at most BATCH numbers) to close; how many are registered."""
        return self.call("stop", int, numbers=workers)

    def push(self, items: Sequence[tuple[str, bytes]]) -> Call[int]:
        """Append items without a lease: (key, data)."""
        item_keys: dict[str, int] = {}
        args: list[int | bytes] = []
        for key, data in items:
            args += (item_keys.setdefault(key, 1 + len(item_keys)), data)
        return self.call("push", int, item_keys=item_keys, items=args)

    def count(
        self, changes: Sequence[tuple[str, str, str]], *, if_exists: bool = False
    ) -> Call[int]:
        """Change cluster-wide stats: (inc, set, max or min; name; value).

        *if_exists*: nothing is done if there is no frontier, as where the others have
        finished it.
        """
        args = [part for change in changes for part in change]
        return self.call("count", int, if_exists=int(if_exists), changes=args)

    async def leases_held(self) -> list[str]:
        """Order ids that Redis holds for this worker."""
        key = self.keys.leases
        with asking():
            asked = self.client.zrangebyscore(key, self.worker, self.worker)
            return _texts(await within(self.limit, asked))


def _texts(found: Sequence[bytes]) -> list[str]:
    return [each.decode("latin-1") for each in found]


def _rules_text(rules: Rules) -> str:
    return f"{ceil(rules.delay * 1000)} {rules.places}"
