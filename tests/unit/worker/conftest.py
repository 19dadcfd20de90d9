"""``start`` starts workers, of one Redis that is empty at first.

``redis`` looks at it; ``frontier`` changes the frontier from outside, and ``clock`` lets
the time of the workers go on.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.worker import Clock, Frontier, Worker

if TYPE_CHECKING:
    import redis as redis_py

    from tests.support.redis_server import RedisServer


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[redis_py.Redis]:
    """A client of the Redis of the workers."""
    with redis_server.client() as client:
        yield client


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the package logs, from INFO on."""
    caplog.set_level(logging.INFO, "scrapy_dist")
    return caplog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def frontier(redis: redis_py.Redis) -> Frontier:
    return Frontier(redis)


@pytest.fixture
async def start(redis_server: RedisServer) -> AsyncIterator[Callable[..., Any]]:
    """Start a worker; it is gone at the end of the test."""
    workers: list[Worker] = []

    async def start(*args: Any, **options: Any) -> Worker:
        url = options.pop("redis_url", redis_server.url)
        workers.append(Worker(url, *args, **options))
        await workers[-1].open()
        return workers[-1]

    yield start
    for worker in workers:
        await worker.vanish()
