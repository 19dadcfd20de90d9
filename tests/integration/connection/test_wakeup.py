"""Whatever becomes of the connections of the wake-up, a change of a key wakes."""

from __future__ import annotations

import asyncio
import errno
import time

import pytest
import redis.asyncio

from scrapy_dist.brokers.redis import wakeup as module
from scrapy_dist.brokers.redis.wakeup import Wakeup
from scrapy_dist.redis_client.client import close_client
from tests.support.proxy import Proxy

KEY = "seeds"


class Woken:
    """Counts the calls of a wake-up, and the turns of the event loop meanwhile."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def until(condition, description: str, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for: {description}"
        await asyncio.sleep(0.01)


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def proxy(own_redis):
    with Proxy(own_redis.port) as proxy:
        yield proxy


@pytest.fixture
async def wakeup(own_redis, proxy, woken, monkeypatch):
    # Half a second stands for the ten of a PING; the machine of the tests may be slow.
    monkeypatch.setattr(module, "_PING", 0.5)
    monkeypatch.setattr(module, "_RETRY_LONGEST", 0.5)
    client = redis.asyncio.Redis.from_url(proxy.url(own_redis.url), protocol=2)
    wakeup = Wakeup(client, [KEY], woken, limit=2.0)
    yield wakeup
    await wakeup.close()
    await close_client(client)


async def assert_wakes(wakeup, woken, server) -> None:
    """It watches, and the next change wakes, once, with nobody arming it in between."""
    again = wakeup._again
    if again is not None:
        await until(again.done, "it was told that the watch is there again")
    await until(lambda: wakeup._watching, "the watch is there")
    before = woken.count
    with server.client() as admin:
        admin.lpush(KEY, "x")
    await until(lambda: woken.count > before, "the change wakes")
    assert not wakeup._watching
    assert await wakeup.arm()


def end_of_keep_alive(line) -> None:
    """What the kernel does when keep-alive, or what was sent, had no answer."""
    error = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
    line.connection._reader.set_exception(error)


@pytest.mark.parametrize("which", ["_pubsub", "_reader"])
async def test_end_of_tcp_keep_alive(wakeup, woken, own_redis, which):
    """Python 3.11 and newer take this error for a time-out of redis-py's own."""
    assert await wakeup.arm()
    end_of_keep_alive(getattr(wakeup, which))
    await until(lambda: woken.count, "the loss is told")
    await assert_wakes(wakeup, woken, own_redis)


@pytest.mark.parametrize("which", ["_pubsub", "_reader"])
async def test_end_of_the_stream(wakeup, woken, own_redis, which):
    assert await wakeup.arm()
    getattr(wakeup, which).connection._reader.feed_eof()
    await until(lambda: woken.count, "the loss is told")
    await assert_wakes(wakeup, woken, own_redis)


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
async def test_client_kill(wakeup, woken, own_redis, kind):
    assert await wakeup.arm()
    for _ in range(3):
        before = woken.count
        with own_redis.client() as admin:
            admin.client_kill_filter(_type=kind, skipme=True)
        await until(lambda n=before: woken.count > n, "the loss is told")
        await assert_wakes(wakeup, woken, own_redis)


async def test_reset(wakeup, woken, own_redis, proxy):
    assert await wakeup.arm()
    proxy.cut()
    await until(lambda: woken.count, "the loss is told")
    await assert_wakes(wakeup, woken, own_redis)


async def test_network_that_forgets_connections_without_a_word(
    wakeup, woken, own_redis, proxy
):
    """Nothing that is sent arrives, and nobody says so."""
    assert await wakeup.arm()
    proxy.swallow()
    await until(lambda: woken.count, "the loss is found out")
    proxy.swallow(on=False)
    await assert_wakes(wakeup, woken, own_redis)


async def test_frozen_redis(wakeup, woken, own_redis):
    assert await wakeup.arm()
    own_redis.freeze()
    await until(lambda: woken.count, "the loss is found out")
    own_redis.thaw()
    await assert_wakes(wakeup, woken, own_redis)


async def test_redis_that_ends_idle_connections_after_two_seconds(
    wakeup, woken, own_redis, monkeypatch
):
    """After the first loss PINGs come more often, and there is no other one."""
    monkeypatch.setattr(module, "_PING", 10.0)
    wakeup._ping = 10.0
    with own_redis.client() as admin:
        admin.config_set("timeout", 2)
        assert await wakeup.arm()
        await until(lambda: wakeup._ping < 2.0, "the loss is told")
        await until(lambda: wakeup._watching, "the watch is there again")
        reader = wakeup._reader
        await asyncio.sleep(5)
        assert wakeup._reader is reader
        await assert_wakes(wakeup, woken, own_redis)


async def test_redis_with_too_many_clients(wakeup, woken, own_redis):
    """It is armed when there is room again, however often it was refused."""
    with own_redis.client() as admin:
        most = admin.config_get("maxclients")["maxclients"]
        assert await wakeup.arm()
        admin.config_set("maxclients", 1)
        admin.client_kill_filter(_type="normal", skipme=True)
        admin.client_kill_filter(_type="pubsub", skipme=True)
        await until(lambda: wakeup._retry, "it was refused")
        assert not await wakeup.arm()
        assert wakeup.available
        admin.config_set("maxclients", most)
    await assert_wakes(wakeup, woken, own_redis)


async def test_lost_connections_are_not_made_anew_without_a_pause(
    wakeup, own_redis, proxy
):
    assert await wakeup.arm()
    proxy.refuse()
    before = proxy.accepted
    await asyncio.sleep(1)
    proxy.accept()
    await until(lambda: wakeup._watching, "the watch is there again")
    assert proxy.accepted - before <= 2


async def test_nothing_is_left_of_a_wakeup_that_is_closed(wakeup, own_redis):
    assert await wakeup.arm()
    own_redis.freeze()
    await wakeup.close()
    own_redis.thaw()
    assert not await wakeup.arm()
    await until(lambda: len(asyncio.all_tasks()) == 1, "its tasks have ended")
