"""A small frontier, and somebody who looks at its pages."""

from __future__ import annotations

import fakeredis
import pytest
from scrapy.settings import Settings

pytest.importorskip("starlette", reason="the extra web is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

from scrapy_dist.codec import compact
from scrapy_dist.codec.envelope import MSGPACK
from scrapy_dist.core.frontier import End, NewRequest, Settlement
from scrapy_dist.core.slots import slot_number
from scrapy_dist.redis_client.client import close_client
from tests.support.frontiers import Worker
from tests.support.visitor import Visitor, site_of

HOST = "site.example"


@pytest.fixture
async def client():
    """A client of an empty Redis that is none."""
    client = fakeredis.FakeAsyncRedis(protocol=2)
    yield client
    await close_client(client)


def request_of(url):
    # Not by Request, which would put a hostile URL into order.
    payload = MSGPACK + compact.dumps({"url": url})
    return NewRequest(payload, 0.0, slot=slot_number(HOST))


async def fill(client, urls, *, reasons=(), info="host:1"):
    """A worker that holds nothing; *urls* pending, a dead letter for each of *reasons*."""
    worker = await Worker(client, failed_limit=10_000).join(info)
    await worker.commit(
        [request_of(f"http://{HOST}/dead/{i}") for i in range(len(reasons))]
    )
    for reason in reasons:
        lease = await worker.lease_one()
        page = Settlement(lease.id, end=End.FAILED, reason=reason)
        await worker.commit(pages=[page])
    await worker.commit([request_of(url) for url in urls])
    return worker


@pytest.fixture
async def visit(client):
    """Make a visitor of the crawl ``s``; options as `Visitor`."""
    visitors = []

    def make(settings=None, *, read_only=False, site=None, **options):
        all_settings = Settings(settings or {})
        if site is None:
            site = site_of(client, all_settings, "s", read_only=read_only)
        visitors.append(Visitor(site, **options))
        return visitors[-1]

    yield make
    for visitor in visitors:
        await visitor.close()
