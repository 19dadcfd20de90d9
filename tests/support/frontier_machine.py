"""A random play of workers, deaths, cut connections and rollbacks against the frontier.

The machine knows, from what Redis held before each call, what the call may do. After
every step it looks whether the invariants I1 to I3 hold, and at the end whether an
honest worker finds everything that is left, each page's items are there once, and whoever
comes back later learns that the crawl is over.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import math
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from scrapy_dist.brokers.redis.buckets import Shape, compact
from scrapy_dist.core.frontier import JoinOutcome, Outcome
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.redis_client.client import close_client
from tests.support.frontiers import (
    KEYS,
    SEED_KEYS,
    dump,
    leased_as,
    pass_time,
    restore,
)
from tests.support.light_worker import LightWorker, Yield, score

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy_dist.brokers.redis.scripts import Call

#: What the tests play. Plays that fail are not made smaller: that takes minutes, and the
#: seed that is printed repeats them (with Phase.shrink added, if need be).
PLAYS = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    print_blob=True,
)
DEPTH = 3
WORKERS = 3
SNAPSHOTS = 3
MAX_DELIVERIES = 4
#: Deaths after which a request is handed out alone.
LAST = min(2, MAX_DELIVERIES - 1)
#: Dead letters that S:failed has room for, until the play is over.
FAILED_LIMIT = 2
TTL = 60.0
START = "home"

#: Which worker: the first, the second …
ANY = st.integers(0, WORKERS - 1)
#: What a worker may do. A connection that is cut lets so many calls of an exchange pass.
ACTIONS = (
    "exchange",
    "lease 1",
    "lease 3",
    "yield",
    "finish",
    "finish",
    "cut 1",
    "cut 3",
)
#: What may happen around them: "time" is in seconds, "back" the number of a snapshot.
EVENTS = (
    "join",
    "seed",
    "time 26",
    "time 41",
    "scripts",
    "save",
    "save",
    "back 1",
    "back 2",
    "leases lost",
    "leases lost",
    "mend",
)


def programs() -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=5)


def plays() -> st.SearchStrategy[list[tuple[int, str]]]:
    """Of two workers."""
    action = st.tuples(st.integers(0, 1), st.sampled_from(ACTIONS))
    return st.lists(action, min_size=1, max_size=8)


def site(name: str, *, kept: bool = True) -> Yield:
    """What the page *name* yields, known in advance so that a lost one shows.

    A filtered request, one that is not filtered, one that stays in the worker, one that
    is crawled ahead of Redis where that is possible, and one that all pages of a level
    share, so that it is a duplicate most of the time. The last letter of a name says what
    kind of page it is.
    """
    depth = name.count(".")
    kind = name[-1]
    items = (f"item-{name}".encode(),)
    if kind == "x":
        return Yield(failure="it raised", items=items)
    if kind == "p":
        return Yield(unfiltered=(f"{name}.t",), items=items, in_parts=True)
    if depth >= DEPTH or "shared" in name or kind == "t":
        return Yield(items=items)
    if kind == "k":
        return Yield(filtered=(f"{name}.a",), items=items)
    shared = f"{'seed-' * name.startswith('seed-')}shared-{depth}"
    return Yield(
        filtered=(f"{name}.a", shared, *([f"{name}.x"] * (depth < 2))),
        unfiltered=(f"{name}.b", *([f"{name}.p"] * (depth == 0))),
        kept=(f"{name}.k",) if kept and depth < DEPTH - 1 else (),
        chain=(f"{name}.h", *([f"{name}.hx"] * (depth < 2))),
        items=items,
    )


def comes_again(name: str) -> bool:
    """Whether *name* was sent ahead of the ack of its page, so that it may come twice."""
    return name.endswith(".t")


@dataclass
class World:
    """What is true at a moment; it goes back with Redis."""

    acked: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    killed: set[str] = field(default_factory=set)
    deaths: Counter[str] = field(default_factory=Counter)
    seeds: set[str] = field(default_factory=set)
    #: How often a page has failed while S:failed had no room: it is crawled again.
    refused: Counter[str] = field(default_factory=Counter)
    #: What somebody has deleted the leases of.
    orphans: set[bytes] = field(default_factory=set)


@dataclass(frozen=True)
class Entry:
    """A request in one place in Redis."""

    id: bytes
    place: str
    name: str
    score: float
    deaths: int
    claims: bytes


def fingerprints(client: Any) -> list[str]:
    """What is seen, from the set or from its buckets."""
    key = KEYS.dupefilter
    if client.type(key) != b"hash":
        return [each.decode() for each in client.smembers(key)]
    info = client.hgetall(key)
    if b"epoch" not in info:
        return []
    shape = Shape(key, info[b"epoch"].decode(), int(info[b"buckets"]))
    names = [shape.name(number) for number in range(shape.buckets)]
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.smembers(name)
    found = []
    for name, raw in zip(names, pipeline.execute(), strict=True):
        members = [each.decode() for each in raw]
        assert all(shape.place(each) == name for each in members)
        found += members
    assert len(found) == int(info[b"count"])
    return found


class Look:
    """All of the frontier at one moment."""

    def __init__(self, client: Any) -> None:
        pipeline = client.pipeline(transaction=False)
        pipeline.zrange(KEYS.requests, 0, -1, withscores=True)
        pipeline.zrange(KEYS.suspects, 0, -1, withscores=True)
        pipeline.hgetall(KEYS.leased)
        pipeline.zrange(KEYS.leases, 0, -1, withscores=True)
        pipeline.lrange(KEYS.items, 0, -1)
        pipeline.xrange(KEYS.failed)
        pipeline.lrange(SEED_KEYS[0], 0, -1)
        pipeline.zrange(KEYS.workers, 0, -1)
        pipeline.hgetall(KEYS.state)
        (
            pending,
            suspects,
            leased,
            leases,
            items,
            failed,
            seeds,
            workers,
            state,
        ) = pipeline.execute()
        self.order = [member[:16] for member, _ in pending]
        self.suspects = [member[:16] for member, _ in suspects]
        self.owners = {id_: int(owner) for id_, owner in leases}
        self.seen = set(fingerprints(client))
        self.items = Counter(items)
        #: How many items were ever stored, as the frontier counts them.
        self.pushed = int(state.get(b"items", 0))
        self.letters = [
            (fields[b"payload"].decode(), fields[b"reason"], int(fields[b"deliveries"]))
            for _, fields in failed
        ]
        self.waiting = {seed.decode() for seed in seeds}
        self.entries = [
            Entry(member[:16], "pending", name_of(member[16:]), at, 0, b"-")
            for member, at in pending
        ]
        for member, at in suspects:
            deaths, claims, payload = member[16:].split(b" ", 2)
            name = name_of(payload)
            self.entries.append(
                Entry(member[:16], "suspect", name, at, int(deaths), claims)
            )
        for id_, entry in leased.items():
            at, deaths, claims, member = leased_as(entry)
            assert member.startswith(id_)
            self.entries.append(
                Entry(
                    id_, "leased", name_of(member[16:]), float(at), int(deaths), claims
                )
            )
        #: Of each worker the number of its last commit.
        self.commits = {
            worker.decode(): int(state.get(b"commit:" + worker, -1))
            for worker in workers
        }
        self.by_id = {entry.id: entry for entry in self.entries}

    def leased_by(self, worker: LightWorker) -> set[bytes]:
        number = int(worker.frontier.worker)
        return {id_ for id_, owner in self.owners.items() if owner == number}


def name_of(payload: bytes) -> str:
    return payload.removeprefix(b"\0").decode()


class FrontierMachine(RuleBasedStateMachine):
    """Subclasses say which Redis; its database is emptied."""

    #: Whether Redis can do claims: fakeredis has no ``redis.sha1hex``.
    has_claims = True
    #: Whether fingerprints are in buckets of integers.
    is_compact = False
    #: Of the workers that join.
    failed_limit = FAILED_LIMIT

    def __init__(self) -> None:
        super().__init__()
        self.snapshots: list[tuple[dict[bytes, bytes], World]] = []
        self.loop = asyncio.new_event_loop()
        self.client, self.redis = self.make_clients()
        self.redis.flushdb()
        self.workers: list[LightWorker] = []
        self.world = World()
        #: What Redis holds, where nothing has happened since somebody looked.
        self.seen: Look | None = None
        self.pushed = self.joined = 0
        #: Pages by their fingerprints of 64 bits.
        self.names: dict[str, str] = {}

    def make_clients(self) -> tuple[Any, Any]:
        """A client for the workers and a blocking one to look with, of one Redis."""
        raise NotImplementedError

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def look(self) -> Look:
        if self.seen is None:
            self.seen = Look(self.redis)
        return self.seen

    def site(self, name: str) -> Yield:
        result = site(name, kept=self.has_claims)
        for each in (START, name, *result.filtered, *result.kept, *result.chain):
            self.names[compact(f"fp-{each}")] = f"fp-{each}"
        return result

    def pick(self, at: int) -> LightWorker:
        return self.workers[at % len(self.workers)]

    def join(self) -> LightWorker:
        worker = LightWorker(
            self.client,
            KEYS,
            self.site,
            seed_keys=SEED_KEYS,
            watch=self.watch,
            may_go_ahead=self.may_go_ahead,
            ttl=TTL,
            max_deliveries=MAX_DELIVERIES,
            failed_limit=self.failed_limit,
            compact=self.is_compact,
        )
        # Not at random, so that a play can be repeated.
        self.joined += 1
        worker.frontier.worker = str(self.joined)
        self.run(worker.register("host:1"))
        process = f"{self.joined} 1"
        self.run(worker.frontier.exchange([worker.frontier.meet("m", process)]))
        self.seen = None
        worker.start(START)
        self.workers.append(worker)
        return worker

    def may_go_ahead(self, worker: LightWorker, name: str) -> bool:
        """As for a worker that is alone, but for one page: the plays have two workers.

        Nobody has yielded it, and nobody will who has a page that leads to it: the dead
        who know nothing of it yet have such pages, too.
        """
        for other in self.workers:
            if other is worker:
                continue
            if name in other.sent:
                return False
            if any(f"{name}.".startswith(f"{each}.") for each in other.in_hand):
                return False
        return worker.fingerprint(name) not in fingerprints(self.redis)

    def exchange(self, worker: LightWorker, **wants: int) -> None:
        try:
            self.run(worker.exchange(**wants))
        except RedisUnavailable as e:
            if "cut" not in str(e):
                raise

    def act(self, worker: LightWorker, actions: list[str]) -> None:
        """Let *worker* do some of ACTIONS."""
        for action in actions:
            what, _, argument = action.partition(" ")
            if what == "exchange":
                self.exchange(worker)
            elif what == "lease":
                self.exchange(worker, want=int(argument), seeds=1)
            elif what == "cut":
                worker.cut_after(int(argument))
                self.exchange(worker, want=2)
                worker.cut_after(math.inf)
            elif what == "yield":
                task = worker.take()
                if task is not None:
                    worker.go_on(task)
            elif worker.open or worker.inbox:
                worker.finish(worker.open[0] if worker.open else worker.take())

    # What may happen

    @initialize(actions=programs())
    def a_crawl_has_begun(self, actions: list[str]) -> None:
        first, second = self.join(), self.join()
        self.act(first, ["exchange", "lease 1", "finish", "exchange", "lease 2"])
        self.act(second, ["exchange", "lease 2"])
        self.act(first, actions)

    @rule(at=ANY, actions=programs())
    def works(self, at: int, actions: list[str]) -> None:
        self.act(self.pick(at), actions)

    @rule(at=ANY, actions=programs(), then=programs())
    def is_frozen_and_given_up(
        self, at: int, actions: list[str], then: list[str]
    ) -> None:
        """Another one finds it dead and acts; then it goes on, and nobody told it."""
        if len(self.workers) > 1:
            zombie, other = self.pick(at), self.pick(at + 1)
            self.fall_silent(zombie)
            self.act(other, ["exchange", "lease 1", "finish", *actions])
            self.act(zombie, then)

    @rule(at=ANY, end=st.sampled_from(["dies", "is gone", "leaves"]))
    def ends(self, at: int, end: str) -> None:
        """And another one takes its place."""
        worker = self.pick(at)
        if end == "dies":
            self.fall_silent(worker)
        elif end == "is gone" and len(self.workers) > 1:
            # Its process, and another worker on its machine sees it.
            gone = [(worker.frontier.worker, f"{worker.frontier.worker} 1")]
            frontier = self.pick(at + 1).frontier
            self.run(frontier.exchange([frontier.gone("m", gone)]))
            self.seen = None
            if self.redis.zscore(KEYS.workers, worker.frontier.worker) != 1:
                self.fall_silent(worker)  # Redis has forgotten which process it is
        else:
            self.leave(worker)
        self.workers.remove(worker)
        if len(self.workers) < WORKERS:
            self.join()

    @rule(at=ANY, times=st.integers(2, MAX_DELIVERIES))
    def die_one_after_another(self, at: int, times: int) -> None:
        """Each with what the one before has died with."""
        worker = self.pick(at)
        for _ in range(times):
            self.exchange(worker, want=2)
            self.fall_silent(worker)
            self.workers.remove(worker)
            worker = self.join()
            self.exchange(worker)  # it finds the dead one, and then takes over
            self.exchange(worker)

    @rule(at=ANY, lost=plays(), then=plays())
    def redis_goes_back_while_workers_work(
        self, at: int, lost: list[tuple[int, str]], then: list[tuple[int, str]]
    ) -> None:
        """What two of them do is lost, and they go on as if it were not."""
        self.save()
        for who, action in lost:
            self.act(self.pick(at + who), [action])
        self.come_back(1)
        for who, action in [*then, (0, "finish"), (0, "exchange")]:
            self.act(self.pick(at + who), [action])

    @rule(what=st.sampled_from(EVENTS))
    def something_happens(self, what: str) -> None:
        kind, _, argument = what.partition(" ")
        self.seen = None
        if kind == "join" and len(self.workers) < WORKERS:
            self.join()
        elif kind == "seed":
            self.pushed += 1
            name = f"seed-{self.pushed}"
            self.redis.rpush(SEED_KEYS[0], name)
            self.world.seeds.add(name)
        elif kind == "time":
            self.run(pass_time(self.client, int(argument)))
        elif kind == "scripts":
            self.redis.script_flush()
        elif kind == "save":
            self.save()
        elif kind == "back" and self.snapshots:
            self.come_back(int(argument))
        elif kind == "leases":
            self.redis.delete(KEYS.leases)
            self.world.orphans = set(self.redis.hkeys(KEYS.leased))
        elif kind == "mend":
            self.mend(self.workers[0])

    def save(self) -> None:
        self.snapshots.append((self.run(dump(self.client)), copy.deepcopy(self.world)))
        del self.snapshots[:-SNAPSHOTS]

    def come_back(self, snapshot: int) -> None:
        """Redis loses what it has, and has the last, or last but one, … *snapshot*."""
        data, world = self.snapshots[-min(snapshot, len(self.snapshots))]
        self.world = copy.deepcopy(world)
        self.seen = None
        self.run(restore(self.client, data))
        # No restart of Redis takes less; order ids are made of the ms.
        time.sleep(0.002)

    def mend(self, worker: LightWorker) -> None:
        """What has no lease is put back, as workers do that have nothing else to do."""
        k = KEYS
        ids = sorted(self.redis.hkeys(k.leased))
        call = worker.frontier.call("check_leased", list, mend=1, ids=ids)
        self.run(worker.frontier.exchange([call]))
        self.seen = None
        assert {ids[at] for at in call.reply()} == self.world.orphans
        self.world.orphans = set()

    def leave(self, worker: LightWorker) -> None:
        worker.give_back()
        for _ in range(9):
            if worker.is_idle:
                break
            self.exchange(worker)
        assert worker.is_idle
        assert not self.run(worker.leave(finished=False))

    def fall_silent(self, worker: LightWorker) -> None:
        """Its last beat is long ago."""
        self.seen = None
        self.redis.zadd(KEYS.workers, {worker.frontier.worker: 1}, xx=True)

    # What a call may do, seen from what Redis held before it

    def watch(self, worker: LightWorker, call: Call[Any]) -> Callable[[], None] | None:
        check = getattr(self, f"after_{call.script.name}", None)
        before = self.look() if check is not None else None
        self.seen = None  # the call may change everything
        if check is None:
            return None
        return lambda: check(worker, call, before, self.look())

    def after_commit(
        self, worker: LightWorker, call: Call[Any], before: Look, after: Look
    ) -> None:
        reply = call.reply()
        number, stored = (
            call.values["number"],
            before.commits.get(worker.frontier.worker),
        )
        if reply.outcome is Outcome.AGAIN:
            assert worker.frontier.shape is not None
        elif stored is None:
            assert reply.outcome is Outcome.UNKNOWN_WORKER
        elif number <= stored:
            assert reply.outcome is Outcome.REPEATED
        elif number > stored + 1:
            assert reply.outcome is Outcome.GAP
        else:
            assert reply.outcome is Outcome.STORED
        if reply.outcome is not Outcome.STORED:
            assert vars(before) == vars(after)
            return
        ids = call.values["ids"]
        verdicts = ["+"] * call.values["acks"] + ["="] * call.values["bare_acks"]
        verdicts += call.values["verdicts"]
        mine = before.leased_by(worker)
        ours = [str(id_).encode() in mine for id_ in ids]
        failures = []
        for name, page, has_failed in self.hops_of(call):
            if not ours[page - 1]:
                continue
            if has_failed:
                failures.append(name)
            else:
                self.world.acked.add(name)
        for id_, is_ours, verdict in zip(ids, ours, verdicts, strict=True):
            if not is_ours or verdict == "-":
                continue
            name = before.by_id[str(id_).encode()].name
            if self.site(name).failure:
                failures.append(name)
            else:
                self.world.acked.add(name)
        self.fail(failures, call.values["failed_limit"], before)
        assert reply.not_owned == ours.count(False)

    def fail(self, names: list[str], limit: int, before: Look) -> None:
        """The first ones become dead letters, as many as there is room for."""
        room = max(0, limit - len(before.letters))
        self.world.failed.update(names[:room])
        self.world.refused.update(names[room:])

    def hops_of(self, call: Call[Any]) -> list[tuple[str, int, bool]]:
        """Of each its name, the number of the page it comes with, and if it has failed."""
        chain = []
        for each in call.values["names"]:
            found = re.match(r"@(\d+) (\d+) ", each)
            if found:
                end = found.end() + int(found[2])
                fingerprint, reason = each[found.end() : end], each[end:]
                name = self.names.get(fingerprint, fingerprint).removeprefix("fp-")
                if not name.endswith(".k"):
                    chain.append((name, int(found[1]), bool(reason)))
        return chain

    def after_reap(
        self, worker: LightWorker, call: Call[Any], before: Look, after: Look
    ) -> None:
        room = max(0, call.values["failed_limit"] - len(before.letters))
        for id_ in sorted(before.owners.keys() - after.owners.keys()):
            name = before.by_id[id_].name
            # What comes twice has several ids, and each dies its own deaths.
            key = id_.decode() if comes_again(name) else name
            self.world.deaths[key] += 1
            if self.world.deaths[key] >= MAX_DELIVERIES and room:
                self.world.killed.add(name)
                room -= 1

    def after_readmit(
        self, worker: LightWorker, call: Call[Any], before: Look, after: Look
    ) -> None:
        """Those that waited for room become dead letters, or are tried again."""
        waiting = sorted(e.id for e in before.entries if math.isinf(e.score))
        room = max(0, call.values["failed_limit"] - len(before.letters))
        room = min(room, len(waiting))
        assert call.reply() == [room, len(waiting) - room]
        for id_ in waiting[:room]:
            entry = before.by_id[id_]
            if entry.deaths >= MAX_DELIVERIES:
                self.world.killed.add(entry.name)

    def after_lease(
        self, worker: LightWorker, call: Call[Any], before: Look, after: Look
    ) -> None:
        """The best ones, and suspects: those that have a death to spare, or one alone."""
        want, most = call.values["want"], call.values["most_suspects"]
        leases = call.reply().leases
        suspects = [lease.id.encode() for lease in leases if lease.suspect]
        others = [lease.id.encode() for lease in leases if not lease.suspect]
        assert len(leases) <= want
        alone = call.reply().left.alone
        near = [before.by_id[id_] for id_ in before.suspects[:16]]
        near = [entry for entry in near if not math.isinf(entry.score)]
        lone = [entry.id for entry in near if entry.deaths >= LAST]
        group = [entry.id for entry in near if entry.deaths < LAST]
        if not call.reply().known:
            assert not leases
        elif lone and most and not before.leased_by(worker):
            assert alone
            assert suspects == lone[:1]
        elif alone:
            assert not suspects
        else:
            assert suspects == group[: min(want, most)]
        assert not (alone and others)
        assert others == before.order[: len(others)]

    def after_release(
        self, worker: LightWorker, call: Call[Any], before: Look, after: Look
    ) -> None:
        ids = {str(id_).encode() for id_ in call.values["ids"]} & before.leased_by(
            worker
        )
        assert call.reply() == len(ids)
        assert before.owners.keys() - after.owners.keys() == ids

    # What must hold

    @invariant()
    def the_frontier_is_whole(self) -> None:
        look = self.look()
        world = self.world
        done = world.acked | world.failed
        leased = {e.id for e in look.entries if e.place == "leased"}
        assert leased - look.owners.keys() == world.orphans
        assert look.owners.keys() == leased - world.orphans
        self.everything_is_in_one_place(look, done)
        for entry in look.entries:
            if math.isinf(entry.score):
                assert entry.place == "suspect", entry
                assert world.refused[entry.name] or entry.deaths >= MAX_DELIVERIES
            elif entry.score != score(entry.name):
                assert entry.score == 0, entry
                assert world.refused[entry.name], entry
            key = entry.id.decode() if comes_again(entry.name) else entry.name
            assert entry.deaths == world.deaths[key], entry
        self.what_was_acknowledged_is_stored(look, done)
        self.what_was_seen_can_be_found(look, done)

    def everything_is_in_one_place(self, look: Look, done: set[str]) -> None:
        """I3."""
        places = Counter(entry.name for entry in look.entries)
        places.update(done)
        places.update(self.world.killed)
        assert len(look.letters) <= self.failed_limit
        twice = {n for n, count in places.items() if count > 1 and not comes_again(n)}
        assert not twice
        letters = Counter(name for name, _, _ in look.letters)
        assert letters == Counter({*self.world.failed, *self.world.killed})
        for name, reason, deliveries in look.letters:
            killed = name in self.world.killed
            assert reason == (
                f"{MAX_DELIVERIES} workers died while they worked on it".encode()
                if killed
                else b"it raised"
            )
            assert deliveries == (
                MAX_DELIVERIES if killed else self.world.deaths[name] + 1
            )
        known = places.keys() | look.waiting
        assert self.world.seeds <= known, "a seed is lost"

    def what_was_acknowledged_is_stored(self, look: Look, done: set[str]) -> None:
        """I1, and items only and exactly with the acknowledgement of their page."""
        known = {entry.name for entry in look.entries} | done | self.world.killed
        items: Counter[bytes] = Counter()
        parts: set[bytes] = set()
        pages = sorted(done)
        while pages:
            page = pages.pop()
            result = self.site(page)
            missing = {*result.filtered, *result.unfiltered, *result.chain} - known
            assert not missing, (page, missing)
            if not result.in_parts and not comes_again(page):
                items.update(result.items)
            else:
                assert all(look.items[item] for item in result.items)
            pages += result.kept
        for page, times in self.world.refused.items():
            items.update(dict.fromkeys(self.site(page).items, times))
        assert look.pushed == look.items.total()
        for item, count in look.items.items():
            name = item.decode().removeprefix("item-")
            if self.site(name).in_parts or comes_again(name):
                parts.add(item)
            else:
                assert count == items[item], (item, count)
        assert look.items.keys() == items.keys() | parts

    def what_was_seen_can_be_found(self, look: Look, done: set[str]) -> None:
        """A fingerprint without its request would be a page that nobody crawls."""
        known = {entry.name for entry in look.entries} | done | self.world.killed
        for fingerprint in look.seen:
            name = self.names.get(fingerprint, fingerprint).removeprefix("fp-")
            if not name.endswith(".k"):
                assert name in known, name
                continue
            page = name.removesuffix(".k")
            claim = hashlib.sha1(fingerprint.encode()).hexdigest()[:16].encode()
            if page not in done | self.world.killed:
                claims = [e.claims for e in look.entries if e.name == page]
                assert any(claim in each for each in claims), (page, claims)

    # The end

    def teardown(self) -> None:
        try:
            if self.workers:
                self.the_rest_is_crawled()
        finally:
            self.run(close_client(self.client))
            self.redis.close()
            self.loop.close()

    def the_rest_is_crawled(self) -> None:
        """All workers vanish; an honest one finishes the crawl."""
        self.failed_limit = 10_000
        for worker in self.redis.zrange(KEYS.workers, 0, -1):
            self.redis.zadd(KEYS.workers, {worker: 1})
        honest = self.join()
        self.mend(honest)
        for _ in range(200):
            self.seen = None
            self.redis.hdel(KEYS.state, "grace")
            self.exchange(honest, want=50, seeds=50)
            while task := honest.take():
                honest.finish(task)
            [left] = self.run(self.ask_what_is_left(honest))
            if (
                left.is_drained
                and honest.is_idle
                and self.redis.zcard(KEYS.workers) == 1
            ):
                break
        self.the_frontier_is_whole()
        assert left.is_drained
        assert honest.is_idle
        self.everything_was_crawled()
        look = self.look()
        assert self.run(honest.leave(finished=True))
        self.run(honest.frontier.sweep())
        [(_, record)] = self.redis.xrange(KEYS.history)
        assert int(record[b"items"]) == look.pushed
        assert int(record[b"failed"]) == len(look.letters)
        self.workers.remove(honest)
        for late in self.workers:
            assert self.run(late.register("late")).outcome is JoinOutcome.MISSED
        kept = {each.encode() for each in (KEYS.items, KEYS.failed, KEYS.history)}
        assert set(self.redis.keys("*")) <= kept

    async def ask_what_is_left(self, worker: LightWorker) -> list[Any]:
        call = worker.frontier.drained()
        await worker.frontier.exchange([call])
        return [call.reply()]

    def everything_was_crawled(self) -> None:
        world = self.world
        to_do, known = [START, *world.seeds], set()
        while to_do:
            name = to_do.pop()
            if name in known:
                continue
            known.add(name)
            if name in world.killed:
                continue
            result = self.site(name)
            assert (name in world.failed) == bool(result.failure), name
            assert (name in world.acked) != (name in world.failed), name
            to_do += [*result.filtered, *result.unfiltered, *result.chain]
            for kept in result.kept:
                there = self.site(kept)
                to_do += [*there.filtered, *there.unfiltered, *there.chain]
