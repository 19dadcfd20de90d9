"""A random play of workers, deaths, lost replies and rollbacks against the frontier.

The machine checks DESIGN's invariants I1 to I3 after every step, and at the end that an
honest worker finds everything that is left. Requests form a tree that is known in
advance, so a lost one shows.
"""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from scrapy_dist.connection import close_client
from scrapy_dist.frontier import APPLIED, REPEATED, Frontier, NewRequest
from scrapy_dist.keys import Keys
from scrapy_dist.outbox import Outbox

KEYS = Keys(
    **{
        name: f"m:{name}"
        for name in (
            "requests",
            "leases",
            "leased",
            "suspects",
            "dupefilter",
            "started",
            "workers",
            "state",
            "failed",
            "stats",
            "items",
        )
    }
)
DEPTH = 3
WORKERS = 3


def children(name: str) -> list[tuple[str, str]]:
    """Name and fingerprint of what the page *name* yields.

    The second child is not filtered; the third is the same page for all siblings of a
    level, so that it is a duplicate most of the time.
    """
    depth = name.count(".")
    if depth >= DEPTH or name.startswith("shared"):
        return []
    return [
        (f"{name}.a", f"fp-{name}.a"),
        (f"{name}.b", ""),
        (f"shared-{depth}", f"fp-shared-{depth}"),
    ]


def closure(name: str) -> set[str]:
    return {name}.union(*(closure(child) for child, _ in children(name)))


@dataclass
class Worker:
    """What a worker knows; it follows the protocol as the exchange does."""

    frontier: Frontier
    outbox: Outbox = field(default_factory=Outbox)
    held: dict[str, str] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    yielded: set[str] = field(default_factory=set)
    tainted: set[str] = field(default_factory=set)


