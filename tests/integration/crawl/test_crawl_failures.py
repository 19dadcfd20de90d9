"""What fails for good is a dead letter, with its reason; what a spider handles is not."""

from __future__ import annotations

import json

import pytest

from tests.support.project import assert_finished
from tests.support.redis_server import free_port
from tests.support.redis_state import count_items, failed

SPIDER = """
class Failing(Spider):
    name = "failing"
    url = None
    paths = ""

    async def start(self):
        for path in self.paths.split(","):
            yield Request(path if "://" in path else self.url + path, **self.options())

    def options(self):
        return {}

    def parse(self, response):
        record(self, parsed=response.url.removeprefix(self.url))
        yield {"path": response.url.removeprefix(self.url)}
"""


HANDLED_STATUS = """
class Handled(Failing):
    name = "handled"
    handle_httpstatus_list = [404]
"""

HANDLED_BY_ERRBACK = """
class Handled(Failing):
    name = "handled"

    def options(self):
        return {"errback": self.failed}

    def failed(self, failure):
        record(self, parsed=True)
"""


def crawl(project, site, source: str, paths: list[str], frontier="addon", **settings):
    project.spider(SPIDER + source)
    name = source.partition('name = "')[2].partition('"')[0] or "failing"
    settings = {
        "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
        **settings,
    }
    worker = project.crawl(
        name,
        settings=settings,
        args={"url": site.url, "paths": ",".join(paths)},
        frontier=frontier,
    )
    assert_finished([worker])
    return worker


def letters(redis_server, spider: str) -> dict[str, str]:
    """Path and reason of each dead letter; all have the same other fields."""
    found = {}
    with redis_server.client() as client:
        for letter in failed(client, spider):
            assert letter["kind"] == b"request"
            assert letter["deliveries"] == b"1"
            assert int(letter["time"]) > 1_600_000_000_000
            host, _, pid = letter["worker"].decode().rpartition(":")
            assert host
            assert pid.isdigit()
            payload = letter["payload"].decode("latin-1")
            path = "/" + payload.partition("://")[2].partition("/")[2]
            found[path.partition("\xa4")[0].partition("\xa8")[0]] = letter[
                "reason"
            ].decode()
    return found


def test_callback_that_raises(project, site, redis_server):
    source = """
class Raising(Failing):
    name = "raising"

    def parse(self, response):
        yield {"path": "before"}
        if response.url.endswith("bad"):
            yield response.follow("/page/child", self.child)
            raise ValueError("no price")

    def child(self, response):
        record(self, parsed="child")
"""
    worker = crawl(project, site, source, ["/page/good", "/page/bad"])

    [(path, reason)] = letters(redis_server, "raising").items()
    assert path.startswith("/page/bad")
    assert reason == "the callback raised ValueError: no price"
    # What it had yielded is kept.
    assert project.recorded("parsed") == ["child"]
    with redis_server.client() as client:
        assert count_items(client, "raising") == 2
    assert worker.stats()["frontier/failed"] == 1
    assert "Of this worker 1 request or seed failed" in worker.log()
    assert "raising:failed" in worker.log()


def test_async_callback_and_errback_that_raise(project, site, redis_server):
    source = """
class Later(Failing):
    name = "later"

    def options(self):
        return {"errback": self.failed}

    async def parse(self, response):
        await asyncio.sleep(0.01)
        raise KeyError("late")

    def failed(self, failure):
        raise RuntimeError("in the errback")
"""
    crawl(project, site, source, ["/page/x", "/status/404/y"])
    reasons = sorted(letters(redis_server, "later").values())
    assert reasons == [
        "the callback raised KeyError: 'late'",
        "the callback raised RuntimeError: in the errback",
    ]


def test_http_errors_that_nobody_handles(project, site, redis_server):
    crawl(project, site, "", ["/page/x", "/status/404/a", "/status/503/b"])
    found = letters(redis_server, "failing")
    assert sorted(found.values()) == [
        "HTTP 404 is not handled",
        "HTTP 503 is not handled",
    ]
    assert project.recorded("parsed") == ["/page/x"]


