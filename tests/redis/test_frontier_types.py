"""Keys of a wrong type: a script that meets one fails before it writes anything."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from scrapy_dist.brokers.redis.keys import SETTINGS
from scrapy_dist.brokers.redis.types import check_types
from scrapy_dist.core.frontier import Claim, Commit, End, NewRequest, Reject, Settlement
from scrapy_dist.core.politeness import Manners, Rules, Yield
from scrapy_dist.core.tasks import Begin
from scrapy_dist.exceptions import ConfigurationError
from tests.support.frontiers import (
    KEYS,
    ON_REDIS_ONLY,
    SEED_KEYS,
    Worker,
    contents,
    names,
    suspect,
)

TASK = "0" * 16


async def build(client):
    """A frontier with something in every key; its workers *me* and *dead*."""
    dead = await Worker(client).join("host:2")
    await dead.push("suspect", "failed")
    await dead.lease()
    me = await Worker(client).join("host:1")
    await dead.dies(me)
    failed = (await me.lease(1))[0]
    await me.call(me.frontier.reject([Reject(failed.id, "request", "x")], max_size=99))
    await me.commit([NewRequest(b"a", 0, "fp-a", 1), NewRequest(b"b", 0, "fp-b")])
    await me.commit([NewRequest(b"c", 0, task=TASK), NewRequest(b"d", 0)])
    await me.commit(items=[("s:items", b"item")])
    await me.call(me.frontier.count([("inc", "n", "1")]))
    assert names(await me.lease(1, suspect=False)) == ["a"]
    await dead.register("host:2")
    assert names(await dead.lease(1, suspect=False)) == ["b"]
    await me.call(me.frontier.stop([dead.number]))
    await me.call(me.frontier.meet("m", "1 1"))
    await client.zadd(KEYS.workers, {dead.number: 1})
    await client.hdel(KEYS.state, "grace")
    await client.rpush(SEED_KEYS[0], "seed")
    await client.sadd(SEED_KEYS[1], "seed")
    await client.xadd(KEYS.history, {"crawl": "1-1"})
    await client.zadd(KEYS.suspects, {suspect(b"waits for room", 9): "+inf"})
    await client.zadd(KEYS.resting, {"7": 1})
    await client.hset(KEYS.politeness, "0", "0 8")
    await client.hset(KEYS.tasks, f"t:{TASK}", "r 2 0 0 1 1 1 0\nid\n\n\n")
    await client.hset(KEYS.results, f"{TASK} 1", "item")
    await client.zadd(KEYS.tasks_ended, {TASK: "+inf", "1" * 16: 5})
    assert set(await contents(client)) == {*vars(KEYS).values(), *SEED_KEYS}
    return me


async def calls(me):
    """Every script, asked for something that it would do."""
    frontier = me.frontier
    [held] = await frontier.leases_held()
    part = [NewRequest(b"c", 0)], [("s:items", b"i")], End.FAILED, "why"
    page = Settlement(held, *part, task=TASK)
    new = [NewRequest(b"d", 0, "fp-d"), NewRequest(b"e", 0, "fp-e", 1)]
    items = [("s:items", b"i")]
    manners = Manners(Rules())
    return {
        "begin": frontier.begin([Begin(held, "id", TASK)]),
        "heal_tasks": frontier.heal_tasks(),
        "heartbeat": frontier.heartbeat(),
        "claim": frontier.claim([Claim("fp-f", [held]), Claim("fp-g", [], 1)]),
        "commit": frontier.commit(Commit(me.commits + 1, new, items, [page])),
        "count": frontier.count([("inc", "n", "1"), ("set", "m", "1")]),
        "drained": frontier.drained(),
        "gone": frontier.gone("m", [(me.number, "1 1")]),
        "lease": frontier.lease(5, suspects=8),
        "lease_polite": frontier.lease_politely(5, manners, suspects=8),
        "leave": frontier.leave(finished=True),
        "meet": frontier.meet("m", "1 2"),
        "pause": frontier.pause(True),
        "prune_tasks": frontier.prune_tasks(),
        "push": frontier.push(items),
        "readmit": frontier.readmit(),
        "reap": frontier.reap(),
        "register": frontier.register("host:1", commit=7, flush=True),
        "reject": frontier.reject([Reject(held, "request", "why")], max_size=9),
        "release": frontier.release([held]),
        "seeds": frontier.take_seeds(5),
        "stop": frontier.stop([me.number]),
        "visit": frontier.visit(7, manners),
        "yield": frontier.give_seats_back([Yield("9", 1.0, Rules(1.0, 1))]),
    }


#: Scripts and their keys, by index.
USES = [
    ("begin", 5),
    ("heal_tasks", 9),
    ("heartbeat", 4),
    ("commit", 15),
    ("count", 1),
    ("drained", 8),
    ("gone", 2),
    ("lease", 10),
    ("lease_polite", 12),
    ("leave", 18),
    ("meet", 2),
    ("pause", 3),
    ("prune_tasks", 4),
    ("push", 1),
    ("readmit", 5),
    ("reap", 11),
    ("register", 18),
    ("reject", 7),
    ("release", 9),
    ("seeds", 7),
    ("stop", 2),
    ("visit", 5),
    ("yield", 5),
]
#: Scripts that have nothing to change there.
IDLE = {"drained", "heal_tasks"}
MATRIX = [(script, at) for script, keys in USES for at in range(keys)]


async def fails_before_it_writes(client, script, at):
    me = await build(client)
    call = (await calls(me))[script]
    key = call.keys[at]
    await client.delete(key)
    await client.set(key, "something else")
    before = await contents(client)
    with pytest.raises(ResponseError, match=r"WRONGTYPE|wrong kind") as caught:
        await me.call(call)
    assert await contents(client) == before
    return str(caught.value)


@pytest.mark.parametrize(("script", "at"), MATRIX)
async def test_script_fails_before_it_writes(client, script, at):
    await fails_before_it_writes(client, script, at)


@ON_REDIS_ONLY
@pytest.mark.parametrize("at", range(4))
async def test_claim_fails_before_it_writes(client, at):
    await fails_before_it_writes(client, "claim", at)


@pytest.mark.parametrize("script", sorted(dict(USES)))
async def test_each_call_of_this_module_writes_where_it_can(client, script):
    """Else the tests above would say nothing."""
    me = await build(client)
    await client.zadd(KEYS.slots, {"9": (1 << 52) + int(me.number)})
    before = await contents(client)
    await me.call((await calls(me))[script])
    assert (await contents(client) == before) == (script in IDLE)


async def test_seed_key_of_a_wrong_type_is_named(client):
    error = await fails_before_it_writes(client, "seeds", 6)
    assert SEED_KEYS[1] in error
    assert "a list, a set or a sorted set" in error


async def test_wrong_seed_key_holds_no_seeds(client):
    me = await build(client)
    await client.delete(*SEED_KEYS)
    await client.set(SEED_KEYS[0], "x")
    assert (await me.call(me.frontier.drained())).seeds == 0


async def test_other_calls_of_an_exchange_go_on(client):
    me = await build(client)
    await client.delete(SEED_KEYS[1])
    await client.set(SEED_KEYS[1], "x")
    seeds, beat = me.frontier.take_seeds(5), me.frontier.heartbeat()
    await me.frontier.exchange([seeds, beat])
    assert beat.reply().known
    with pytest.raises(ResponseError):
        seeds.reply()


# check_types


async def test_right_types_are_accepted(client):
    me = await build(client)
    await check_types(me.frontier)
    await client.flushdb()
    await check_types(me.frontier)


@pytest.mark.parametrize(("field", "setting", "kind"), SETTINGS)
async def test_key_of_a_wrong_type_is_named_with_its_setting(
    client, field, setting, kind
):
    key = getattr(KEYS, field)
    await client.set(key, "x")
    with pytest.raises(ConfigurationError) as caught:
        await check_types(Worker(client).frontier)
    assert repr(key) in str(caught.value)
    assert setting in str(caught.value)
    assert f"needs a {kind}" in str(caught.value)


@pytest.mark.parametrize("key", SEED_KEYS)
async def test_wrong_seed_key_is_named_with_its_settings(client, key):
    await client.set(key, "x")
    with pytest.raises(ConfigurationError, match="redis_key or REDIS_START_URLS_KEY"):
        await check_types(Worker(client).frontier)
