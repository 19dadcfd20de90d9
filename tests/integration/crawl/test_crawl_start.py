"""What ``start()`` yields, when each of several workers runs it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.project import assert_finished
from tests.support.together import start_together
from tests.support.wait import wait_until

SAME = """
class Same(Spider):
    name = "same"

    async def start(self):
        for case in range(5):
            yield Request(
                f"{self.url}/gate/all/echo/same",
                headers={"X-Case": str(case)},
                cb_kwargs={"case": case},
                dont_filter=True,
            )
        for _ in range(2):
            yield Request(f"{self.url}/page/filtered")

    def parse(self, response, case=None):
        record(self, case=case, path=response.url.removeprefix(self.url))
        yield Request(f"{self.url}/gate/all/echo/same")

class Urls(Spider):
    name = "urls"

    def __init__(self, url):
        self.start_urls = [f"{url}/page/a", f"{url}/page/b", f"{url}/page/a"]

    def parse(self, response):
        yield Request(self.start_urls[1], self.parse)
"""


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_equal_start_requests_are_fetched_as_often_as_one_start_yields_them(
    project, site, frontier
):
    """Each once, whichever worker comes first; a link to them is a duplicate."""
    project.spider(SAME)
    args = {"url": site.url}
    site.open_gate("all")
    workers = start_together(project, site, 2, "same", args=args, frontier=frontier)
    assert_finished(workers)
    assert Counter(project.recorded("case")) == Counter([*range(5), None])
    assert site.hits() == {"/gate/all/echo/same": 5, "/page/filtered": 1}

    site.reset()
    assert_finished(
        start_together(project, site, 2, "urls", args=args, frontier=frontier)
    )
    assert site.hits() == {"/page/a": 2, "/page/b": 1}


@pytest.mark.parametrize("compact", [False, True])
def test_equal_start_requests_come_no_more_often_after_a_death(
    project, site, redis_server, compact
):
    project.spider(SAME)
    settings = {"FRONTIER_WORKER_TTL": 2.0, "CONCURRENT_REQUESTS": 2}
    if compact:
        settings["DUPEFILTER_CLASS"] = "scrapy_dist.dupefilter.CompactDupeFilter"
    first = project.crawl("same", args={"url": site.url}, settings=settings)
    wait_until(lambda: site.hits().total() == 2, "two of them under way")
    first.kill()
    site.open_gate("all")
    assert_finished([project.crawl("same", args={"url": site.url}, settings=settings)])
    assert sorted(project.recorded("case"), key=str) == [*range(5), None]


@pytest.mark.parametrize("spider", ["breaks", "breaks_at_once", "not_taken"])
def test_start_that_breaks_off_fails_and_what_it_did_not_come_to_is_kept(
    project, site, redis_server, spider
):
    """As after a stop: the next run, with the error mended, goes on where it was."""
    project.spider(
        """
        class Breaks(Spider):
            name = "breaks"
            first = 3

            async def start(self):
                for n in range(5):
                    if n == self.first and not hasattr(self, "mended"):
                        raise KeyError("on purpose")
                    yield Request(f"{self.url}/page/{n}")

            def parse(self, response):
                pass

        class BreaksAtOnce(Breaks):
            name = "breaks_at_once"
            first = 0

        class NotTaken(Breaks):
            name = "not_taken"
            first = 9
        """
    )
    project.module(
        "own_queue",
        """
        from scrapy_dist.queue import PriorityQueue

        class Queue(PriorityQueue):
            def score(self, request):
                if request.url.endswith("3"):
                    raise KeyError("on purpose")
                return super().score(request)
        """,
    )
    settings = {}
    if spider == "not_taken":
        settings["SCHEDULER_QUEUE_CLASS"] = "shop.own_queue.Queue"
    worker = project.crawl(spider, args={"url": site.url}, settings=settings)
    assert worker.wait() == 1
    if spider == "breaks":
        said = "and 3 fingerprints of this crawl are kept"
        assert said in worker.log()

    worker = project.crawl(spider, args={"url": site.url, "mended": "1"})
    assert_finished([worker])
    assert site.hits() == {f"/page/{n}": 1 for n in range(5)}
    with redis_server.client() as client:
        assert client.keys(f"{spider}:*") == [f"{spider}:history".encode()]
