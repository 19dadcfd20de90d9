"""The frontier protocol: one typed method for each script in ``lua/``.

A method does not talk to Redis; it describes a call. ``Frontier.exchange`` sends any
number of calls in one round trip, in order, and each call then holds its reply. The
tools beside it make their calls by ``Frontier.call``, too. What a worker asks for at once
is in ``session.py``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import NoScriptError, RedisError, ResponseError

from scrapy_dist import defaults
from scrapy_dist.brokers.redis import scripts
from scrapy_dist.brokers.redis.buckets import SPLITS, Shape
from scrapy_dist.brokers.redis.commit import OUTCOMES, encode, marked
from scrapy_dist.brokers.redis.errors import asking, is_elsewhere, is_temporary
from scrapy_dist.brokers.redis.layout import RANK, batches, split_task
from scrapy_dist.brokers.redis.version import FORMAT, OLDEST, mixed, refusal
from scrapy_dist.codec.envelope import SEED, TASK
from scrapy_dist.codec.seal import NO_SEAL, Seal, differ
from scrapy_dist.core.frontier import (
    BATCH,
    CommitReply,
    Counts,
    Deaths,
    Heartbeat,
    Joined,
    JoinOutcome,
    Lease,
    LeaveOutcome,
    Left,
    Outcome,
)
from scrapy_dist.core.politeness import Grant, Granted, Rules, Visit, differ_in_manners
from scrapy_dist.core.tasks import Beginning
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.redis_client.client import drop_connections
from scrapy_dist.redis_client.waits import within

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.keys import Keys
    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.core.frontier import Claim, Commit, LeaseId, Reject
    from scrapy_dist.core.politeness import Manners, Yield
    from scrapy_dist.core.tasks import Begin
    from scrapy_dist.redis_client.typed import Redis

T = TypeVar("T")

#: Bytes of requests or seeds in one reply, after which no more are handed out.
REPLY_BYTES = 4 << 20
#: Bytes that are around a payload of the largest size: the mark of a seed, a signature.
_ENVELOPE = 64

#: How ``register`` and ``leave`` reply.
_JOINED = {
    0: JoinOutcome.JOINED,
    1: JoinOutcome.FLUSHED,
    2: JoinOutcome.NOT_FLUSHED,
    3: JoinOutcome.REFUSED,
    4: JoinOutcome.NOT_NOW,
    5: JoinOutcome.MISSED,
    6: JoinOutcome.REFUSED,
    7: JoinOutcome.LATE,
    8: JoinOutcome.REFUSED,
    9: JoinOutcome.REFUSED,
}
_LEFT = (LeaveOutcome.LEFT, LeaveOutcome.DELETED, LeaveOutcome.KEPT)
#: Why ``register`` has refused: this version cannot read the frontier; a worker of another
#: version is at work that cannot read what this one would write; its requests are signed
#: with another secret, or with none; it is to be converted first; the other workers have
#: another FRONTIER_POLITENESS.
_WRONG_FORMAT, _MIXED_FORMATS, _OTHER_SECRET, _OLDER, _OTHER_MANNERS = 3, 4, 6, 8, 9

#: How ``begin`` replies.
_BEGUN = {
    0: Beginning.NOT_OWNED,
    1: Beginning.BEGUN,
    2: Beginning.REFUSED,
    3: Beginning.CANCELLED,
}

#: Keys that are deleted in one command.
_SWEEP = 500

#: Of a frontier whose fingerprints are in one set.
_NO_BUCKETS = Shape("", "", 0)


@dataclass(frozen=True, slots=True)
class LeaseReply:
    """What ``lease`` has handed out, and what is left; *known*: it knows this worker."""

    known: bool
    leases: Sequence[Lease]
    left: Left


@dataclass(frozen=True, slots=True)
class SeedsReply:
    """Leased seeds as they were pushed; *left* is how many still wait."""

    known: bool
    leases: Sequence[Lease]
    left: int


class Frontier:
    """The frontier of one spider as one worker sees it.

    *worker* is this worker's random number of 52 bits, so that a double (a sorted set's
    score) holds it exactly. *ttl* is in seconds.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        ttl: float,
        max_deliveries: int,
        failed_limit: int,
        newest_first: bool = False,
        seed_keys: Sequence[str] = (),
        compact: bool = False,
        seal: Seal = NO_SEAL,
        max_payload: int = defaults.FRONTIER_MAX_PAYLOAD,
        max_seed: int = defaults.FRONTIER_SEED_MAX_SIZE,
        result_ttl: float = defaults.FRONTIER_RESULT_TTL,
    ) -> None:
        self.client = client
        #: What payloads are signed with.
        self.seal = seal
        self.keys = keys
        #: The buckets of fingerprints; None: they are in one set.
        self.shape = Shape(keys.dupefilter) if compact else None
        #: Seconds that an exchange may take; None: as many as the client allows.
        self.limit: float | None = None
        #: The older format that is to be converted before it is joined (see upgrade.py).
        self.older = 0
        #: The crawl that this worker belongs to, and its own name, when it has joined one.
        self.crawl = self.name = ""
        self.worker = str(1 + secrets.randbits(52) % (2**52 - 1))
        self.seed_keys = tuple(seed_keys)
        #: Milliseconds of silence after which a worker is dead.
        self.ttl_ms = int(ttl * 1000)
        self.max_deliveries = max_deliveries
        self.failed_limit = failed_limit
        #: In a polite crawl its `ttl_ms`: who counts as dead loses its slots, so that must
        #: be the same for all; else ''.
        self.polite = ""
        #: The rules of slots that have none of their own, in a polite crawl.
        self.rules = Rules()
        self.newest_first = newest_first
        #: Bytes of the largest request, without what may be around it.
        self.max_payload = max_payload
        #: Bytes of the largest seed that is taken out of Redis.
        self.max_seed = max_seed
        self._result_ttl = result_ttl
        # A script reads each byte of each argument, and of what it cuts out of one. So
        # payloads are arguments of their own while most are stored, and one together
        # while most are duplicates.
        self._mostly_new = True
        self._round = 0  # see lib/rounds.lua

    @property
    def keeps_results(self) -> bool:
        """Whether items of tasks are stored as their results, too."""
        return self._result_ttl > 0

    @property
    def keep_ms(self) -> int:
        """Milliseconds for which tasks that have ended are kept."""
        return int((self._result_ttl or defaults.FRONTIER_RESULT_TTL) * 1000)

    def call(self, script: str, parse: Callable[[Any], T], /, **values: Any) -> Call[T]:
        """The call of ``lua/<script>.lua``, its keys and arguments by their names.

        What *values* leaves out is this frontier's. Raises TypeError for a name that the
        script has not, and for one without a value.
        """
        own = {
            **vars(self.keys),
            "seed_keys": self.seed_keys,
            "worker": self.worker,
            "worker_name": self.name,
            "ttl_ms": self.ttl_ms,
            "polite": self.polite,
            # Somebody who beats four times per TTL and missed two beats is not here.
            "present_ms": self.ttl_ms // 2,
            "max_deliveries": self.max_deliveries,
            "failed_limit": self.failed_limit,
            "newest_first": int(self.newest_first),
            "round": self._round,
            "format": FORMAT,
            "delay_ms": ceil(self.rules.delay * 1000),
            "places": self.rules.places,
            "max_payload": max(self.max_payload, self.max_seed) + _ENVELOPE,
            "max_seed": self.max_seed,
            "reply_bytes": REPLY_BYTES,
            "keep_ms": self.keep_ms,
        }
        return scripts.call(script, parse, own, values)

    async def run(self, script: str, /, **values: Any) -> Any:
        """The reply to *script*, sent alone, as Redis gives it; *values* as in `call`.

        Raises RedisUnavailable, and ResponseError if Redis refused.
        """
        call = self.call(script, lambda raw: raw, **values)
        await self.exchange([call])
        return call.reply()

    # The protocol

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
        others, code, *rest = raw
        outcome = _JOINED[code]
        self.older = rest[0] if code == _OLDER else 0
        if code in (_WRONG_FORMAT, _OLDER):
            reason = refusal(self.keys.state, rest[0])
        elif code == _MIXED_FORMATS:
            reason = mixed(rest[0].decode("utf-8", "replace"))
        elif code == _OTHER_SECRET:
            theirs = rest[0].decode("latin-1")
            reason = differ(self.seal.check, theirs, self.keys.state)
        elif code == _OTHER_MANNERS:
            reason = differ_in_manners(self.polite, rest[0].decode("latin-1"))
        else:
            self.crawl = rest[2].decode("latin-1")
            return Joined(outcome, others, rest[0], bool(rest[1]))
        return Joined(outcome, others, refusal=reason)

    def heartbeat(self, info: str = "", *, busy: bool | None = None) -> Call[Heartbeat]:
        """Say that this worker lives; Redis' side of the account in return.

        *info* is for people, '' leaves those that were sent before. *busy*: whether it
        has a request in hand that no lease stands for, None if that is as before.
        """
        state = "" if busy is None else int(busy)
        return self.call("heartbeat", _parse_heartbeat, info=info, busy=state)

    def meet(
        self, machine: str, process: str
    ) -> Call[tuple[int, list[tuple[str, str]]]]:
        """Tell which *process* of which *machine* this worker is.

        How often workers have come in return, and the number and process of the others
        on that machine. A worker that has not registered only asks.
        """
        return self.call("meet", _parse_meet, machine=machine, process=process)

    def gone(self, machine: str, others: Sequence[tuple[str, str]]) -> Call[int]:
        """Declare workers dead whose processes are gone: (number, process)."""
        args = [arg for n, process in others for arg in (n, f"{machine} {process}")]
        return self.call("gone", int, others=args)

    def lease(
        self, want: int, *, suspects: int, enough: Sequence[int] = ()
    ) -> Call[LeaseReply]:
        """Take at most *want* (<= BATCH) requests, at most *suspects* among them.

        Beside suspects, none is of the slots *enough*.
        """
        return self.call(
            "lease",
            _parse_leases,
            want=min(want, BATCH),
            most_suspects=suspects,
            enough=enough,
        )

    def lease_politely(
        self, want: int, manners: Manners, *, suspects: int
    ) -> Call[tuple[LeaseReply, Granted]]:
        """Take at most *want* (<= BATCH) requests of slots that this worker may ask."""
        self.rules = manners.rules
        return self.call(
            "lease_polite",
            _parse_granted,
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
            rules = "" if seat.rules is None else _rules_text(seat.rules)
            args += (seat.name, max(0, ceil(seat.rest * 1000)), rules)
        return self.call("yield", int, seats=args)

    def visit(self, slot: int, manners: Manners) -> Call[Visit | None]:
        """Ask for the slot of a request that no lease stands for; None: join first."""
        self.rules = manners.rules

        def parse(raw: list[int]) -> Visit | None:
            outcome, wait, delay, places = raw
            rules = Rules(delay / 1000, places)
            seconds = wait / 1000 if wait >= 0 else None
            return None if outcome < 0 else Visit(outcome > 0, seconds, rules)

        return self.call("visit", parse, slot=slot, most_seats=manners.seats)

    async def set_rules(self, rules: Mapping[int, Rules]) -> None:
        """Give slots rules of their own, that hold for all workers."""
        texts = {str(slot): _rules_text(each) for slot, each in rules.items()}
        with asking():
            for some in batches([*texts], BATCH):
                mapping: dict[str | bytes, Any] = {name: texts[name] for name in some}
                await within(
                    self.limit, self.client.hset(self.keys.politeness, mapping=mapping)
                )

    def held_seats(self) -> Call[list[str]]:
        """Names of the seats that this worker has.

        What it has asked for before changes none of them any more, see lib/rounds.lua.
        """
        self._round += 1
        return self.call(
            "held_seats", lambda raw: [name.decode("latin-1") for name in raw]
        )

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
            return _stored(outcome, raw)

        shape = self.shape or _NO_BUCKETS
        return self.call(
            "commit",
            parse,
            epoch=shape.epoch,
            known=shape.buckets,
            **encode(
                commit,
                self.shape,
                apart=self._mostly_new,
                keeps_results=self.keeps_results,
            ),
        )

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
            epoch=shape.epoch,
            first=shape.buckets,
            load=shape.load,
            splits=SPLITS,
        )

    async def sweep(self) -> int:
        """Delete the buckets of cleared crawls, some at a time; how many there were."""
        swept = 0
        key = self.keys.dupefilter
        if await self.client.type(key) != b"hash":
            return 0
        for field, value in (await self.client.hgetall(key)).items():
            name, last = field.decode(), int(value)
            if not name.startswith("old:"):
                continue
            shape = Shape(key, name.removeprefix("old:"))
            for numbers in batches(range(last), _SWEEP):
                await self.client.unlink(*map(shape.name, numbers))
            await self.client.hdel(key, name)
            swept += last
        return swept

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
        shape = shape or _NO_BUCKETS
        return self.call(
            "claim",
            self._parse_claim,
            epoch=shape.epoch,
            known=shape.buckets,
            claims=args,
            buckets=buckets,
        )

    def _parse_claim(self, raw: list[Any]) -> list[bool | None] | None:
        if raw[:1] == [-1]:
            self._reshape(raw[1:4])
            return None
        return [None if new == 2 else bool(new) for new in raw]

    def begin(self, begins: Sequence[Begin]) -> Call[list[Beginning]]:
        """Begin the tasks (at most BATCH) whose seeds this worker holds."""
        args: list[str | int] = []
        for each in begins:
            args += (each.lease, each.id, each.token, each.batch, int(each.is_new))
        return self.call(
            "begin", lambda raw: [_BEGUN[code] for code in raw], begins=args
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

    def take_seeds(self, want: int) -> Call[SeedsReply]:
        """Lease at most *want* (<= BATCH) seeds, a fair share at most."""
        return self.call("seeds", _parse_seeds, want=min(want, BATCH))

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
            lambda raw: (_LEFT[raw[0]], raw[1]),
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

    # Talking to Redis

    async def exchange(self, calls: Sequence[Call[Any]]) -> None:
        """Send *calls* in one round trip; each then holds its reply or its error.

        Raises RedisUnavailable if there is no reply: then nobody knows which of the
        calls were carried out.
        """
        try:
            await within(self.limit, self._exchange(calls))
        except (RedisError, OSError) as e:
            if is_elsewhere(e):
                await drop_connections(self.client)
            raise RedisUnavailable(f"{type(e).__name__}: {e}") from e

    async def _exchange(self, calls: Sequence[Call[Any]]) -> None:
        await self._send(calls)
        unknown = sum(isinstance(call.raw, NoScriptError) for call in calls)
        if not unknown:
            return
        # Redis has lost its scripts: a restart or a failover.
        await self._load()
        if unknown < len(calls):
            # Some calls were carried out already; the order counts.
            raise RedisUnavailable("Redis had lost its scripts")
        await self._send(calls)
        if any(isinstance(call.raw, NoScriptError) for call in calls):
            raise RedisUnavailable("Redis lost its scripts again")

    async def _send(self, calls: Sequence[Call[Any]]) -> None:
        async with self.client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.evalsha(
                    call.script.sha, len(call.keys), *call.keys, *call.args
                )
            replies = await pipeline.execute(raise_on_error=False)
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, Exception) and (
                not isinstance(reply, ResponseError) or is_temporary(reply)
            ):
                raise reply
            call.raw = reply

    async def _load(self) -> None:
        async with self.client.pipeline(transaction=False) as pipeline:
            for name in scripts.names():
                pipeline.script_load(scripts.load(name).source)
            await pipeline.execute()

    async def leases_held(self) -> list[str]:
        """Order ids that Redis holds for this worker."""
        with asking():
            ids: list[Any] = await within(
                self.limit,
                self.client.zrangebyscore(self.keys.leases, self.worker, self.worker),
            )
        return [id_.decode("latin-1") for id_ in ids]


