"""What only a real Redis can do to the frontier: be full, and lose half of a script."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import redis.asyncio
from redis.exceptions import OutOfMemoryError, ResponseError
from scrapy import Spider

from scrapy_dist.brokers.redis.buckets import Shape
from scrapy_dist.brokers.redis.layout import (
    LEASED,
    RANK,
    REQUESTS,
    SUSPECTS,
    encode_score,
    scan,
    with_task,
)
from scrapy_dist.brokers.redis.orphans import Orphans
from scrapy_dist.brokers.redis.tasks import parse_task
from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.brokers.redis.tools.items import ItemReader
from scrapy_dist.core.frontier import (
    Claim,
    Commit,
    CommitReply,
    End,
    JoinOutcome,
    NewRequest,
    Outcome,
    Reject,
    Settlement,
)
from scrapy_dist.core.tasks import Begin
from scrapy_dist.redis_client.client import close_client
from tests.support.aof import writes
from tests.support.frontiers import (
    KEYS,
    SEED_KEYS,
    Worker,
    contents,
    dead_letters,
    dump,
    member,
    names,
    places,
    restore,
    suspect,
)


def client_of(server):
    return redis.asyncio.Redis.from_url(server.url, protocol=2)


# Redis full


@pytest.fixture
async def client(redis_server):
    client = client_of(redis_server)
    yield client
    await client.config_set("maxmemory", "0")
    await close_client(client)


async def fill(client):
    await client.config_set("maxmemory", "1")


class FullWorld:
    """A frontier with something everywhere, in a Redis that has no memory left."""

    def __init__(self, client):
        self.client = client
        self.me = Worker(client)

    async def build(self):
        doomed = await Worker(self.client).join()
        await doomed.push("s1", "s2")
        await doomed.lease()
        await self.me.join()
        await doomed.dies(self.me)
        await self.me.push("a", "b", "c")
        await self.me.commit([NewRequest(b"seen", 5, "fp-seen")])
        self.leases = await self.me.lease(3, suspect=False)
        self.doomed = await Worker(self.client).join()
        await self.client.rpush(SEED_KEYS[0], "seed")
        await fill(self.client)
        with pytest.raises(OutOfMemoryError):
            await self.client.set("x", "x")
        return self


@pytest.fixture
async def full(client):
    return await FullWorld(client).build()


async def test_leases_and_suspects_are_handed_out(full):
    assert names(await full.doomed.lease()) == ["s1", "s2", "seen"]
    assert (await places(full.client))["pending"] == []


async def test_acks_and_dead_letters_are_taken(full):
    a, b, c = full.leases
    reply = await full.me.commit(
        pages=[
            Settlement(a.id),
            Settlement(b.id, end=End.FAILED, reason="why"),
            Settlement(c.id, end=End.EMPTY),
        ]
    )
    assert reply == CommitReply(Outcome.STORED, 0, [])
    assert (await places(full.client))["leased"] == []
    assert [letter["payload"] for letter in await dead_letters(full.client)] == [b"b"]
    assert (await full.me.heartbeat()).commit == full.me.commits


async def test_duplicates_need_no_memory(full):
    page = full.leases[0]
    reply = await full.me.commit(
        [NewRequest(b"seen", 5, "fp-seen")], [Settlement(page.id)]
    )
    assert reply == CommitReply(Outcome.STORED, 0, [0])
    assert (await places(full.client))["leased"] == ["b", "c"]


async def test_leases_are_given_back_and_set_aside(full):
    a, b, _ = full.leases
    assert await full.me.release(a) == 1
    reject = full.me.frontier.reject([Reject(b.id, "request", "x")], max_size=9)
    assert await full.me.call(reject) == 1
    assert len(await dead_letters(full.client)) == 1
    assert (await places(full.client))["leased"] == ["c"]


async def test_dead_workers_are_reaped(full):
    lease = await full.doomed.lease_one(suspect=False)
    await full.client.config_set("maxmemory", "0")
    await full.client.zadd(KEYS.workers, {full.doomed.number: 1})
    await fill(full.client)
    assert (await full.me.heartbeat()).silent == 1
    assert await full.me.reap() == [1, 0, 1]
    assert lease.payload.decode() in (await places(full.client))["suspects"]


async def test_seeds_are_leased(full):
    [lease] = await full.doomed.seeds()  # its fair share
    assert lease.payload == b"seed"
    assert await full.client.exists(SEED_KEYS[0]) == 0


async def test_pages_follow_their_redirects(full):
    claim = full.me.frontier.claim(
        [Claim("fp-new", [full.leases[0].id]), Claim("fp-seen", [])]
    )
    assert await full.me.call(claim) == [True, False]
    assert await full.client.sismember(KEYS.dupefilter, "fp-new")


async def test_workers_join_count_and_leave(full):
    newcomer = await Worker(full.client).join()
    assert (await newcomer.heartbeat()).known
    count = newcomer.frontier.count([("inc", "n", "1"), ("set", "m", "x" * 99)])
    assert await newcomer.call(count) == 2
    assert not await newcomer.leave()
    assert not (await newcomer.heartbeat()).known
    await full.me.ack(*full.leases)
    for worker in (full.me, full.doomed):
        while leases := [*await worker.lease(), *await worker.seeds()]:
            await worker.ack(*leases)
    await full.doomed.leave(finished=True)
    assert await full.me.leave(finished=True)
    assert set(await contents(full.client)) == {KEYS.history}


async def test_flush_deletes_an_earlier_crawl(full):
    await full.client.delete(KEYS.workers)
    assert (
        await Worker(full.client).register(flush=True)
    ).outcome is JoinOutcome.FLUSHED


NEW = {
    "a new request": {"requests": [NewRequest(b"new", 0, "fp-new")]},
    "a start request": {"requests": [NewRequest(b"new", 0, "fp-new", 1)]},
    "an item": {"items": [("s:items", b"i")]},
}


@pytest.mark.parametrize("what", [*NEW, "a request of a page", "an item of a page"])
async def test_of_a_commit_that_needs_memory_only_empty_ends_are_taken(full, what):
    """And it may be sent again, without them, under its number."""
    a, b, c = full.leases
    children = [NewRequest(b"child", 0)] if what == "a request of a page" else []
    items = [("s:items", b"i")] if what == "an item of a page" else []
    pages = [
        Settlement(a.id, children, items),
        Settlement(b.id, end=End.FAILED, reason="why"),
    ]
    pages.append(Settlement(full.leases[0].id, end=End.OPEN))
    new = NEW.get(what, {})
    before = await contents(full.client)
    reply = await full.me.commit(**new, pages=[*pages, Settlement(c.id, end=End.EMPTY)])
    assert reply == CommitReply(Outcome.FULL, 0, [])
    after = await contents(full.client)
    assert (await places(full.client))["leased"] == ["a", "b"]
    assert after[KEYS.state].pop(b"pages") == b"1"
    for key in {*before, *after} - {KEYS.leases, KEYS.leased}:
        assert after.get(key) == before.get(key)
    # What comes behind it waits too.
    assert (await full.me.commit(pages=[Settlement(b.id)])).outcome is Outcome.GAP

    number = full.me.commits - 1
    assert (
        await full.me.commit(**new, pages=pages, number=number)
    ).outcome is Outcome.FULL
    await full.client.config_set("maxmemory", "0")
    reply = await full.me.commit(**new, pages=pages, number=number)
    assert reply == CommitReply(Outcome.STORED, 0, [])
    assert (await places(full.client))["leased"] == []


@pytest.mark.keeps("i:?", reason="pushes to two lists at once")
async def test_pushed_items_are_refused_whole(full):
    before = await contents(full.client)
    push = full.me.frontier.push([("i:1", b"a"), ("i:2", b"b")])
    with pytest.raises(ResponseError, match="maxmemory"):
        await full.me.call(push)
    assert await contents(full.client) == before
    await full.client.config_set("maxmemory", "0")
    assert await full.me.call(push) == 2


async def test_one_exchange_gets_out_of_the_way_what_it_can(full):
    a, b, _ = full.leases
    frontier = full.me.frontier
    full.me.commits += 1
    commit = frontier.commit(
        commit_of(full.me.commits, [Settlement(a.id, items=[("s:items", b"i")])])
    )
    release, beat = frontier.release([b.id]), frontier.heartbeat()
    lease = frontier.lease(9, suspects=8)
    await frontier.exchange([commit, release, beat, lease])
    assert commit.reply().outcome is Outcome.FULL
    assert release.reply() == 1
    assert (beat.reply().commit, beat.reply().held) == (full.me.commits - 1, 2)
    assert names(lease.reply().leases)[0] == "s1"


# Half a script, as a torn append-only file leaves it


def payload(name, task=""):
    fields = {"url": name, "task": task}
    return json.dumps({k: v for k, v in fields.items() if v}).encode()


def url(lease):
    return json.loads(lease.payload)["url"]


class TornWorld:
    """A frontier with something everywhere, on a Redis that notes every write.

    *m1* is leased by *me* and leads to *c1* (filtered), *c2* (not filtered) and an item.
    *l1* and *l2* are dead letters; *w1*, and *w2*, which has failed, wait for room among
    them; *o1* and *o2* are still with scrapy-redis, and *f1* in a file. *m1*, *m2*, *d1*,
    *w1*, *w2*, *p1* and *l1* are of the task T, and the seed *x1* is the task X.
    """

    EVERYWHERE = (
        *("p1", "p2", "p3", "p4", "p5", "p6", "s1", "m2", "d1", "d2", "x1"),
        *("l1", "l2", "w1", "w2", "o1", "o2"),
    )
    OLD, OLD_LIST = "s:old", "s:old_list"
    T, X, GONE = "a" * 16, "b" * 16, "c" * 16

    def __init__(self, server):
        self.server = server
        self.client = client_of(server)

    async def build(self):
        client = self.client
        first = await Worker(client).join()
        await first.push(payload("s1"), score=-9)
        await first.lease_one()
        self.dead = await Worker(client).join()
        await first.dies(self.dead)
        await self.push(self.dead, "d1", score=-8)
        await self.dead.push(payload("d2"), score=-8)
        self.d_ids = [x.id for x in await self.dead.lease(2, suspect=False)]
        self.me = await Worker(client).join()
        await self.push(self.me, "m1", "m2", score=-7)
        self.m1, self.m2 = await self.me.lease(2, suspect=False)
        whole = with_task(self.T, payload("m2"))
        self.copy_of_m2 = member(whole, int(self.m2.id, 16), -7)
        await self.push(self.me, "p1")
        await self.me.push(*(payload(f"p{n}") for n in range(2, 7)))
        await client.rpush(SEED_KEYS[0], payload("x1", self.X), payload("x2"))
        await client.sadd(SEED_KEYS[1], payload("x3"))
        await client.zadd(KEYS.workers, {self.dead.number: 1})
        self.letters = [
            await client.xadd(
                KEYS.failed,
                {"payload": payload("l1"), "kind": "request", "task": self.T},
            ),
            await client.xadd(
                KEYS.failed,
                {"payload": payload("l2"), "kind": "request", "claims": "-" + "a" * 16},
            ),
        ]
        waits = suspect(with_task(self.T, payload("w1")), 9, deaths=1)
        failed = suspect(with_task(self.T, payload("w2")), 10, deaths=3)
        await client.zadd(KEYS.suspects, {waits: "+inf", failed: "+inf"})
        #: What only the script at hand knows of.
        self.more, self.dropped = set(), set()
        await client.zadd(self.OLD, {payload("o1"): 0})
        await client.rpush(self.OLD_LIST, payload("o2"))
        for token, record in (
            (self.T, "r 6 0 1 0 1 1 0\nt\nb\nhost:1\nwhy"),
            (self.X, "q 1 0 0 0 1 0 0\nx\nb\n\n"),
            (self.GONE, "d 0 1 0 1 1 1 5\ngone\nb\nhost:1\n"),
        ):
            await client.hset(KEYS.tasks, f"t:{token}", record)
        ids = {"i:t": self.T, "i:x": self.X, "i:gone": self.GONE}
        await client.hset(KEYS.tasks, mapping={**ids, "b:b": "1 1 1 0 0"})
        ends = {self.T: "+inf", self.X: "+inf", self.GONE: 5}
        await client.zadd(KEYS.tasks_ended, ends)
        await client.hset(KEYS.results, f"{self.GONE} 1", "item")
        self.full = Worker(client, failed_limit=0).frontier
        self.full.worker = self.me.number
        self.before = await dump(client)
        return self

    async def push(self, worker, *names, score=0.0):
        """Unfiltered requests of the task T."""
        new = [NewRequest(payload(name), score, task=self.T) for name in names]
        await worker.commit(new)

    async def prepare(self, script):
        """Do the damage that *script* mends, and what it needs."""
        client = self.client
        if script == "begin":
            [self.x1] = await self.me.seeds(1)
        elif script in ("lease, cancelled", "release, cancelled", "drop_cancelled"):
            await self.me.frontier.run("cancel", ids=["t"])
        elif script == "check_tasks":
            record = await client.hget(KEYS.tasks, f"t:{self.T}")
            await client.hset(KEYS.tasks, f"t:{self.T}", record.replace(b"r 6", b"r 9"))
        if script in ("lease, cancelled", "release, cancelled", "drop_cancelled"):
            self.dropped = {"m1", "m2", "d1", "w1", "w2", "p1"}
        order, active = await client.hmget(KEYS.state, ["order", "active"])
        record = await client.hget(KEYS.tasks, f"t:{self.T}")
        counted = [self.T, 6, record]
        self.counted = {"order": order, "active": active, "counted": counted}
        if script == "check_leased":
            await client.zrem(KEYS.leases, self.m1.id)
        elif script == "check_leases":
            await client.zrem(KEYS.workers, self.dead.number)
        elif script == "check_pending":
            await client.zadd(KEYS.requests, {self.copy_of_m2: 0})
        elif script == "check_twice":
            [self.kept] = await client.zrange(KEYS.requests, 0, 0)
            self.twin = self.kept[:RANK] + payload("t1")
            self.more = {"t1"}
            await client.zadd(KEYS.requests, {self.twin: 0})
        elif script == "check_order":
            await client.hset(KEYS.state, "order", 1)
        elif script == "check_unreadable":
            [self.kept] = await client.zrange(KEYS.requests, 0, 0)
        self.before = await dump(client)

    async def run(self, script):
        """Run *script* on the frontier as it was; returns its writes, one by one."""
        await restore(self.client, self.before)
        size = self.server.aof().stat().st_size
        await self.me.call(self.call(script) if isinstance(script, str) else script)
        with self.server.aof().open("rb") as file:
            file.seek(size)
            return writes(file.read())

    def call(self, script):
        frontier = self.me.frontier
        child = [NewRequest(payload("c2"), 0)]
        part = self.m1.id, child, [(KEYS.items, b"i1")]
        page = Settlement(*part, task=self.T)
        failed = Settlement(*part, End.FAILED, "why", task=self.T)
        new = [NewRequest(payload("c1"), 0, "fp-c1", task=self.T)]
        start = [NewRequest(payload("c1"), 0, "fp-c1", 1)]
        number = self.me.commits + 1
        return {
            "lease": lambda: frontier.lease(3, suspects=8),
            "lease, cancelled": lambda: frontier.lease(3, suspects=8),
            "release, cancelled": lambda: frontier.release([self.m1.id, self.m2.id]),
            "begin": lambda: frontier.begin([Begin(self.x1.id, "x", self.X, "b")]),
            "prune_tasks": frontier.prune_tasks,
            "release": lambda: frontier.release([self.m1.id, self.m2.id]),
            "reject": lambda: frontier.reject(
                [Reject(self.m2.id, "request", "x")], max_size=99
            ),
            "seeds": lambda: frontier.take_seeds(9),
            "reap": frontier.reap,
            "claim": lambda: frontier.claim(
                [Claim("fp-kept", [self.m1.id, self.m2.id])]
            ),
            "commit": lambda: frontier.commit(commit_of(number, [page], new)),
            "commit a failure": lambda: frontier.commit(
                commit_of(number, [failed], start)
            ),
            "leave": lambda: frontier.leave(finished=True),
            "register": lambda: frontier.register("host:1", commit=self.me.commits),
            "readmit": frontier.readmit,
            "reject, full": lambda: self.full.reject(
                [Reject(self.m2.id, "request", "x")], max_size=99
            ),
            "reap, full": self.full.reap,
            "commit a failure, full": lambda: self.full.commit(
                commit_of(number, [failed], new)
            ),
        }.get(script, lambda: self.tool(script))()

    def tool(self, script):
        """A script that people run, not workers."""
        name = script.partition(",")[0]
        seen = {"seen": KEYS.dupefilter}
        place = (encode_score(0), 7)
        new = ["fp-c1", *place, payload("c1")]
        old = [payload("o1"), "fp-o1", *place, payload("o1")]
        old_2 = [payload("o2"), "fp-o2", *place, payload("o2")]
        letters = [part for id_ in self.letters for part in (id_, *place, "")]
        mend = {"mend": 1}
        values = {
            "retry": lambda: {"seeds_as": "list", "letters": letters, "seed_keys": []},
            "recrawl": lambda: {**seen, "new": new},
            "takeover": lambda: {**seen, "old": self.OLD, "found": old},
            "takeover, list": lambda: {**seen, "old": self.OLD_LIST, "found": old_2},
            "import": lambda: {
                "space": 0,
                "file": "file",
                "before": 0,
                "after": 1,
                "entries": ["requests", "request", 3, *place, payload("f1")],
            },
            "submit": lambda: {
                "seed_key": SEED_KEYS[0],
                "seeds_as": "list",
                "on_duplicate": "restart",
                "new": ["x", "d" * 16, "b", 0, payload("n1", "d" * 16)],
            },
            "cancel": lambda: {"ids": ["x"]},
            "drop_cancelled": lambda: {"at": 0, "most": 100},
            "check_tasks": lambda: {**mend, **self.counted},
            "check_leased": lambda: {**mend, "ids": [self.m1.id]},
            "check_leases": lambda: {**mend, "max_deliveries": 2, "ids": self.d_ids},
            "check_pending": lambda: {**mend, "place": 1, "members": [self.copy_of_m2]},
            "check_twice": lambda: {**mend, "twins": [1, self.kept, 1, self.twin]},
            "check_order": lambda: {
                **mend,
                "least": int(self.m1.id, 16),
                "proofs": [3, self.m1.id],
            },
            "check_unreadable": lambda: {
                **mend,
                "max_payload": 99,
                "entries": [1, self.kept, "", RANK + 1, 0, "why"],
            },
        }[script]()
        return self.me.frontier.call(name, lambda raw: raw, **values)

    async def replay(self, commands):
        await restore(self.client, self.before)
        for command in commands:
            await self.client.execute_command(*command)

    async def mend(self):
        """``scrapy frontier check --repair``, after which all is well."""
        for _ in range(2):
            report = await check(self.me.frontier, repair=True)
        assert report.ok
        assert report.findings == {}

    async def no_task_ends_too_early(self):
        client, found = self.client, set()
        for place in (LEASED, REQUESTS, SUSPECTS):
            async for entries in scan(client, KEYS, place):
                # One that is in two places is one.
                found.update((entry.task, entry.id) for entry in entries)
        there = Counter(task for task, _ in found)
        for field, record in (await client.hgetall(KEYS.tasks)).items():
            task = parse_task(field[2:].decode(), record)
            if task is not None and task.state.value != "cancelled":
                assert task.open >= there[task.token], task
                assert bool(task.open) != task.state.is_end

    async def nothing_is_lost(self):
        """An honest worker finds what was there, and what the others did not finish."""
        client = self.client
        for worker in await client.zrange(KEYS.workers, 0, -1):
            await client.zadd(KEYS.workers, {worker: 1})
        honest = await Worker(client).join()
        await client.hdel(KEYS.state, "grace")
        while await client.zcard(KEYS.workers) > 1:
            await honest.heartbeat()
            await honest.reap()
        found, follows = set(), set()
        orphans = Orphans(honest.frontier, Spider("s"))
        while not (state := await honest.call(honest.frontier.drained())).is_drained:
            orphans.told(state)
            while orphans.is_searching:
                await orphans.step()
            taken_up, _ = await honest.call(honest.frontier.readmit())
            leases = [*await honest.lease(), *await honest.seeds()]
            assert leases or taken_up or state.orphans
            for lease in leases:
                if url(lease) == "m1":
                    claim = honest.frontier.claim([Claim("fp-kept", [lease.id])])
                    follows |= {*await honest.call(claim)}
            await honest.ack(*leases)
            found |= {url(lease) for lease in leases}
        letters = await dead_letters(client)
        found |= {json.loads(letter["payload"])["url"] for letter in letters}
        old = await client.zrange(self.OLD, 0, -1)
        old += await client.lrange(self.OLD_LIST, 0, -1)
        found |= {json.loads(data)["url"] for data in old}
        there = {*self.EVERYWHERE, *self.more, "x2", "x3"}
        assert there - self.dropped <= found
        if await client.sismember(KEYS.dupefilter, "fp-c1"):
            assert "c1" in found
        assert follows in ({True}, {True, False}, set()), "its redirect is lost"
        done = {"c1", "c2"} <= found and await client.llen(KEYS.items)
        assert "m1" in found or done or "m1" in self.dropped
        assert found <= {
            *self.EVERYWHERE,
            *self.more,
            "x2",
            "x3",
            "m1",
            "c1",
            "c2",
            "f1",
            "n1",
        }
        while await honest.call(honest.frontier.heal_tasks()):
            pass
        assert not await client.zrangebyscore(KEYS.tasks_ended, "+inf", "+inf")


async def client_has(torn, name):
    members = await torn.client.zrange(KEYS.requests, 0, -1)
    return payload(name) in {member[RANK:] for member in members}


def commit_of(number, pages, requests=()):
    return Commit(number, requests, settlements=pages)


@pytest.fixture
async def torn(make_redis):
    world = await TornWorld(make_redis(appendonly="yes", appendfsync="always")).build()
    yield world
    await close_client(world.client)


SCRIPTS = {
    "lease": 5,
    "lease, cancelled": 6,
    "release, cancelled": 4,
    "begin": 3,
    "submit": 3,
    "cancel": 2,
    "drop_cancelled": 3,
    "prune_tasks": 5,
    "check_tasks": 1,
    "release": 4,
    "reject": 4,
    "seeds": 8,
    "reap": 4,
    "claim": 3,
    "commit": 9,
    "commit a failure": 11,
    "leave": 2,
    "register": 2,
    "readmit": 2,
    "reject, full": 4,
    "reap, full": 4,
    "commit a failure, full": 6,
    "retry": 5,
    "recrawl": 3,
    "takeover": 4,
    "takeover, list": 4,
    "import": 3,
    "check_leased": 3,
    "check_leases": 3,
    "check_pending": 1,
    "check_twice": 3,
    "check_order": 1,
    "check_unreadable": 2,
}


@pytest.mark.parametrize("mended", [False, True])
@pytest.mark.parametrize("script", SCRIPTS)
async def test_script_that_is_cut_after_any_of_its_writes_loses_nothing(
    torn, script, mended
):
    await torn.prepare(script)
    written = await torn.run(script)
    assert len(written) >= SCRIPTS[script], written
    for cut in range(len(written) + 1):
        print("cut after", written[:cut])
        await torn.replay(written[:cut])
        if script == "import":  # said again with the same file
            await torn.me.call(torn.call(script))
            assert await client_has(torn, "f1")
        if mended or script.startswith("check_"):
            await torn.mend()
        await torn.no_task_ends_too_early()
        await torn.nothing_is_lost()


@pytest.mark.parametrize("script", SCRIPTS)
async def test_half_a_script_that_is_played_before_the_whole_one_loses_nothing(
    torn, script
):
    """A torn file keeps its MULTI: Redis plays that at the start after the next."""
    await torn.prepare(script)
    first = await torn.run(script)
    second = await torn.run(script)
    for cut in range(len(first) + 1):
        print("cut after", first[:cut])
        await torn.replay([*first[:cut], *second])
        if script.startswith("check_"):
            await torn.mend()
        await torn.nothing_is_lost()


@pytest.mark.parametrize(
    "script", ["take_items", "take and acknowledge", "return_items"]
)
async def test_items_are_in_one_of_the_lists_after_any_cut(torn, script):
    client, taken = torn.client, "s:items:taken:me"
    await client.rpush(KEYS.items, "i3", "i4", "i5")
    mark = "reader:1 5 a,7,2"
    await client.rpush(taken, mark, "i1", "i2")
    torn.before = await dump(client)
    done = 1 if script == "take and acknowledge" else 0
    names = {"taken": taken, "reader": "1"}
    if script == "return_items":
        call = torn.me.frontier.call(script, int, keep=0, most=100, **names)
        words = {}
    else:
        names |= {"mark": mark, "word": "b", "patience": "", "done": done}
        names |= {"known": 2, "want": 10, "limit": 1 << 20}
        call = torn.me.frontier.call("take_items", list, **names)
        words = {"a-9": b"i3", "a-10": b"i4", "a-11": b"i5"}
    words |= {"a-7": b"i1", "a-8": b"i2"}
    written = await torn.run(call)
    assert len(written) >= 3
    for cut in range(len(written) + 1):
        await torn.replay(written[:cut])
        left = await client.lrange(KEYS.items, 0, -1)
        left += await client.lrange(taken, 0, -1)
        kept = [item for item in sorted(left) if item.startswith(b"i")]
        all_of_them = [b"i1", b"i2", b"i3", b"i4", b"i5"]
        assert kept in (all_of_them, all_of_them[done:])
        # No name is another item's, whatever the reply had told.
        reader = ItemReader(torn.me.frontier, "me")
        reader._want = 100
        found = zip(await reader.take(), reader.names, strict=True)
        for item, name in found:
            assert words.get(name, item) == item, (cut, name)


async def test_fingerprints_are_known_after_any_cut_of_a_growth(torn):
    """In the bucket that is split, or in the one that it is split into."""
    key, client = "s:compact", torn.client
    shape = Shape(key, "7", 1, 99)
    members = [str(n) for n in range(99)]
    await client.hset(key, mapping={"epoch": 7, "buckets": 1, "count": len(members)})
    await client.sadd(shape.name(0), *members)
    torn.before = await dump(client)
    # given a bucket that is split four times
    names = [*shape.next()][:8]
    values = {"epoch": "7", "first": 1, "load": 20, "splits": 4}
    frontier = torn.me.frontier
    written = await torn.run(
        frontier.call("grow", list, dupefilter=key, buckets=names, **values)
    )
    assert len(written) > 6
    for cut in range(len(written) + 1):
        await torn.replay(written[:cut])
        buckets = int(await client.hget(key, "buckets"))
        now = Shape(key, "7", buckets, 99)
        for name in members:
            assert await client.sismember(now.place(name), name), (cut, name)


async def test_lines_of_a_file_that_are_said_again_come_in_once(torn):
    """Its reply was lost, or the same file is brought in twice at once."""
    frontier, client = torn.me.frontier, torn.client
    before = await client.zcard(KEYS.requests)

    async def bring_in(name, first, last):
        entries = ["requests", "request", 3, encode_score(0), 7, payload(name)]
        values = {"file": "file", "before": first, "after": last, "entries": entries}
        return await torn.me.call(frontier.call("import", int, space=0, **values))

    assert [await bring_in("f1", 0, 1) for _ in range(2)] == [1, 0]
    assert [await bring_in("f2", 1, "end") for _ in range(2)] == [1, 0]
    assert await bring_in("f1", 0, 1) == 0
    assert await client.zcard(KEYS.requests) == before + 2
