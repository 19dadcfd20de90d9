"""Scripts of a polite crawl that are cut by a torn file, or that run in a full Redis."""

from __future__ import annotations

import pytest
import redis.asyncio

from scrapy_dist.core.frontier import Commit, NewRequest, Settlement
from scrapy_dist.core.politeness import Manners, Renewal, Rules, Yield
from scrapy_dist.redis_client.client import close_client
from tests.support.aof import writes
from tests.support.frontiers import KEYS, Worker, dump, names, restore

#: Of slots without rules of their own.
RULES = Rules(1.0, 8)
TASK = "a" * 16


def manners(*renewals: Renewal) -> Manners:
    return Manners(RULES, portion=1, renewals=renewals)


class PoliteWorld:
    """A slot in each state; requests are named after their slots.

    1 is free, without a delay. *me* has 2; 3 without a delay, whose next seats are free; 4, which has nothing
    more; and 6, which had no delay before, so that a seat of that time is free. 5 is a dead
    worker's, and *other* waits to visit it. 7 has a suspect. 8 is of a task. 9 is empty and
    rests. Somebody who wanted to visit 10 did not come back.
    """

    def __init__(self, server):
        self.server = server
        self.client = redis.asyncio.Redis.from_url(server.url, protocol=2)

    async def build(self):
        client = self.client
        self.me = await Worker(client).join()
        doomed, self.other, self.dead = [await Worker(client).join() for _ in "odd"]
        await self.add("7a")
        await self.take(doomed)
        await doomed.dies(self.me)
        await self.add("5a", "5b")
        await self.take(self.dead)
        await self.visit(self.other, 5)
        await self.me.frontier.set_rules({3: Rules(0.0, 3), 6: Rules(0.0, 3)})
        await self.add("6a", "6b", "6c", "6d")
        assert await self.take(self.me) == ["6"]
        await self.me.frontier.set_rules({6: RULES})
        for slot in ("9a", "4a", "2a 2b 2c", "3a 3b 3c"):
            await self.add(*slot.split())
            assert await self.take(self.me) == [slot[0]]
        await self.give_back(self.me, Yield("9", 5.0))
        await self.visit(self.me, 10)
        await self.visit(self.other, 10)
        await client.hincrby(KEYS.state, "slots:shift", 2500)
        await client.zadd(KEYS.slots, {"6.1": 5})
        await self.me.frontier.set_rules({1: Rules(0.0, 2)})
        await self.add("1a", "1b")
        await self.me.commit([NewRequest(b"8a", 0, slot=8, task=TASK)])
        record = "r 1 0 0 0 0 0 0\nt\n\nhost:1\n"
        await client.hset(KEYS.tasks, mapping={f"t:{TASK}": record, "i:t": TASK})
        await client.zadd(KEYS.tasks_ended, {TASK: "+inf"})
        await client.zadd(KEYS.workers, {self.dead.number: 1})
        for id_, entry in (await client.hgetall(KEYS.leased)).items():
            if entry.endswith(b"4a"):
                self.lease_of_4 = id_.decode()
        self.started = await dump(client)
        return self

    async def add(self, *found):
        new = [NewRequest(name.encode(), 0, slot=int(name[:-1])) for name in found]
        await self.me.commit(new)

    async def take(self, worker, want=100, suspects=0):
        """The seats that *worker* gets."""
        call = worker.frontier.lease_politely(want, manners(), suspects=suspects)
        return [grant.name for grant in (await worker.call(call))[1].grants]

    async def visit(self, worker, slot):
        return await worker.call(worker.frontier.visit(slot, manners()))

    async def give_back(self, worker, *seats):
        assert await worker.call(worker.frontier.give_seats_back(seats)) == len(seats)

    # One script

    async def prepare(self, state):
        await restore(self.client, self.started)
        if state == "lease, cancelled":
            await self.me.frontier.run("cancel", ids=["t"])
            await self.client.zadd(KEYS.slots, {"8": 0})  # its turn comes first
        elif state == "lease, no slots":
            await self.client.delete(KEYS.slots)
        elif state == "visit, rested":
            await self.client.hincrby(KEYS.state, "slots:shift", 5000)
        self.before = await dump(self.client)

    def call(self, state):
        me = self.me.frontier
        mine = [Renewal(name, 1, 1) for name in ("2", "3", "4", "6", "5")]
        back = [Yield("2", 0.5), Yield("3"), Yield("4", 0.5), Yield("5")]
        id_ = self.lease_of_4
        return {
            "lease": lambda: me.lease_politely(20, manners(), suspects=8),
            "lease, renewals": lambda: me.lease_politely(9, manners(*mine), suspects=0),
            "lease, cancelled": lambda: me.lease_politely(20, manners(), suspects=8),
            "lease, no slots": lambda: me.lease_politely(20, manners(), suspects=0),
            "yield": lambda: me.give_seats_back(back),
            "yield, rules": lambda: me.give_seats_back(
                [Yield("2", 0.5, Rules(2.0, 4))]
            ),
            "visit": lambda: me.visit(1, manners()),
            "visit, rests": lambda: me.visit(9, manners()),
            "visit, rested": lambda: me.visit(9, manners()),
            "visit, taken": lambda: self.other.frontier.visit(6, manners()),
            "visit, again": lambda: me.visit(6, manners()),
            "held_seats": me.held_seats,
            "reap": me.reap,
            "leave": lambda: me.leave(finished=False),
            "release": lambda: me.release([id_]),
            "commit": lambda: me.commit(self.commit(id_)),
        }[state]()

    def commit(self, id_):
        new = [NewRequest(b"9b", 0, slot=9), NewRequest(b"11a", 0, slot=11)]
        return Commit(self.me.commits + 1, new, settlements=[Settlement(id_)])

    async def run(self, state):
        """Run it on the frontier as it was; its writes, one by one."""
        await restore(self.client, self.before)
        size = self.server.aof().stat().st_size
        await self.me.call(self.call(state))
        with self.server.aof().open("rb") as file:
            file.seek(size)
            return writes(file.read())

    async def replay(self, commands):
        await restore(self.client, self.before)
        for command in commands:
            await self.client.execute_command(*command)

    # What must be right

    async def slots(self):
        """Who has a slot, or when it may be asked, of each; and what rules they have."""
        client = self.client
        rests = dict(await client.zrange(KEYS.resting, 0, -1, withscores=True))
        known = dict(await client.zrange(KEYS.slots, 0, -1, withscores=True))
        rules = await client.hgetall(KEYS.politeness)
        return [
            known.get(b"%d" % n, rests.get(b"%d" % n, 0.0)) for n in range(1, 12)
        ] + [rules.get(b"%d" % n) for n in range(1, 12)]

    async def all_that_is_left(self):
        """What an honest worker finds after all others have died."""
        client = self.client
        for worker in await client.zrange(KEYS.workers, 0, -1):
            await client.zadd(KEYS.workers, {worker: 1})
        honest, found = await Worker(client).join(), set()
        await client.hdel(KEYS.state, "grace")
        while await client.zcard(KEYS.workers) > 1:
            await honest.heartbeat()
            await honest.reap()
        for _ in range(30):
            await client.hincrby(KEYS.state, "slots:shift", 9000)
            call = honest.frontier.lease_politely(100, manners(), suspects=8)
            reply, granted = await honest.call(call)
            found |= {*names(reply.leases)}
            await honest.ack(*reply.leases)
            seats = [Yield(grant.name) for grant in granted.grants]
            if seats:
                await honest.call(honest.frontier.give_seats_back(seats))
            left = reply.left
            if left.pending + left.suspects == 0:
                break
        return found


