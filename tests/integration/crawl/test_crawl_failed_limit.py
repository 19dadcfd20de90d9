"""S:failed is full: nothing is pushed out, nothing is lost, and nobody works in vain."""

from __future__ import annotations

from tests.support.project import assert_finished, wait_all
from tests.support.redis_state import (
    count_failed,
    count_items,
    count_leased,
    count_pending,
    count_suspects,
    failed,
)
from tests.support.together import start_together
from tests.support.wait import wait_until

BAD, GOOD, LIMIT = 10, 10, 3

SPIDER = """
class Failing(Spider):
    name = "failing"
    url = None
    broken = "yes"

    async def start(self):
        for n in range(20):
            yield Request(f"{self.url}/page/{n}")

    def parse(self, response):
        number = int(response.url.rpartition("/")[2])
        record(self, page=number)
        if self.broken and number < 10:
            raise ValueError("no price")
        yield {"path": number}
"""

SEEDED = """
from scrapy_dist.spiders import RedisSpider

class Waiting(RedisSpider):
    name = "waiting"

    def parse(self, response):
        record(self, page=response.url)
"""


def test_pages_that_fail_stay_and_go_on_when_there_is_room(project, site, redis_server):
    project.spider(SPIDER)
    settings = {
        "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
        "FRONTIER_FAILED_LIMIT": LIMIT,
    }

    def end(workers):
        """All say so, once, and end with an error: somebody has to do something."""
        assert wait_all(workers) == [1] * len(workers)
        for worker in workers:
            assert worker.reason() == "failed_limit"
            log = worker.log()
            assert log.count("failing:failed is full (FRONTIER_FAILED_LIMIT)") <= 2
            assert log.count("Closing: nothing is left to do but 7 requests") == 1

    args = {"url": site.url}
    end(
        start_together(
            project, site, 2, "failing", settings=settings, args=args, frontier="addon"
        )
    )
    with redis_server.client() as client:
        letters = failed(client, "failing")
        assert len(letters) == LIMIT
        assert {x["reason"] for x in letters} == {
            b"the callback raised ValueError: no price"
        }
        assert count_suspects(client, "failing") == BAD - LIMIT
        assert count_pending(client, "failing") == count_leased(client, "failing") == 0
        assert count_items(client, "failing") == GOOD
        pages = sorted(project.recorded("page"))
        assert pages == list(range(20))
        # A worker that comes does nothing in vain: no page is fetched once more.
        end([project.crawl("failing", settings, args, frontier="addon")])
        assert sorted(project.recorded("page")) == pages
        assert failed(client, "failing") == letters
        assert count_suspects(client, "failing") == BAD - LIMIT
        # The code is mended, and the letters are put back.
        client.delete("failing:failed")
    project.clear_records()
    again = project.crawl("failing", settings, {**args, "broken": ""}, frontier="addon")
    assert_finished([again])
    with redis_server.client() as client:
        assert count_items(client, "failing") == GOOD + BAD - LIMIT
        assert failed(client, "failing") == []
    assert (
        len(set(project.recorded("page")))
        == len(project.recorded("page"))
        == BAD - LIMIT
    )


def test_running_worker_goes_on_when_room_is_made(project, site, redis_server):
    """A spider that waits for seeds for ever does not close for it."""
    project.spider(SEEDED)
    worker = project.crawl("waiting", {"FRONTIER_FAILED_LIMIT": 1})
    worker.wait_open()
    with redis_server.client() as client:
        client.rpush("waiting:start_urls", "no URL 1", "no URL 2", "no URL 3")
        left = {b"no URL 1", b"no URL 2", b"no URL 3"}
        for still in (2, 1, 0):
            wait_until(
                lambda n=still: (
                    count_suspects(client, "waiting") == n
                    and count_failed(client, "waiting") == 1
                ),
                f"one is a dead letter, {still} wait",
            )
            [letter] = failed(client, "waiting")
            assert letter["kind"] == b"seed"
            left.remove(letter["payload"])
            if still:
                worker.wait_for_log("waiting:failed is full (FRONTIER_FAILED_LIMIT)")
            client.delete("waiting:failed")
        assert not left
        client.rpush("waiting:start_urls", f"{site.url}/page/1")
        wait_until(lambda: project.recorded("page"), "the good seed is crawled")
        assert worker.running()
        wait_until(lambda: count_leased(client, "waiting") == 0, "all is acknowledged")