@pytest.mark.parametrize(
    "source", [HANDLED_STATUS, HANDLED_BY_ERRBACK], ids=["status list", "errback"]
)
def test_http_errors_that_the_spider_handles_are_no_failures(
    project, site, redis_server, source
):
    crawl(project, site, source, ["/status/404/a"])
    assert letters(redis_server, "handled") == {}
    assert len(project.recorded("parsed")) == 1


def test_downloads_that_fail_for_good(project, site, redis_server):
    source = """
class Down(Failing):
    name = "down"

    async def start(self):
        async for request in super().start():
            if "/slow/" in request.url:
                request.meta["download_timeout"] = 0.5
            yield request
"""
    nobody = f"http://127.0.0.1:{free_port()}/nobody"
    worker = crawl(
        project,
        site,
        source,
        [nobody, "/slow/5000/x", "/once/503/y"],
        RETRY_ENABLED=True,
        RETRY_TIMES=1,
    )
    found = letters(redis_server, "down")
    assert len(found) == 2
    refused = next(r for path, r in found.items() if "nobody" in path)
    assert refused.startswith("the download failed: ")
    assert "refused" in refused.lower()
    timeout = next(r for path, r in found.items() if "slow" in path)
    assert "Timeout" in timeout
    assert site.hits()["/slow/5000/x"] == 2
    assert project.recorded("parsed") == ["/once/503/y"]
    assert worker.stats()["frontier/failed"] == 2


def test_download_failure_with_an_errback_is_handled(project, site, redis_server):
    source = """
class Caught(Failing):
    name = "caught"

    def options(self):
        return {"errback": self.failed}

    def failed(self, failure):
        record(self, parsed=failure.type.__name__)
"""
    crawl(project, site, source, [f"http://127.0.0.1:{free_port()}/nobody"])
    assert letters(redis_server, "caught") == {}
    assert len(project.recorded("parsed")) == 1


def test_request_that_a_middleware_ignores_is_no_failure(project, site, redis_server):
    source = """
class Offsite(Failing):
    name = "offsite"
    allowed_domains = ["127.0.0.1"]

    def parse(self, response):
        yield Request("http://example.invalid/")
"""
    worker = crawl(project, site, source, ["/page/x"])
    assert worker.stats()["offsite/filtered"] == 1
    assert letters(redis_server, "offsite") == {}


def test_redirect_whose_target_fails(project, site, redis_server):
    crawl(project, site, "", ["/redirect/302/status/500/x"])
    [(path, reason)] = letters(redis_server, "failing").items()
    assert path.startswith("/redirect/302/")
    assert reason == "HTTP 500 is not handled"


def test_classic_lines_keep_no_failed_downloads(project, site, redis_server):
    crawl(project, site, "", ["/status/404/x"], frontier="classic")
    assert letters(redis_server, "failing") == {}


def test_addon_leaves_a_project_s_own_places_alone(project, site, redis_server):
    """A component that the project switches off stays off."""
    crawl(
        project,
        site,
        "",
        ["/status/404/x"],
        SPIDER_MIDDLEWARES={"scrapy_dist.middleware.FrontierSpiderMiddleware": None},
    )
    assert letters(redis_server, "failing") == {}


def test_middlewares_beside_another_scheduler_do_nothing(project, site, redis_server):
    project.spider(SPIDER)
    worker = project.crawl(
        "failing",
        settings={
            "SPIDER_MIDDLEWARES": {
                "scrapy_dist.middleware.FrontierSpiderMiddleware": 51
            },
            "DOWNLOADER_MIDDLEWARES": {
                "scrapy_dist.middleware.FrontierDownloaderMiddleware": 1
            },
            "ITEM_PIPELINES": {"scrapy_dist.middleware.FrontierPipeline": 1},
        },
        args={"url": site.url, "paths": "/page/x,/status/404/y"},
        frontier="memory",
    )
    assert_finished([worker])
    assert json.loads(json.dumps(project.recorded("parsed"))) == ["/page/x"]
    assert "ERROR" not in worker.log()
