"""``backend`` and ``client``: an empty Redis, once a fake one and once a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import fakeredis
import pytest
import redis.asyncio

from scrapy_dist.redis_client.client import close_client


@pytest.fixture(params=["fake", "redis"])
def backend(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Makes redis.asyncio clients of one Redis, which is empty; tests close them."""
    if request.param == "fake":
        server = fakeredis.FakeServer()
        return lambda: fakeredis.FakeAsyncRedis(server=server, protocol=2)
    url = request.getfixturevalue("redis_server").url
    return lambda: redis.asyncio.Redis.from_url(url, protocol=2)


@pytest.fixture
async def client(backend: Callable[[], Any]) -> AsyncIterator[Any]:
    """A redis.asyncio client of an empty Redis."""
    client = backend()
    yield client
    await close_client(client)