class FrontierMachine(RuleBasedStateMachine):
    """*client* is set by the subclass: a redis.asyncio client of an empty database."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.client = self.make_client()
        self.run(self.client.flushdb())
        self.workers: list[Worker] = []
        self.acked: set[str] = set()
        self.processed: set[str] = set()
        self.snapshot: tuple[dict[bytes, bytes], set[str]] | None = None

    def make_client(self) -> Any:
        raise NotImplementedError

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def call(self, worker: Worker, *calls: Any) -> list[Any]:
        self.run(worker.frontier.exchange(calls))
        return [call.reply() for call in calls]

    def join(self) -> Worker:
        worker = Worker(
            Frontier(self.client, KEYS, ttl=60, max_deliveries=1000, failed_limit=100)
        )
        self.call(worker, worker.frontier.register("host:1", commit=0))
        self.workers.append(worker)
        return worker

    def pick(self, at: int) -> Worker:
        return self.workers[at % len(self.workers)]

    # Rules

    @initialize()
    def seed(self) -> None:
        worker = self.join()
        self.yield_request(worker, "root", "!fp-root")
        self.deliver(worker)

    @precondition(lambda self: len(self.workers) < WORKERS)
    @rule()
    def another_worker_joins(self) -> None:
        worker = self.join()
        self.yield_request(worker, "root", "!fp-root")  # every worker runs start()

    @rule(at=st.integers(0, 9), want=st.integers(1, 4), lost=st.booleans())
    def leases(self, at: int, want: int, lost: bool) -> None:
        worker = self.pick(at)
        [reply] = self.call(worker, worker.frontier.lease(want, suspect=True))
        if not reply.known:
            self.start_over(worker)
        elif not lost:
            for lease in reply.leases:
                worker.held[lease.id] = lease.payload.decode()

    @rule(at=st.integers(0, 9), which=st.integers(0, 9))
    def finishes_a_page(self, at: int, which: int) -> None:
        worker = self.pick(at)
        open_ids = sorted(set(worker.held) - worker.finished)
        if open_ids:
            self.process(worker, open_ids[which % len(open_ids)])

    @rule(at=st.integers(0, 9), which=st.integers(0, 9))
    def a_page_yields_before_it_finishes(self, at: int, which: int) -> None:
        worker = self.pick(at)
        open_ids = sorted(set(worker.held) - worker.yielded)
        if open_ids:
            self.yield_children(worker, open_ids[which % len(open_ids)])

    @rule(at=st.integers(0, 9), lost=st.booleans())
    def delivers(self, at: int, lost: bool) -> None:
        self.deliver(self.pick(at), lost=lost)

    @rule(at=st.integers(0, 9))
    def beats(self, at: int) -> None:
        self.beat(self.pick(at))

    @rule(at=st.integers(0, 9))
    def releases_an_unstarted_page(self, at: int) -> None:
        worker = self.pick(at)
        for id_ in sorted(set(worker.held) - worker.finished)[:1]:
            self.call(worker, worker.frontier.release([id_]))
            del worker.held[id_]

    @precondition(lambda self: len(self.workers) > 1)
    @rule(at=st.integers(0, 9))
    def dies(self, at: int) -> None:
        worker = self.workers.pop(at % len(self.workers))
        self.fall_silent(worker)

    @precondition(lambda self: len(self.workers) > 1)
    @rule(at=st.integers(0, 9))
    def is_frozen_and_loses_its_leases(self, at: int) -> None:
        zombie = self.pick(at)
        self.fall_silent(zombie)
        other = self.pick(at + 1)
        self.beat(other)
        self.call(other, other.frontier.reap())

    @rule(at=st.integers(0, 9))
    def reaps(self, at: int) -> None:
        worker = self.pick(at)
        self.beat(worker)
        self.call(worker, worker.frontier.reap())

    @rule()
    def redis_saves_a_snapshot(self) -> None:
        self.snapshot = (self.dump(), copy.copy(self.acked))

    @precondition(lambda self: self.snapshot is not None)
    @rule()
    def redis_comes_back_from_the_snapshot(self) -> None:
        data, self.acked = self.snapshot[0], copy.copy(self.snapshot[1])
        self.run(self.client.flushdb())
        for key, value in data.items():
            self.run(self.client.restore(key, 0, value))

    # What a worker does

    def yield_request(self, worker: Worker, name: str, fingerprint: str) -> None:
        worker.outbox.add_request(
            NewRequest(name.encode(), -name.count("."), fingerprint), name
        )

    def process(self, worker: Worker, id_: str) -> None:
        name = worker.held[id_]
        self.processed.add(name)
        if id_ not in worker.yielded:
            self.yield_children(worker, id_)
        worker.finished.add(id_)
        if id_ in worker.tainted:
            self.call(worker, worker.frontier.release([id_]))
            self.forget(worker, id_)
        else:
            worker.outbox.add_ack(id_)

    def yield_children(self, worker: Worker, id_: str) -> None:
        worker.yielded.add(id_)
        for child, fingerprint in children(worker.held[id_]):
            self.yield_request(worker, child, fingerprint)

    def forget(self, worker: Worker, id_: str) -> None:
        worker.held.pop(id_, None)
        worker.finished.discard(id_)
        worker.yielded.discard(id_)
        worker.tainted.discard(id_)

    def deliver(self, worker: Worker, *, lost: bool = False) -> None:
        for numbered in worker.outbox.take(10):
            mine = self.leased_by(worker)
            [reply] = self.call(worker, worker.frontier.commit(numbered.commit))
            if reply.outcome == APPLIED:
                self.acked |= {
                    worker.held[id_]
                    for id_ in numbered.commit.acks
                    if id_ in mine and id_ in worker.held
                }
            if lost:
                return
            if reply.outcome not in (APPLIED, REPEATED):
                self.start_over(worker)
                return
            worker.outbox.confirm(numbered)
            for id_ in numbered.commit.acks:
                self.forget(worker, id_)

    def start_over(self, worker: Worker) -> None:
        """Redis was rolled back, or the worker was declared dead."""
        acks = worker.outbox.withdraw_acks()
        self.call(
            worker,
            worker.frontier.register("host:1", commit=worker.outbox.number),
        )
        worker.tainted |= set(worker.held)
        for id_ in sorted(set(worker.held) - worker.finished):
            self.call(worker, worker.frontier.release([id_]))
            self.forget(worker, id_)
        for id_ in acks:
            self.call(worker, worker.frontier.release([id_]))
            self.forget(worker, id_)
        self.compare(worker)

    def beat(self, worker: Worker) -> None:
        [beat] = self.call(worker, worker.frontier.beat())
        if not beat.known or beat.commit < worker.outbox.confirmed:
            self.start_over(worker)
        elif beat.held != len(worker.held):
            self.compare(worker)

    def compare(self, worker: Worker) -> None:
        in_redis = set(self.run(worker.frontier.leases_held()))
        for id_ in sorted(in_redis - set(worker.held)):
            self.call(worker, worker.frontier.release([id_]))
        for id_ in sorted(set(worker.held) - in_redis):
            if id_ not in worker.finished:
                self.forget(worker, id_)

    def fall_silent(self, worker: Worker) -> None:
        if self.run(self.client.zscore(KEYS.workers, worker.frontier.worker)):
            self.run(self.client.zadd(KEYS.workers, {worker.frontier.worker: 1}))

    # What must hold

    def dump(self) -> dict[bytes, bytes]:
        keys = self.run(self.client.keys("*"))
        return {key: self.run(self.client.dump(key)) for key in keys}

    def leased_by(self, worker: Worker) -> set[str]:
        return set(self.run(worker.frontier.leases_held()))

    def places(self) -> list[str]:
        """The name of every request in Redis, once for each place where it is."""
        pending = self.run(self.client.zrange(KEYS.requests, 0, -1))
        suspects = self.run(self.client.zrange(KEYS.suspects, 0, -1))
        leased = self.run(self.client.hvals(KEYS.leased))
        names = [member[16:].decode() for member in pending]
        names += [member[16:].split(b" ", 2)[2].decode() for member in suspects]
        names += [entry.split(b" ", 3)[3].decode() for entry in leased]
        return names

    @invariant()
    def every_lease_has_one_request_and_the_other_way_round(self) -> None:
        leases = set(self.run(self.client.zrange(KEYS.leases, 0, -1)))
        entries = set(self.run(self.client.hkeys(KEYS.leased)))
        assert leases == entries

    @invariant()
    def every_filtered_request_is_in_one_place(self) -> None:
        names = [name for name in self.places() if not name.endswith(".b")]
        assert len(names) == len(set(names)), names

    @invariant()
    def what_an_acknowledged_page_yielded_is_known(self) -> None:
        known = set(self.places()) | self.acked
        for name in self.acked:
            missing = {child for child, _ in children(name)} - known
            assert not missing, (name, missing)

    def teardown(self) -> None:
        if self.workers:
            self.drain()
        self.run(close_client(self.client))
        self.loop.close()

    def drain(self) -> None:
        """All workers vanish; an honest one finishes the crawl."""
        # Also those that died before a snapshot in which they still beat.
        for worker in self.run(self.client.zrange(KEYS.workers, 0, -1)):
            self.run(self.client.zadd(KEYS.workers, {worker: 1}))
        honest = self.join()
        self.yield_request(honest, "root", "!fp-root")
        for _ in range(500):
            self.run(self.client.hdel(KEYS.state, "grace"))
            self.beat(honest)
            self.call(honest, honest.frontier.reap())
            [reply] = self.call(honest, honest.frontier.lease(50, suspect=True))
            for lease in reply.leases:
                honest.held[lease.id] = lease.payload.decode()
            for id_ in sorted(set(honest.held) - honest.finished):
                self.process(honest, id_)
            self.deliver(honest)
            [left] = self.call(honest, honest.frontier.drained())
            if left and self.run(self.client.zcard(KEYS.workers)) == 1:
                break
        assert left, left
        assert self.processed == closure("root")
