"""Pages that stay up to date: one look for all who watch."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from itertools import pairwise

import pytest

from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from scrapy_dist.web import live as live_module
from scrapy_dist.web.charts import MOST, Rates, _round_up, rate_chart
from scrapy_dist.web.live import Live


class Redis:
    """What is looked at."""

    def __init__(self):
        self.looks = self.reconnects = 0
        self.error = None
        self.parts = {"state": "a", "hosts": "b"}

    async def look(self):
        self.looks += 1
        if self.error:
            raise self.error
        return dict(self.parts)

    async def reconnect(self):
        self.reconnects += 1


@pytest.fixture
async def redis():
    return Redis()


@pytest.fixture
async def live(redis):
    live = Live(redis.look, redis.reconnect, every=0.02)
    yield live
    await live.close()


async def parts_of(events):
    """The parts in the next event that has some."""
    async for event in events:
        if event.startswith(b"data: "):
            assert event.endswith(b"\n\n")
            assert b"\n" not in event[:-2]
            return json.loads(event[6:])
    return None


async def test_fifty_pages_cost_as_much_as_one(redis, monkeypatch):
    monkeypatch.setattr(live_module, "_PATIENCE", 300)
    gate = asyncio.Semaphore(0)

    async def look():
        await gate.acquire()
        return await redis.look()

    live = Live(look, redis.reconnect, every=0.001)
    pages = [live.events() for _ in range(50)]
    seen = [asyncio.ensure_future(parts_of(page)) for page in pages]
    assert await asyncio.gather(*seen) == [{"trouble": ""}] * 50
    assert live.watchers == 50
    for looks in range(1, 4):
        redis.parts["state"] = f"<{looks}>"
        gate.release()
        found = await asyncio.gather(*map(parts_of, pages))
        assert [each["state"] for each in found] == [f"<{looks}>"] * 50
        assert redis.looks == looks
    for page in pages:
        await page.aclose()
    assert live.watchers == 0
    await live.close()


async def test_only_what_has_changed_is_sent(redis, live):
    async with aclosing(live.events()) as events:
        assert await parts_of(events) == {"trouble": ""}
        assert await parts_of(events) == {"state": "a", "hosts": "b"}
        redis.parts["hosts"] = "</p>\n\n"
        assert await parts_of(events) == {"hosts": "</p>\n\n"}


async def test_pages_that_are_loaded_share_a_look(redis):
    live = Live(redis.look, redis.reconnect, every=60)
    for _ in range(10):
        assert (await live.now())["state"] == "a"
    assert redis.looks == 1
    await live.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RedisUnavailable("<gone>"), "Redis is away: &lt;gone&gt;"),
        (ConfigurationError("s:failed is no stream"), "s:failed is no stream"),
    ],
)
async def test_trouble_is_said_and_goes_by_itself(redis, live, error, said):
    async with aclosing(live.events()) as events:
        while (await parts_of(events)).get("state") != "a":
            pass
        redis.error = error
        trouble = (await parts_of(events))["trouble"]
        assert said in trouble
        assert "What is shown is how it stood at" in trouble
        assert live.parts["state"] == "a"
        while not redis.reconnects:
            await asyncio.sleep(0.01)
        redis.error = None
        assert await parts_of(events) == {"trouble": ""}


async def test_a_redis_that_does_not_answer_is_away(redis, live, monkeypatch):
    monkeypatch.setattr(live_module, "_PATIENCE", 0.02)

    async def hang():
        await asyncio.sleep(60)

    live._ask = hang
    assert "no answer for 0.02 s" in (await live.now())["trouble"]


async def test_looking_ends_when_nobody_has_watched_for_long(redis, monkeypatch):
    monkeypatch.setattr(live_module, "_UNWATCHED", 0.01)
    ended = asyncio.Event()
    live = Live(redis.look, redis.reconnect, every=0.01, linger=0.05)
    live.on_end = ended.set
    await live.now()
    await asyncio.wait_for(ended.wait(), 30)
    looks = redis.looks
    await live.now()
    assert redis.looks > looks
    await live.close()


async def test_a_quiet_connection_is_used_now_and_then(redis, monkeypatch):
    monkeypatch.setattr(live_module, "_PING", 0.01)
    live = Live(redis.look, redis.reconnect, every=60)
    async with aclosing(live.events()) as events:
        async for event in events:
            if event.startswith(b":"):
                break
    await live.close()


async def test_streams_end_when_the_server_does(redis, live):
    async def watch():
        return [event async for event in live.events()]

    task = asyncio.ensure_future(watch())
    while not live.watchers:
        await asyncio.sleep(0.01)
    await live.close()
    assert await asyncio.wait_for(task, 30)


# Charts


def test_rates_keep_the_whole_time_in_bounds():
    rates = Rates()
    for second in range(20_000):
        rates.add(float(second), second * 3)
    found = rates.rates()
    assert MOST / 2 - 2 < len(found) <= MOST
    assert found[-1][0] == 19_999
    assert all(rate == pytest.approx(3) for _, rate in found)
    assert found[-1][0] - found[0][0] > 19_000
    times = [at for at, _ in found]
    assert max(b - a for a, b in pairwise(times)) < 300


def test_rates_begin_anew_with_a_new_crawl():
    rates = Rates()
    rates.add(0.0, 100)
    rates.add(5.0, 200)
    rates.add(10.0, 3)
    rates.add(15.0, 13)
    assert rates.rates() == [(15.0, 2.0)]


def test_a_chart_says_in_words_what_it_shows():
    chart = str(rate_chart([(0.0, 1.0), (60.0, 5.0), (120.0, 2.0)]))
    assert "in the last 2 min: now 2.0, at least 1.0, at most 5.0" in chart
    assert 'role="img"' in chart
    assert "style=" not in chart
    assert rate_chart([(0.0, 1.0)]) == ""
    assert "nan" not in str(rate_chart([(0.0, 0.0), (0.0, 0.0)]))


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, 1), (1, 1), (1.5, 2), (3, 5), (7, 10), (130, 200), (0.02, 0.02)],
)
def test_the_scale_ends_with_a_round_number(value, top):
    assert _round_up(value) == pytest.approx(top)