#: And how many writes they have at the least.
STATES = {
    "lease": 9,
    "lease, renewals": 7,
    "lease, cancelled": 10,
    "lease, no slots": 2,
    "yield": 6,
    "yield, rules": 5,
    "visit": 2,
    "visit, rests": 3,
    "visit, rested": 3,
    "visit, taken": 3,
    "visit, again": 1,
    "held_seats": 1,
    "reap": 8,
    "leave": 4,
    "release": 4,
    "commit": 7,
}


@pytest.fixture
async def world(make_redis):
    server = make_redis(appendonly="yes", appendfsync="no")
    world = PoliteWorld(server)
    yield await world.build()
    await close_client(world.client)


#: Of the world's requests those that must be found again.
ALL = {
    *("1a", "1b", "2a", "2b", "2c", "3a", "3b", "3c", "4a", "5a", "5b"),
    *("6a", "6b", "6c", "6d", "7a", "8a", "9a"),
}
#: What may be gone when the script has run.
GONE = {"lease, cancelled": {"8a"}, "commit": {"4a"}}


async def test_polite_script_that_is_cut_after_any_of_its_writes_is_as_polite(world):
    """Each slot is as it was before, or as it is then, and no request is lost."""
    for state, least in STATES.items():
        await world.prepare(state)
        before = await world.slots()
        written = await world.run(state)
        assert len(written) >= least, (state, written)
        after = await world.slots()
        for cut in range(len(written) + 1):
            where = state, written[:cut]
            await world.replay(written[:cut])
            now = await world.slots()
            each = zip(now, before, after, strict=True)
            assert all(a in (b, c) for a, b, c in each), where
            found = await world.all_that_is_left()
            assert ALL - found <= GONE.get(state, set()), where
            # Redis plays the half again, and then what came behind it.
            await world.replay([*written[:cut], *written])
            assert await world.slots() == after, where
            found = await world.all_that_is_left()
            assert ALL - found <= GONE.get(state, set()), where


async def test_polite_scripts_need_no_memory(world):
    """What Redis refuses when it is full is in no slot: new requests."""
    for state in STATES.keys() - {"commit"}:
        await world.prepare(state)
        there = [(name, key) for name, key, *_ in await world.run(state)]
        await restore(world.client, world.before)
        await world.client.config_set("maxmemory", "1")
        size = world.server.aof().stat().st_size
        await world.me.call(world.call(state))
        await world.client.config_set("maxmemory", "0")
        with world.server.aof().open("rb") as file:
            file.seek(size)
            full = [(name, key) for name, key, *_ in writes(file.read())]
        assert [w for w in full if w[0] != b"CONFIG"] == there, state
