"""Random plays with tasks: each record tells what there is of its task, whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import redis.asyncio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from scrapy import Request

from scrapy_dist.brokers.redis.layout import LEASED, REQUESTS, SUSPECTS, parse
from scrapy_dist.brokers.redis.tasks import RedisTasks, parse_task
from scrapy_dist.brokers.redis.tools.dead_letters import retry
from scrapy_dist.core.frontier import (
    ChainLink,
    Commit,
    End,
    Lease,
    NewRequest,
    Reject,
    Settlement,
)
from scrapy_dist.core.tasks import Batch, Begin, Beginning, NewTask, OnDuplicate
from scrapy_dist.redis_client.client import close_client
from tests.support.frontier_machine import PLAYS
from tests.support.frontiers import KEYS, SEED_KEYS, Worker, dump, restore

EVENTS = (
    *("a_reply_was_lost", "gives_back", "sets_aside", "letters_are_put_back"),
    *("there_is_room", "saves", "comes_back"),
)
WORKERS = st.integers(0, 2)
IDS = st.sampled_from(["a", "b", "c"])
#: Names of requests that may be equal: then they are filtered.
NAMES = st.lists(st.sampled_from([f"page-{n}" for n in range(12)]), max_size=3)
ENDS = st.sampled_from([End.ACK, End.ACK, End.ACK, End.EMPTY, End.OPEN, End.FAILED])
PAGES = st.tuples(
    ENDS,
    NAMES,
    st.integers(0, 2),
    st.integers(0, 2),
    st.lists(st.booleans(), max_size=2),
)
OPTIONS: dict[str, Any] = {"max_deliveries": 2}


class TasksMachine(RuleBasedStateMachine):
    """A subclass has the *url* of a Redis, whose database is emptied."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.client = redis.asyncio.Redis.from_url(self.url, protocol=2)
        self.workers: list[Worker] = []
        self.held: dict[str, list[Lease]] = {}
        self.last: dict[str, Commit] = {}
        self.tokens = 0
        self.failed_limit = 2
        self.snapshot: dict[bytes, bytes] | None = None

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def call(self, worker: Worker, call: Any) -> Any:
        return self.run(worker.call(call))

    def join(self) -> Worker:
        worker = Worker(self.client, failed_limit=self.failed_limit, **OPTIONS)
        self.workers.append(self.run(worker.join()))
        self.held[worker.number] = []
        return worker

    @initialize()
    def some_are_here(self) -> None:
        self.run(self.client.flushdb())
        for _ in range(3):
            self.join()
        self.tasks = RedisTasks(self.workers[0].frontier)
        for id_ in ("a", "b", "c"):
            self.submit(id_, OnDuplicate.REFUSE)
        self.begins(0, 1)
        self.begins(1, 1)
        self.a_page_ends(0, End.OPEN, ["page-0", "page-1"], 2, 1, [])
        self.a_page_ends(1, End.OPEN, ["page-2", "page-3"], 1, 1, [])

    # What they do

    @rule(id_=IDS, on_duplicate=st.sampled_from(OnDuplicate))
    def submit(self, id_: str, on_duplicate: OnDuplicate) -> None:
        self.tokens += 1
        token = f"{self.tokens:016x}"
        seed = json.dumps({"url": "http://a/", "id": id_, "task": token}).encode()
        new = [NewTask(id_, token, seed, batch="xy"[self.tokens % 2])]
        options = {"key": SEED_KEYS[0], "kind": "list", "on_duplicate": on_duplicate}
        self.run(self.tasks.submit(new, **options))

    @rule(at=WORKERS, want=st.integers(1, 3))
    def begins(self, at: int, want: int) -> None:
        worker = self.workers[at]
        for lease in self.run(worker.seeds(want)):
            self.begin(worker, lease)

    def begin(self, worker: Worker, lease: Lease) -> None:
        seed = json.loads(lease.payload)
        record = self.run(self.client.hget(KEYS.tasks, f"t:{seed['task']}"))
        task = parse_task(seed["task"], record)
        batch = task.batch if task else ""
        begin = Begin(lease.id, seed["id"], seed["task"], batch)
        [begun] = self.call(worker, worker.frontier.begin([begin]))
        if begun is Beginning.BEGUN:
            held = Lease(lease.id, lease.payload, is_seed=True, task=seed["task"])
            self.held[worker.number].append(held)
        elif begun is Beginning.CANCELLED:
            end = Settlement(lease.id, end=End.EMPTY, counts=False)
            self.commit(worker, [], [end])
        else:
            self.reject(worker, lease)

    def leases(self, at: int, want: int) -> None:
        worker = self.workers[at]
        for lease in self.run(worker.lease(want)):
            if lease.is_seed and not lease.task:  # it was given back before it began
                self.begin(worker, lease)
            else:
                self.held[worker.number].append(lease)

    @rule(at=WORKERS, pages=st.lists(PAGES, min_size=1, max_size=5))
    def works(self, at: int, pages: list[Any]) -> None:
        self.leases(at, len(pages))
        for page in pages:
            self.a_page_ends(at, *page)

    def a_page_ends(
        self,
        at: int,
        end: End,
        filtered: list[str],
        parts: int,
        items: int,
        chain: list[bool],
    ) -> None:
        worker = self.workers[at]
        held = self.held[worker.number]
        if not held:
            return
        lease = held[0] if end is End.OPEN else held.pop(0)
        is_bare = end is End.EMPTY
        page = Settlement(
            lease.id,
            [NewRequest(b"part", 0)] * (0 if is_bare else parts),
            [(KEYS.items, b"item")] * (0 if is_bare else items),
            end,
            "it raised" if end is End.FAILED else "",
            chain=[] if end in (End.OPEN, End.EMPTY) else [link(ok) for ok in chain],
            counts=not lease.is_seed,
            task=lease.task,
        )
        new = [NewRequest(n.encode(), 0, n, task=lease.task) for n in filtered]
        self.commit(worker, [] if is_bare else new, [page])

    def commit(self, worker: Worker, requests: Any, pages: Any) -> None:
        worker.commits += 1
        commit = Commit(worker.commits, requests, settlements=pages)
        self.last[worker.number] = commit
        self.call(worker, worker.frontier.commit(commit))

    def a_reply_was_lost(self, at: int) -> None:
        worker = self.workers[at]
        if commit := self.last.get(worker.number):
            self.call(worker, worker.frontier.commit(commit))

    def gives_back(self, at: int) -> None:
        self.leases(at, 2)
        worker = self.workers[at]
        held = self.held[worker.number]
        some, held[:] = held[:3], held[3:]
        self.call(worker, worker.frontier.release([lease.id for lease in some]))

    def sets_aside(self, at: int) -> None:
        worker = self.workers[at]
        if self.held[worker.number]:
            self.reject(worker, self.held[worker.number].pop())

    def reject(self, worker: Worker, lease: Lease) -> None:
        kind = "seed" if lease.is_seed else "request"
        reject = [Reject(lease.id, kind, "bad")]
        self.call(worker, worker.frontier.reject(reject, max_size=1000))

    @rule(at=WORKERS, then=st.lists(PAGES, max_size=3))
    def dies(self, at: int, then: list[Any]) -> None:
        """And may act all the same, for it does not know."""
        self.leases(at, 3)
        dead, other = self.workers[at], self.workers[(at + 1) % 3]
        self.run(self.client.zadd(KEYS.workers, {dead.number: 1}, xx=True))
        self.run(self.client.hdel(KEYS.state, "grace"))
        self.run(other.heartbeat())
        self.run(other.reap())
        if then:
            self.run(dead.register())
            for page in then:
                self.a_page_ends(at, *page)
        else:
            self.workers.remove(dead)
            self.join()

    @rule(at=WORKERS, what=st.sampled_from(EVENTS))
    def something_happens(self, at: int, what: str) -> None:
        of_a_worker = what in ("a_reply_was_lost", "gives_back", "sets_aside")
        getattr(self, what)(*[at] * of_a_worker)

    def letters_are_put_back(self) -> None:
        frontier = self.workers[0].frontier
        self.run(retry(frontier, decode=as_request))

    def there_is_room(self) -> None:
        self.call(self.workers[0], self.workers[0].frontier.readmit())

    @rule(id_=IDS, at=WORKERS)
    def cancels(self, id_: str, at: int) -> None:
        self.leases(at, 1)
        self.run(self.tasks.cancel([id_]))

    def saves(self) -> None:
        self.snapshot = self.run(dump(self.client))

    def comes_back(self) -> None:
        """Redis has lost what came since; all who hold something give it up."""
        if self.snapshot is not None:
            self.run(restore(self.client, self.snapshot))
            self.join()
            del self.workers[:-1]
            self.all_die()
            self.join()
            self.join()

    def all_die(self) -> None:
        [one] = self.workers
        for number in self.run(self.client.zrange(KEYS.workers, 0, -1)):
            if number.decode() != one.number:
                self.run(self.client.zadd(KEYS.workers, {number: 1}))
        while self.run(self.client.zcard(KEYS.workers)) > 1:
            self.run(self.client.hdel(KEYS.state, "grace"))
            self.run(one.heartbeat())
            self.run(one.reap())

    # What must hold

    @invariant()
    def records_tell_what_there_is(self) -> None:
        if self.workers:
            self.run(self.compare())

    async def compare(self) -> None:
        client, counts = self.client, Counter()
        seeds = await client.lrange(SEED_KEYS[0], 0, -1)
        unbegun = Counter(json.loads(seed)["task"] for seed in seeds)
        for place, key in ((REQUESTS, KEYS.requests), (SUSPECTS, KEYS.suspects)):
            for member, score in await client.zrange(key, 0, -1, withscores=True):
                counts[parse(place, member, score=score).task] += 1
        for id_, entry in (await client.hgetall(KEYS.leased)).items():
            counts[parse(LEASED, id_, entry).task] += 1
        letters = Counter(
            fields.get(b"task", b"").decode()
            for _, fields in await client.xrange(KEYS.failed)
        )
        results = Counter(
            name.decode().split()[0] for name in await client.hkeys(KEYS.results)
        )
        living, states, known = set(), Counter(), await client.hgetall(KEYS.tasks)
        for field, record in known.items():
            if not field.startswith(b"t:"):
                continue
            token = field[2:].decode()
            task = parse_task(token, record)
            assert task is not None, record
            state, there = task.state.value, counts[token]
            states[task.batch, state] += 1
            if not task.state.is_end:
                living.add(token)
            assert bool(task.ended_ms) == task.state.is_end
            if state == "queued":
                assert (task.open, there) == (1, 0), task
            elif state == "cancelled":
                assert task.open == there + unbegun[token], task
            else:
                assert task.open == there, task
                assert bool(there) == (state == "running"), task
                assert task.failed == letters[token], task
                assert state == "running" or (state == "failed") == bool(task.failed)
            assert task.items == results[token]
        index = await client.zrangebyscore(KEYS.tasks_ended, "+inf", "+inf")
        assert {token.decode() for token in index} == living
        for name in ("", "x", "y"):
            found = await self.tasks.batch(name)
            names = ("queued", "running", "done", "failed", "cancelled")
            of = [batch for batch in ("", "x", "y") if name in ("", batch)]
            sums = [sum(states[batch, state] for batch in of) for state in names]
            assert found == Batch(name, *sums)

    def teardown(self) -> None:
        try:
            if self.workers:
                self.the_rest_is_done()
        finally:
            self.run(close_client(self.client))
            self.loop.close()

    def the_rest_is_done(self) -> None:
        """An honest worker finds an end for each task."""
        self.failed_limit = 1000
        honest = self.join()
        del self.workers[:-1]
        self.all_die()
        for _ in range(100):
            self.begins(0, 50)
            self.leases(0, 50)
            while self.held[honest.number]:
                self.a_page_ends(0, End.ACK, [], 0, 0, [])
            self.there_is_room()
            if self.call(honest, honest.frontier.drained()).is_drained:
                break
        assert self.call(honest, honest.frontier.drained()).is_drained
        assert self.call(honest, honest.frontier.heal_tasks()) == 0
        self.run(self.compare())
        assert not self.run(self.client.zrangebyscore(KEYS.tasks_ended, "+inf", "+inf"))


def as_request(payload: bytes) -> Request:
    return Request("http://a/")


def link(is_well: bool) -> ChainLink:
    if is_well:
        return ChainLink("")
    return ChainLink("", "it failed", b"hop")


def test_records_tell_what_there_is_of_tasks(redis_server):
    class Machine(TasksMachine):
        url = redis_server.url

    run_state_machine_as_test(Machine, settings=settings(PLAYS, max_examples=40))
