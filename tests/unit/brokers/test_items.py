"""Readers of items: each item at least once, whoever dies and whatever Redis forgets."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio

from scrapy_dist.admin.items import decode
from scrapy_dist.brokers.redis.tools import items as items_module
from scrapy_dist.brokers.redis.tools.items import ItemReader, taken_key
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from scrapy_dist.redis_client.client import close_client
from tests.support.frontiers import KEYS, ON_REDIS_ONLY, Worker, contents, dump, restore

TAKEN = f"{KEYS.items}:taken:a"


def reader_of(client, name="a"):
    reader = ItemReader(Worker(client).frontier, name)
    reader._want = 100
    return reader


async def put(client, *names):
    await client.rpush(KEYS.items, *names)


async def take(reader, want=100, **options):
    reader._want = want
    reader._adapt = lambda: None
    return [item.decode() for item in await reader.take(**options)]


async def taken(client, name="a"):
    """What the list of the reader *name* holds behind its mark."""
    found = await client.lrange(f"{KEYS.items}:taken:{name}", 0, -1)
    assert not found or found[0].startswith(b"reader:")
    return [item.decode() for item in found[1:]]


async def left(client):
    return [item.decode() for item in await client.lrange(KEYS.items, 0, -1)]


async def test_items_come_in_their_order_and_stay_until_they_are_acknowledged(client):
    await put(client, "1", "2", "3")
    reader = reader_of(client)
    assert await take(reader, 2) == ["1", "2"]
    assert await taken(client) == ["1", "2"]
    assert await left(client) == ["3"]
    reader.done = 1
    assert await take(reader) == ["3"]
    assert await taken(client) == ["2", "3"]
    reader.done = 2
    await reader.acknowledge()
    assert await taken(client) == []
    assert await take(reader) == []


async def test_next_reader_of_the_name_gets_what_a_dead_one_had_first(client):
    await put(client, *"123456")
    dead = reader_of(client)
    await take(dead, 4)
    dead.done = 1
    await dead.acknowledge()
    reader = reader_of(client)
    assert await take(reader, 2) == ["2", "3"]
    assert await take(reader, 2) == ["4", "5"]
    assert await take(reader, 2) == ["6"]
    assert await taken(client) == ["2", "3", "4", "5", "6"]


async def test_readers_of_other_names_share_the_items(client):
    await put(client, *"1234")
    first, second = reader_of(client, "a"), reader_of(client, "b")
    assert await take(first, 2) == ["1", "2"]
    assert await take(second, 2) == ["3", "4"]
    second.done = 2
    await second.acknowledge()
    assert await taken(client, "a") == ["1", "2"]


async def test_second_reader_of_a_name_has_the_list_and_the_first_is_told(client):
    await put(client, *"1234")
    first, second = reader_of(client), reader_of(client)
    await take(first, 2)
    assert await take(second, 1) == ["1"]
    first.done = 2
    with pytest.raises(ConfigurationError, match="consumer="):
        await first.acknowledge()
    with pytest.raises(ConfigurationError, match="'a' has taken over"):
        await take(first)
    assert await taken(client) == ["1", "2"]


async def test_equal_items_are_acknowledged_one_by_one(client):
    await put(client, "x", "x", "y", "x")
    reader = reader_of(client)
    await take(reader)
    reader.done = 2
    await reader.acknowledge()
    assert await taken(client) == ["y", "x"]


async def test_reader_that_leaves_gives_back_what_it_has_not_acknowledged(client):
    numbers = [str(n) for n in range(350)]
    await put(client, *numbers)
    reader = reader_of(client)
    for _ in range(3):
        await take(reader)
    reader.done = 120
    await reader.leave()
    assert await left(client) == numbers[120:]
    assert not await client.exists(TAKEN)
    await reader.leave()


async def test_reader_that_took_nothing_leaves_nothing(client):
    reader = reader_of(client)
    await reader.leave()
    assert await take(reader) == []
    assert await client.exists(TAKEN)
    await reader.leave()
    assert await contents(client) == {}


async def test_lost_reply_costs_no_item_and_no_later_acknowledgement(client):
    await put(client, *"123456")
    reader = reader_of(client)
    assert await take(reader, 2) == ["1", "2"]
    exchange = reader._frontier.exchange

    async def lose_reply(calls):
        await exchange(calls)
        raise RedisUnavailable("the reply is lost")

    reader._frontier.exchange = lose_reply
    reader.done = 1
    with pytest.raises(RedisUnavailable):
        await take(reader, 2)  # this acknowledged 1 and took 3 and 4
    reader._frontier.exchange = exchange
    assert await take(reader, 3) == ["2", "3", "4"]
    # 1 and the first 2 are those of which nobody knew; then come 2 and 3 again.
    reader.done += 1
    await reader.acknowledge()
    assert await taken(client) == ["2", "3", "4"]
    reader.done += 2
    await reader.acknowledge()
    assert await taken(client) == ["4"]


@ON_REDIS_ONLY
async def test_redis_from_an_older_state_brings_items_again_and_loses_none(client):
    await put(client, *"1234")
    reader = reader_of(client)
    await take(reader, 1)
    data = await dump(client)
    await take(reader, 2)
    await restore(client, data)
    reader.done = 1
    # Of 1, 2 and 3 Redis knows only 1, and it cannot know which is done.
    assert await take(reader, 2) == ["1", "2"]
    reader.done = 2
    await reader.acknowledge()
    assert await taken(client) == ["1", "2"]
    reader.done = 1
    await reader.acknowledge()
    assert await taken(client) == ["2"]


async def test_more_than_one_call_takes_is_acknowledged_in_steps(client):
    await put(client, *map(str, range(250)))
    reader = reader_of(client)
    while await take(reader):
        pass
    reader.done = 230
    await reader.acknowledge()
    assert await taken(client) == [str(n) for n in range(230, 250)]


async def test_one_call_takes_no_more_than_some_bytes(client, monkeypatch):
    monkeypatch.setattr(items_module, "_STEP_BYTES", 1000)
    await put(client, *["x" * 600] * 5)
    reader = reader_of(client)
    assert len(await take(reader)) == 2
    assert len(await taken(client)) == 2


async def test_quick_reader_takes_more_at_a_time_and_a_slow_one_less(client):
    await put(client, *map(str, range(300)))
    reader = ItemReader(Worker(client).frontier, "a")
    sizes = [len(await reader.take()) for _ in range(5)]
    assert sizes == [1, 4, 16, 64, 100]
    reader._taken_at -= 5
    assert len(await reader.take()) == 25


async def test_reader_follows_until_the_crawl_is_drained(client):
    worker = await Worker(client).join()
    await worker.push("page")
    lease = await worker.lease_one()
    reader = reader_of(client)
    following = asyncio.create_task(take(reader, follow=True))
    await asyncio.sleep(0.05)
    assert not following.done()
    await put(client, "1")
    assert await following == ["1"]
    following = asyncio.create_task(take(reader, follow=True))
    await asyncio.sleep(0.05)
    assert not following.done()
    await worker.ack(lease)
    assert await following == []


async def test_reader_follows_no_longer_than_it_is_told_to(client):
    worker = await Worker(client).join()
    await worker.push("page")
    assert await take(reader_of(client), follow=True, timeout=0.05) == []
    assert await take(reader_of(client), follow=True, timeout=0) == []


async def test_list_that_another_program_began_is_read_too(client):
    await client.rpush(TAKEN, "1", "2")
    assert await take(reader_of(client)) == ["1", "2"]


@pytest.mark.parametrize("key", [KEYS.items, TAKEN])
async def test_key_of_another_type_is_named(client, key):
    await client.set(key, "x")
    with pytest.raises(ConfigurationError, match=key):
        await take(reader_of(client))
    assert await contents(client) == {key: b"x"}


async def test_item_that_comes_again_has_the_name_that_it_had(client):
    await put(client, *"123456")
    reader = reader_of(client)
    first = dict(zip(await take(reader, 4), reader.names, strict=True))
    assert len({*first.values()}) == 4
    reader.done = 1
    await reader.acknowledge()
    # given one that dies, and one whose replies are lost
    heir = reader_of(client)
    again = dict(zip(await take(heir, 4), heir.names, strict=True))
    assert [*again] == ["2", "3", "4", "5"]
    assert {item: again[item] for item in "234"} == {i: first[i] for i in "234"}
    heir._mark, heir._known = b"", 0
    told = dict(zip(await take(heir, 9), heir.names, strict=True))
    assert [*told] == ["2", "3", "4", "5", "6"]
    assert {item: told[item] for item in "2345"} == again
    assert len({*first.values(), *told.values()}) == 6


@ON_REDIS_ONLY
async def test_no_two_items_have_one_name_though_redis_forgets(client):
    await put(client, "1", "2")
    reader = reader_of(client)
    await take(reader, 1)
    data = await dump(client)
    named = dict(zip(await take(reader), reader.names, strict=True))
    for other in "ab":  # who crawls again stores items in another order
        await restore(client, data)
        await client.lpush(KEYS.items, other)
        found = []
        while item := await take(reader, 1):
            found += zip(item, reader.names, strict=True)
            reader.done = 1
        assert [item for item, _ in found] == ["1", other, "2"]
        for item, name in found:
            assert name not in named.values() or named[item] == name
        named |= dict(found)
        await put(client, "1", "2")


async def test_reader_with_patience_stands_by_until_the_other_is_silent(client):
    await put(client, *"123")
    first = ItemReader(Worker(client).frontier, "a", 3600)
    second = ItemReader(Worker(client).frontier, "a", 3600)
    assert await take(first, 2) == ["1", "2"]
    names = first.names
    assert await take(second) == []
    assert second.stands_by
    await first.beat()
    assert first.names == names
    second._patience_ms = 0
    assert await take(second) == ["1", "2", "3"]
    assert second.names[:2] == names
    first.done = 2
    assert await take(first) == []
    assert first.stands_by
    assert first.done == 0


async def test_what_nobody_knows_of_stays_for_the_next_reader_of_the_name(client):
    await put(client, *"12345")
    first = ItemReader(Worker(client).frontier, "a", 3600)
    assert await take(first, 4) == ["1", "2", "3", "4"]
    names = first.names
    first.done = 1
    await first.leave(keep=2)
    assert await left(client) == ["4", "5"]
    second = ItemReader(Worker(client).frontier, "a", 3600)
    assert await take(second) == ["2", "3", "4", "5"]
    assert second.names[:2] == names[1:3]
    assert len({*names, *second.names}) == 6


async def test_full_redis_can_be_drained(make_redis):
    server = make_redis(maxmemory="3mb")
    with server.client() as blocking:
        for n in range(100):
            blocking.rpush(KEYS.items, f"{n}" + "x" * 5000)
        blocking.config_set("maxmemory", "1mb")
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            blocking.rpush(KEYS.items, "x")
    client = redis.asyncio.Redis.from_url(server.url, protocol=2)
    reader = reader_of(client)
    items = await take(reader)
    assert len(items) == 100
    reader.done = 100
    await reader.leave()
    assert await contents(client) == {}
    await close_client(client)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 201])
def test_consumer_has_a_name(name):
    with pytest.raises(ValueError, match="consumer = "):
        taken_key(KEYS.items, name)


@pytest.mark.parametrize(
    ("data", "item"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"{", b"{"),
        (b"[1]", b"[1]"),
        (b"5", b"5"),
        (b"", b""),
        (b"\x80\x04.", b"\x80\x04."),
        (b"{" * 100_000, b"{" * 100_000),
        (b'{"a": "\xff"}', b'{"a": "\xff"}'),
    ],
)
def test_json_object_becomes_a_dict_and_the_rest_stays_bytes(data, item):
    assert decode(data) == item
