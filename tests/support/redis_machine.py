"""The random play against Redis: what is in its keys, and what can only happen to it."""

from __future__ import annotations

import copy
import hashlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from scrapy_dist.brokers.redis import buckets, layout
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.layout import LEASED, REQUESTS, SUSPECTS, parse
from scrapy_dist.brokers.redis.tasks import parse_task
from scrapy_dist.redis_client.client import close_client
from tests.support.frontier_machine import (
    ANY,
    OPTIONS,
    Entry,
    FrontierMachine,
    Look,
    World,
    plays,
)
from tests.support.frontiers import KEYS, SEED_KEYS, dump, pass_time, restore, session
from tests.support.light_worker import LightWorker, plain

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.session import RedisFrontier

SNAPSHOTS = 3


class RedisMachine(FrontierMachine):
    """Subclasses say which Redis; its database is emptied."""

    items = KEYS.items
    #: Whether fingerprints are in buckets of integers.
    is_compact = False

    def make_clients(self) -> tuple[Any, Any]:
        """A client for the workers and a blocking one to look with, of one Redis."""
        raise NotImplementedError

    def open_broker(self) -> None:
        self.snapshots: list[tuple[dict[bytes, bytes], World]] = []
        self.client, self.redis = self.make_clients()
        self.redis.flushdb()
        self.may_say_again = self.is_compact

    def fingerprint(self, name: str) -> str:
        return buckets.compact(plain(name)) if self.is_compact else plain(name)

    def session(self, number: int, **options: Any) -> RedisFrontier:
        return session(
            self.client,
            # Not at random, so that a play can be repeated.
            worker=str(number),
            process=("m", f"{number} 1"),
            seed_keys=SEED_KEYS,
            compact=self.is_compact,
            **OPTIONS,
            **options,
        )

    def read(self) -> Look:
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.zrange(KEYS.requests, 0, -1, withscores=True)
        pipeline.zrange(KEYS.suspects, 0, -1, withscores=True)
        pipeline.hgetall(KEYS.leased)
        pipeline.zrange(KEYS.leases, 0, -1, withscores=True)
        pipeline.lrange(KEYS.items, 0, -1)
        pipeline.xrange(KEYS.failed)
        pipeline.lrange(SEED_KEYS[0], 0, -1)
        pipeline.zrange(KEYS.workers, 0, -1, withscores=True)
        pipeline.hgetall(KEYS.state)
        pipeline.hgetall(KEYS.tasks)
        pipeline.hkeys(KEYS.results)
        pipeline.zrange(KEYS.slots, 0, -1)
        pipeline.time()
        found = pipeline.execute()
        pending, suspects, leased, leases, items, failed, seeds, workers, state = found[
            :-4
        ]
        tasks, results = found[-4:-2]
        seconds, microseconds = found[-1]
        entries = [
            *(entry_of(parse(REQUESTS, member, score=at)) for member, at in pending),
            *(entry_of(parse(SUSPECTS, member), at) for member, at in suspects),
            *(entry_of(parse(LEASED, *each)) for each in leased.items()),
        ]
        letters = [
            (
                fields[b"payload"].decode(),
                fields[b"reason"].decode(),
                int(fields[b"deliveries"]),
            )
            for _, fields in failed
        ]
        return Look(
            entries=entries,
            order=[entry.id for entry in entries if entry.place == "pending"],
            suspects=[entry.id for entry in entries if entry.place == "suspect"],
            turns=[int(slot) for slot in found[-2]],
            owners={id_.decode(): str(int(owner)) for id_, owner in leases},
            seen=set(fingerprints(self.redis)),
            items=Counter(items),
            pushed=int(state.get(b"items", 0)),
            letters=letters,
            waiting=[seed.decode() for seed in seeds],
            beats={worker.decode(): int(at) for worker, at in workers},
            now=seconds * 1000 + microseconds // 1000,
            commits={
                worker.decode(): int(state.get(b"commit:" + worker, -1))
                for worker, _ in workers
            },
            tasks={
                name[2:].decode(): parse_task(name[2:].decode(), record)
                for name, record in tasks.items()
                if name.startswith(b"t:")
            },
            failures=Counter(
                fields[b"task"].decode() for _, fields in failed if b"task" in fields
            ),
            results=Counter(name.split(b" ")[0].decode() for name in results),
        )

    def claim(self, fingerprint: str) -> str:
        return hashlib.sha1(fingerprint.encode()).hexdigest()[:16]

    def push_seed(self, name: str) -> None:
        self.redis.rpush(SEED_KEYS[0], name)

    def pause(self, paused: bool) -> None:
        if paused:
            self.redis.hset(KEYS.control, "paused", 1)
        else:
            self.redis.hdel(KEYS.control, "paused")

    def let_time_pass(self, seconds: int) -> None:
        self.run(pass_time(self.client, seconds))

    def last_beat(self, worker: str) -> None:
        self.redis.zadd(KEYS.workers, {worker: 1}, xx=True)

    def end_of_grace(self) -> None:
        self.redis.hdel(KEYS.state, "grace")

    def is_gone(self) -> tuple[int, int]:
        names = (KEYS.items, KEYS.failed, KEYS.history, KEYS.tasks, KEYS.results)
        kept = {each.encode() for each in (*names, KEYS.tasks_ended)}
        assert set(self.redis.keys("*")) <= kept
        [(_, record)] = self.redis.xrange(KEYS.history)
        return int(record[b"items"]), int(record[b"failed"])

    def close_broker(self) -> None:
        self.run(close_client(self.client))
        self.redis.close()

    # What can happen to a Redis only

    @rule(at=ANY, lost=plays(), then=plays())
    def redis_goes_back_while_workers_work(
        self, at: int, lost: list[tuple[int, str]], then: list[tuple[int, str]]
    ) -> None:
        """What two of them do is lost, and they go on as if it were not."""
        self.saves()
        for who, action in lost:
            self.act(self.pick(at + who), [action])
        self.come_back(1)
        for who, action in [*then, (0, "finish"), (0, "exchange")]:
            self.act(self.pick(at + who), [action])

    @rule()
    def saves(self) -> None:
        self.snapshots.append((self.run(dump(self.client)), copy.deepcopy(self.world)))
        del self.snapshots[:-SNAPSHOTS]

    @rule(snapshot=st.integers(1, 2))
    def comes_back(self, snapshot: int) -> None:
        if self.snapshots:
            self.come_back(snapshot)

    @rule()
    def loses_its_scripts(self) -> None:
        self.redis.script_flush()

    @rule()
    def loses_its_leases(self) -> None:
        self.seen = None
        self.redis.delete(KEYS.leases)
        self.world.orphans = {id_.decode() for id_ in self.redis.hkeys(KEYS.leased)}

    @rule(last=st.integers(0, 3))
    def loses_turns_of_slots(self, last: int) -> None:
        self.seen = None
        """And slots have turns that have no requests."""
        self.redis.zremrangebyrank(KEYS.slots, 0, last)
        self.redis.zadd(KEYS.slots, {str(1000 + n): 1 for n in range(1 + last)})
        self.world.lost_turns = True

    @rule(at=ANY)
    def is_mended(self, at: int) -> None:
        self.make_whole(self.pick(at))

    def come_back(self, snapshot: int) -> None:
        """Redis loses what it has, and has the last, or last but one, … *snapshot*."""
        data, world = self.snapshots[-min(snapshot, len(self.snapshots))]
        self.world = copy.deepcopy(world)
        self.seen = None
        self.run(restore(self.client, data))
        # No restart of Redis takes less; order ids are made of the ms.
        time.sleep(0.002)

    def make_whole(self, honest: LightWorker) -> None:
        """What has no lease is put back, as workers do that have nothing else to do."""
        ids = sorted(self.redis.hkeys(KEYS.leased))
        frontier = Frontier(self.client, KEYS, **OPTIONS, failed_limit=9)
        call = frontier.call("check_leased", list, mend=1, ids=ids)
        self.run(frontier.exchange([call]))
        self.seen = None
        assert {ids[at].decode() for at in call.reply()} == self.world.orphans
        self.world.orphans = set()


def entry_of(found: layout.Entry, waits: float = 0.0) -> Entry:
    """What is *found*; *waits*: infinite if it waits for room."""
    assert not found.flaw, found
    return Entry(
        found.id.decode(),
        found.kind,
        found.payload.removeprefix(b"\0").decode(),
        found.score + waits,
        int(found.slot),
        found.deaths,
        found.claims,
        found.task,
    )


def fingerprints(client: Any) -> list[str]:
    """What is seen, from the set or from its buckets."""
    key = KEYS.dupefilter
    if client.type(key) != b"hash":
        return [each.decode() for each in client.smembers(key)]
    info = client.hgetall(key)
    if b"epoch" not in info:
        return []
    shape = buckets.Shape(key, info[b"epoch"].decode(), int(info[b"buckets"]))
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