def _parse_heartbeat(raw: list[Any]) -> Heartbeat:
    known, commit, held, alive, silent, paused, stop, met = raw
    flags = {"paused": bool(paused), "stop": bool(stop)}
    return Heartbeat(bool(known), commit, held, alive, silent, met=met, **flags)


def _parse_meet(raw: list[Any]) -> tuple[int, list[tuple[str, str]]]:
    words = [word.decode("utf-8", "replace") for word in raw[1:]]
    return raw[0], list(zip(words[::2], words[1::2], strict=True))


def _parse_leases(raw: list[Any]) -> LeaseReply:
    (
        known,
        pending,
        suspects_left,
        suspects,
        waiting,
        alone,
        too_large,
        of_slots,
        *ranked,
    ) = raw
    slots: list[int] = []
    for word in of_slots.split():
        slot, _, count = word.partition(b":")
        slots += [int(slot) if slot.isdigit() else 0] * int(count)
    sizes = {}
    for word in too_large.split():
        number, _, size = word.partition(b":")
        sizes[int(number) - 1] = int(size)
    leases = []
    for n, (entry, slot) in enumerate(zip(ranked, slots, strict=True)):
        id_, at, task = entry[8:24].decode("latin-1"), RANK, ""
        if entry[RANK : RANK + 1] == TASK:
            task, at = split_task(entry, RANK)
        is_seed = entry[at : at + 1] == SEED
        payload = entry[at + is_seed :]
        size = max(0, sizes.get(n, 0) - (at - RANK))
        leases.append(
            Lease(id_, payload, n < suspects, bool(alone), is_seed, size, slot, task)
        )
    left = Left(pending, suspects_left, waiting, bool(alone))
    return LeaseReply(bool(known), leases, left)


