"""A Redis without memory takes acknowledgements; what it cannot take waits."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.project import assert_finished
from tests.support.redis_state import count_leased, count_pending, count_workers
from tests.support.spiders import FOLLOW
from tests.support.together import start_together
from tests.support.wait import wait_until

LEAVES = 60
BRANCHES = 8


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_full_redis_still_takes_acks_and_gives_leases(
    make_redis, make_project, site, frontier
):
    server = make_redis()
    project = make_project(server.url)
    leaves = [f"/page/{n}" for n in range(LEAVES)]
    branches = [f"/links/page~{n}a,page~{n}b" for n in range(BRANCHES)]
    mixed = leaves[:20] + branches + leaves[20:]
    expected = dict.fromkeys(leaves, 1)
    project.spider(
        f"""
class Branching(Spider):
    name = "branching"
    url = None

    async def start(self):
        yield Request(self.url + "/gate/all/page/start")

    def parse(self, response):
        record(self, path=response.url.removeprefix(self.url))
        if "/gate/" in response.url:
            for path in {mixed!r}:
                yield response.follow(path)
        else:
            yield from response.follow_all(css="a::attr(href)")
"""
    )
    workers = start_together(
        project,
        site,
        2,
        "branching",
        args={"url": site.url},
        frontier=frontier,
        settings={"CONCURRENT_REQUESTS": 4},
    )
    site.pause()
    site.open_gate("all")
    with server.client() as client:
        wait_until(
            lambda: (
                count_pending(client, "branching") + count_leased(client, "branching")
                >= LEAVES + BRANCHES
            ),
            "all links in Redis",
        )
        client.config_set("maxmemory", "500kb")
        site.resume()
        # Every leaf is acknowledged, though branches before it cannot be.
        wait_until(lambda: count_pending(client, "branching") == 0, "all are leased")
        # Without the add-on, whose ack is whose is not known of pages that are neither
        # on their way nor done: of each worker some that wait for the spider, four times
        # CONCURRENT_REQUESTS at the most.
        most = BRANCHES + (2 * 4 * 4 if frontier == "classic" else 0)
        wait_until(
            lambda: BRANCHES <= count_leased(client, "branching") <= most,
            "the leaves are acknowledged",
        )
        assert client.hlen("branching:leased") <= most
        below = {f"/page/{n}{x}" for n in range(BRANCHES) for x in "ab"}
        assert not below & set(site.hits())
        client.config_set("maxmemory", "0")
    assert_finished(workers)

    expected |= dict.fromkeys(["/gate/all/page/start", *branches, *below], 1)
    assert Counter(project.recorded("path")) == expected
    assert site.hits() == expected
    logs = "\n".join(worker.log() for worker in workers)
    assert 1 <= logs.count("Redis is full") <= 2
    assert logs.count("Redis is full") == logs.count("Redis has memory again")
    for worker in workers:
        assert worker.log().count("Redis is full") <= 1


def test_worker_joins_and_closes_while_redis_is_full(make_redis, make_project, site):
    """What it could not deliver is crawled by the next one."""
    server = make_redis()
    project = make_project(server.url)
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/gate/all/tree/20/3/0"}
    settings = {"FRONTIER_CLOSE_TIMEOUT": 1.0, "FRONTIER_WORKER_TTL": 1.0}
    first = project.crawl("follow", args=args, settings=settings)
    with server.client() as client:
        wait_until(lambda: site.hits().total() == 1, "the first page")
        client.config_set("maxmemory", "500kb")
        second = project.crawl("follow", args=args, settings=settings)
        wait_until(lambda: count_workers(client, "follow") == 2, "the second worker")
        site.open_gate("all")
        first.wait_for_log("Redis is full")
        first.interrupt()
        assert first.wait() == 0
        assert "does not take the last results" in first.log()
        client.config_set("maxmemory", "0")
    assert_finished([second])
    assert set(site.hits()) == {
        "/gate/all/tree/20/3/0",
        *(f"/tree/20/3/{n}" for n in range(20)),
    }
