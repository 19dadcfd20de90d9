"""The end of Redis' append-only file is lost: the crawl goes on from what is left.

A script is in the file as MULTI … EXEC. Redis leaves a MULTI without its EXEC in a file
that was cut in between, and carries out what stands behind it when it is started the
next time. BGREWRITEAOF writes the file anew, without it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import redis.asyncio

from scrapy_dist.core.frontier import ChainLink, Settlement
from scrapy_dist.redis_client.client import close_client
from tests.support.frontiers import KEYS, Worker
from tests.support.project import assert_finished
from tests.support.redis_state import count_pending, damage, failed, items
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW
from tests.support.together import start_together
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer

PAGES = 600
#: Bytes cut off the end, one crash after another. A script is some hundreds to some
#: thousands of bytes of the file, so that most cuts are in the middle of one.
CUTS = (1, 300, 1_100, 5_000, 20_000)


def crash(server: RedisServer, cut: int) -> None:
    """Kill the server, take the last *cut* bytes of its file, and start it again."""
    server.kill()
    server.tear_aof(server.aof().stat().st_size - cut)
    server.start()


def rewrite(server: RedisServer) -> None:
    with server.client() as client:
        client.bgrewriteaof()
        wait_until(
            lambda: not client.info("persistence")["aof_rewrite_in_progress"],
            "the file is written anew",
        )


async def test_hop_is_seen_only_behind_what_it_has_produced(make_redis):
    """Else whoever gets its lease would not crawl it again."""
    server = make_redis(appendonly="yes", appendfsync="always")
    client = redis.asyncio.Redis.from_url(server.url, protocol=2)
    worker = await Worker(client).join()
    await worker.push("page")
    page = Settlement(
        (await worker.lease_one()).id,
        items=[(KEYS.items, b"of the hop")],
        chain=[ChainLink("fp-hop")],
    )
    await worker.commit(pages=[page])
    await close_client(client)

    server.kill()
    server.tear_aof(server.aof().read_bytes().rindex(b"RPUSH") + 2)
    server.start()
    for _ in range(2):  # what is written next stands behind the torn script
        with server.client() as then:
            then.set("x", 1)
            then.eval("redis.call('SET', 'y', 1) redis.call('SET', 'z', 1)", 0)
        server.kill()
        server.start()
    with server.client() as then:
        assert not then.sismember(KEYS.dupefilter, "fp-hop")
        assert then.zcard(KEYS.leases) == 1


@pytest.mark.parametrize("rewritten", [True, False], ids=["rewritten", "as it is"])
def test_crawl_goes_on_by_itself_after_each_torn_file(
    make_redis, make_project, site, rewritten
):
    server = make_redis(appendonly="yes", appendfsync="everysec")
    project = make_project(server.url)
    project.spider(FOLLOW)
    site.delay(60)
    workers = start_together(
        project,
        site,
        2,
        "follow",
        answers=0,
        args={"url": f"{site.url}/tree/{PAGES}/3/0"},
        settings={
            "FRONTIER_WORKER_TTL": 2.0,
            "CONCURRENT_REQUESTS": 8,
            "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
        },
        frontier="addon",
    )
    for cut in CUTS:
        pages = len(project.records())
        site.answer(56)
        wait_until(lambda n=pages: len(project.records()) >= n + 40, "40 more pages")
        crash(server, cut)
        if rewritten:
            rewrite(server)
            assert damage(server.url, "follow") == {}
    site.resume()
    assert_finished(workers)

    done = Counter(project.recorded("path"))
    assert set(done) == set(tree_pages(PAGES, 3))
    assert 1 <= sum(done.values()) - PAGES <= PAGES // 2
    with server.client() as client:
        found = items(client, "follow")
        assert failed(client, "follow") == []
        assert count_pending(client, "follow") == 0
    # Only what Redis itself repeats may be there twice.
    assert set(found) == set(tree_pages(PAGES, 3))
    assert not rewritten or found == tree_pages(PAGES, 3)
