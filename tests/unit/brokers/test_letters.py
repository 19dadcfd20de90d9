"""Dead letters on their way out, each once whoever of the readers dies; and in."""

from __future__ import annotations

import pytest
from scrapy.settings import Settings

from scrapy_dist.brokers.redis import broker
from scrapy_dist.brokers.redis.broker import RedisCrawl
from scrapy_dist.brokers.redis.tools import letters as letters_module
from scrapy_dist.exceptions import ConfigurationError
from tests.support.frontiers import KEYS


@pytest.fixture
def crawl(client):
    return RedisCrawl(
        client, Settings({"FRONTIER_FAILED_LIMIT": 25}), "s", None, compact=False
    )


async def refuse(crawl, *names):
    assert all(
        [await crawl.refuse(name.encode(), f"bad {name}", name) for name in names]
    )


async def take(reader):
    letters = await reader.take()
    return [letter.payload.decode() for letter in letters], [
        each.id for each in letters
    ]


async def test_what_can_be_no_seed_is_a_dead_letter_with_its_reason(crawl):
    await refuse(crawl, "a")
    [letter] = [letter async for letter in crawl.failed()]
    assert (letter.kind, letter.payload, letter.reason) == ("seed", b"a", "bad a")
    assert letter.worker


async def test_there_is_no_more_room_than_the_limit(crawl):
    await refuse(crawl, *(str(n) for n in range(25)))
    assert not await crawl.refuse(b"x", "bad", "x")
    assert await crawl.count_failed() == 25


async def test_what_comes_again_has_its_letter_already_for_a_while(crawl, monkeypatch):
    await refuse(crawl, *(str(n) for n in range(23)))
    for source in ("0", "22"):
        assert await crawl.refuse(b"x", "bad", source, again=True)
    assert await crawl.count_failed() == 23
    # What has none gets one, and so does what is known but new.
    assert await crawl.refuse(b"x", "bad", "x", again=True)
    assert await crawl.refuse(b"0", "bad", "0")
    assert await crawl.count_failed() == 25
    # That it is known does not depend on room.
    assert await crawl.refuse(b"0", "bad", "0", again=True)
    await crawl.forget(None)
    assert await crawl.refuse(b"0", "bad", "0", again=True)
    assert await crawl.count_failed() == 1
    monkeypatch.setattr(broker, "_RECENT_MS", -1000)
    assert await crawl.refuse(b"0", "bad", "0", again=True)
    assert await crawl.count_failed() == 2


async def test_readers_of_one_name_share_the_letters_and_others_have_them_too(crawl):
    first, second = crawl.letters("a"), crawl.letters("a")
    assert await first.take() == []
    await refuse(crawl, *(str(n) for n in range(12)))
    found = [(await take(reader))[0] for reader in (first, second, first)]
    assert found == [[str(n) for n in range(10)], ["10", "11"], []]
    assert len((await take(crawl.letters("b")))[0]) == 10
    assert await crawl.count_failed() == 12


async def test_what_a_reader_did_not_acknowledge_comes_again(crawl, monkeypatch):
    await refuse(crawl, "a", "b", "c")
    dead = crawl.letters("n")
    _, ids = await take(dead)
    await dead.acknowledge(ids[:1])
    await crawl.forget(ids[1:2])
    reader = crawl.letters("n")
    assert await take(reader) == ([], [])
    monkeypatch.setattr(letters_module, "_SILENT_MS", 0)
    assert (await take(crawl.letters("n")))[0] == ["c"]


async def test_letters_that_were_cleared_with_all_that_is_known_of_them(crawl):
    reader = crawl.letters("n")
    await refuse(crawl, "a")
    assert (await take(reader))[0] == ["a"]
    await crawl.clear(["failed"])
    assert await take(reader) == ([], [])
    await refuse(crawl, "b")
    assert (await take(reader))[0] == ["b"]


async def test_key_of_another_type_is_named(crawl, client):
    await client.set(KEYS.failed, "x")
    with pytest.raises(ConfigurationError, match=KEYS.failed):
        await crawl.letters("n").take()