def _rules_text(rules: Rules) -> str:
    return f"{ceil(rules.delay * 1000)} {rules.places}"


def _parse_granted(raw: list[Any]) -> tuple[LeaseReply, Granted]:
    *raw, seats, wait, ready = raw
    grants, taken, wanted = [], [], []
    for word in seats.decode("latin-1").split():
        name, delay, places, leases = word.split(":")
        if leases == "-1":
            taken.append(name)
        elif leases == "-2":
            wanted.append(name)
        else:
            rules = Rules(int(delay) / 1000, int(places))
            grants.append(Grant(name, rules, int(leases)))
    seconds = wait / 1000 if wait >= 0 else None
    return _parse_leases(raw), Granted(grants, taken, wanted, seconds, ready)


def _parse_seeds(raw: list[Any]) -> SeedsReply:
    leases = []
    for id_, found in zip(raw[2::2], raw[3::2], strict=True):
        # Of one that is too large there is its size.
        seed, size = (b"", found) if type(found) is int else (found, 0)
        leases.append(Lease(id_.decode("latin-1"), seed, is_seed=True, too_large=size))
    return SeedsReply(bool(raw[0]), leases, raw[1])


def _stored(outcome: Outcome, raw: list[Any]) -> CommitReply:
    """The reply to a commit that was taken."""
    filtered = raw[4:]
    if not filtered or min(filtered) >= 0:
        return CommitReply(outcome, raw[1], filtered)
    return CommitReply(
        outcome,
        raw[1],
        [at for at in filtered if at >= 0],
        dropped=[-1 - at for at in filtered if at < 0],
    )
