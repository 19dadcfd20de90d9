"""One spider, run with Scrapy's own scheduler and with ours: no difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.project import Project, assert_finished, wait_all
from tests.support.together import start_together
from tests.support.wait import wait_until

#: Each feature has its own section; records and items carry its name, paths too.
EVERYTHING = """
import datetime as dt
from urllib.parse import urlsplit
from scrapy.http import JsonRequest

class Everything(Spider):
    name = "everything"
    handle_httpstatus_list = [403]

    async def start(self):
        for section in self.sections.split(","):
            yield Request(
                f"{self.url}/page/{section}-start",
                callback=getattr(self, f"start_{section}"),
            )

    def note(self, section, response, **facts):
        path = urlsplit(response.url).path
        record(self, section=section, path=path, status=response.status, **facts)
        return {"section": section, "path": path}

    def start_retries(self, response):
        yield Request(f"{self.url}/once/503/retries", self.see, cb_kwargs={"s": "retries"})
        yield Request(
            f"{self.url}/status/503/retries", self.see, errback=self.fail,
            cb_kwargs={"s": "retries"},
        )

    def see(self, response, s, **facts):
        yield self.note(s, response, **facts)

    def fail(self, failure):
        request = failure.request
        response = getattr(failure.value, "response", None)
        record(
            self, section=request.cb_kwargs["s"], url=request.url.replace(self.url, ""),
            error=type(failure.value).__name__, cb_kwargs=request.cb_kwargs,
            status=getattr(response, "status", None),
        )
        yield {"section": request.cb_kwargs["s"], "failed": True}

    def start_redirects(self, response):
        for target in (
            "redirect/301/page/redirects-a", "redirect/302/page/redirects-b",
            "page/redirects-c", "redirect/302/page/redirects-c",
            "redirect/302/redirect/307/page/redirects-d",
        ):
            yield Request(f"{self.url}/{target}", self.redirected, cb_kwargs={"x": 1})
        yield Request(
            f"{self.url}/redirect/307/echo/redirects-e", self.redirected, method="POST",
            body="kept", cb_kwargs={"x": 2},
        )
        yield Request(
            f"{self.url}/redirect/302/echo/redirects-f", self.redirected, method="POST",
            body="dropped", cb_kwargs={"x": 3},
        )

    def redirected(self, response, x):
        urls = [url.replace(self.url, "") for url in response.meta.get("redirect_urls", [])]
        if response.url.endswith("redirects-c"):
            urls = x = None  # either of the two requests for it may win
        yield self.note(
            "redirects", response, x=x, urls=urls, method=response.request.method,
            body=response.request.body,
        )

    def start_dont_filter(self, response):
        for _ in range(10):
            yield Request(
                f"{self.url}/page/dont_filter-always", self.see, dont_filter=True,
                cb_kwargs={"s": "dont_filter"},
            )
            yield Request(
                f"{self.url}/page/dont_filter-once", self.see,
                cb_kwargs={"s": "dont_filter"},
            )

    def start_cb_kwargs(self, response):
        yield Request(
            f"{self.url}/page/cb_kwargs", self.kwargs,
            cb_kwargs={
                "t": (1, (2, 3)), "s": {1, 2}, "d": dt.date(2024, 2, 29), "n": None,
                "dict": {"a": [1.5, b"bytes", True]}, "big": 2**70, "ü": "snowman ☃",
                "when": dt.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=dt.timezone.utc),
            },
            meta={"nested": {"list": [1, "two", None]}, "t": (1, 2)},
            flags=["a flag"],
        )

    def kwargs(self, response, **kwargs):
        types = {name: type(value).__name__ for name, value in kwargs.items()}
        yield self.note(
            "cb_kwargs", response, kwargs=repr(sorted(kwargs.items())), types=types,
            nested=repr(response.meta["nested"]), t=repr(response.meta["t"]),
            flags=response.request.flags, depth=response.meta["depth"],
        )

    def start_cookies(self, response):
        yield Request(
            f"{self.url}/setcookie/color/red/needcookie/color/red/cookies-a", self.see,
            cb_kwargs={"s": "cookies"}, meta={"cookiejar": "one"},
        )
        yield Request(
            f"{self.url}/needcookie/size/xl/cookies-b", self.see,
            cookies={"size": "xl"}, cb_kwargs={"s": "cookies"}, meta={"cookiejar": "two"},
        )
        yield Request(
            f"{self.url}/needcookie/size/xl/cookies-c", self.see,
            cookies=[{"name": "size", "value": "xl", "path": "/"}],
            cb_kwargs={"s": "cookies"}, meta={"cookiejar": "three"},
        )
        yield Request(
            f"{self.url}/needcookie/size/xl/cookies-d", self.see,
            cb_kwargs={"s": "cookies"}, meta={"cookiejar": "four"},
        )

    def start_bodies(self, response):
        yield Request(
            f"{self.url}/echo/bodies-raw", self.echo, method="PUT", body="größe",
            encoding="latin-1", headers={"X-Test": ["1", "2"], "Accept": "x/y"},
        )
        yield FormRequest(f"{self.url}/echo/bodies-form", self.echo, formdata={"a": "1 2"})
        yield JsonRequest(f"{self.url}/echo/bodies-json", self.echo, data={"k": [1]})
        # Equal URLs with other bodies are other requests.
        for i in range(3):
            yield FormRequest(
                f"{self.url}/echo/bodies-many", self.echo, formdata={"page": str(i)}
            )

    def echo(self, response):
        echo = json.loads(response.text)
        headers = {
            name: value for name, value in echo["headers"].items()
            if name in ("content-type", "x-test", "accept", "content-length")
        }
        referer = echo["headers"].get("referer", "").replace(self.url, "")
        yield self.note(
            "bodies", response, method=echo["method"], body=echo["body"],
            headers=headers, referer=referer, kind=type(response.request).__name__,
            encoding=response.request.encoding,
        )

    def start_errbacks(self, response):
        for path in ("status/404/errbacks", "status/500/errbacks"):
            yield Request(
                f"{self.url}/{path}", self.see, errback=self.fail,
                cb_kwargs={"s": "errbacks", "path": path},
            )
        yield Request(
            "http://127.0.0.1:9/errbacks", self.see, errback=self.fail,
            cb_kwargs={"s": "errbacks"},
        )
        # No errback: Scrapy logs it and goes on.
        yield Request(f"{self.url}/status/404/errbacks-none", self.see,
                      cb_kwargs={"s": "errbacks"})
        yield Request(f"{self.url}/page/errbacks-raise", self.raises)

    def raises(self, response):
        yield self.note("errbacks", response, before=True)
        raise ValueError("on purpose")

    def start_callbacks(self, response):
        yield Request(f"{self.url}/page/callbacks-default")
        yield Request(f"{self.url}/page/callbacks-async", self.is_async)
        yield Request(f"{self.url}/page/callbacks-coroutine", self.is_coroutine)
        yield Request(f"{self.url}/page/callbacks-private", self._private)
        yield Request(f"{self.url}/page/callbacks-none", self.returns_none)

    def parse(self, response):
        yield self.note("callbacks", response)

    async def is_async(self, response):
        await asyncio.sleep(0.01)
        yield self.note("callbacks", response)
        yield Request(f"{self.url}/page/callbacks-async-child", self._private)

    async def is_coroutine(self, response):
        await asyncio.sleep(0.01)
        return [self.note("callbacks", response)]

    def _private(self, response):
        yield self.note("callbacks", response, depth=response.meta["depth"])

    def returns_none(self, response):
        self.note("callbacks", response)

    def start_depth(self, response):
        yield Request(f"{self.url}/chain/9/0", self.deeper)

    def deeper(self, response):
        yield self.note("depth", response, depth=response.meta["depth"])
        yield from response.follow_all(css="a::attr(href)", callback=self.deeper)

    def start_pipeline(self, response):
        for i in range(4):
            yield {"section": "pipeline", "n": i, "drop": i % 2}

    def start_process_start(self, response):
        yield self.note("process_start", response, added=response.meta.get("added"))
"""

MIDDLEWARES = """
from scrapy import Request
from scrapy.exceptions import DropItem


class AddsAndChangesStarts:
    async def process_start(self, start):
        async for request in start:
            request.meta["by_middleware"] = True
            yield request
            if "process_start-start" in request.url:
                yield request.replace(
                    url=request.url + "-added", meta={**request.meta, "added": True}
                )


class DropsOdd:
    def process_item(self, item, spider=None):
        if item.get("drop"):
            raise DropItem("odd")
        return item
"""

SECTIONS = (
    "retries",
    "redirects",
    "dont_filter",
    "cb_kwargs",
    "cookies",
    "bodies",
    "errbacks",
    "callbacks",
    "depth",
    "pipeline",
    "process_start",
)

#: How many requests the site must see of each section, so that two equal but wrong
#: runs do not pass.
HITS = {
    "retries": 1 + 2 + 3,
    "redirects": 1 + 2 + 2 + 2 + 3 + 2 + 2,
    "dont_filter": 1 + 10 + 1,
    "cb_kwargs": 1 + 1,
    "cookies": 1 + 2 + 3,
    "bodies": 1 + 6,
    "errbacks": 1 + 1 + 3 + 1 + 1,
    "callbacks": 1 + 6,
    "depth": 1 + 5,
    "pipeline": 1,
    "process_start": 2,
}

Outcome = dict[str, Any]


def run_everything(project: Project, site, frontier: str) -> Outcome:
    site.reset()
    project.spider(EVERYTHING)
    project.module("middlewares", MIDDLEWARES)
    settings = {
        "RETRY_ENABLED": True,
        "RETRY_TIMES": 2,
        "DEPTH_LIMIT": 5,
        "SPIDER_MIDDLEWARES": {"shop.middlewares.AddsAndChangesStarts": 50},
        "ITEM_PIPELINES": {"shop.middlewares.DropsOdd": 100},
        "FEEDS": {"items.jsonl": {"format": "jsonlines"}},
    }
    args = {"url": site.url, "sections": ",".join(SECTIONS)}
    worker = project.crawl(
        "everything",
        settings=settings,
        args=args,
        frontier=frontier,
        python_options=("-W", "default"),
    )
    assert_finished([worker])
    return {
        "log": site.log(),
        "records": project.records(),
        "items": (project.folder / "items.jsonl").read_text().splitlines(),
        "stats": worker.stats(),
        "text": worker.log(),
    }


@pytest.fixture(scope="module")
def outcomes(
    shared_redis, shared_site, tmp_path_factory
) -> Iterator[dict[str, Outcome]]:
    """What the spider did with each scheduler."""
    with shared_redis.client() as client:
        client.flushall()
    projects = {
        frontier: Project(tmp_path_factory.mktemp(frontier) / "p", shared_redis.url)
        for frontier in ("memory", "classic", "addon")
    }
    try:
        yield {
            frontier: run_everything(project, shared_site, frontier)
            for frontier, project in projects.items()
        }
    finally:
        for project in projects.values():
            project.end()


def section_of(path: str) -> str | None:
    if path.startswith("/chain/"):
        return "depth"
    found = [name for name in SECTIONS if name in path]
    return max(found, key=len, default=None)


def fetched(outcome: Outcome, section: str) -> Counter[tuple[str, str, str, str]]:
    return Counter(
        (hit.method, hit.path, hit.body, hit.cookies)
        for hit in outcome["log"]
        if section_of(hit.path) == section
    )


def recorded(outcome: Outcome, section: str) -> list[str]:
    return sorted(
        repr(sorted(record.items()))
        for record in outcome["records"]
        if record["section"] == section
    )


def scraped(outcome: Outcome, section: str) -> list[str]:
    return sorted(line for line in outcome["items"] if f'"{section}"' in line)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_same_as_with_scrapys_scheduler(outcomes, frontier, section):
    memory, ours = outcomes["memory"], outcomes[frontier]

    assert fetched(memory, section).total() == HITS[section]
    assert fetched(ours, section) == fetched(memory, section)
    assert recorded(ours, section) == recorded(memory, section)
    assert scraped(ours, section) == scraped(memory, section)


@pytest.mark.parametrize("frontier", ["classic", "addon"])
@pytest.mark.parametrize(
    "name",
    [
        "item_scraped_count",
        "item_dropped_count",
        "dupefilter/filtered",
        "downloader/request_count",
        "downloader/response_count",
        "request_depth_max",
        "retry/count",
        "spider_exceptions/ValueError",
        "scheduler/enqueued",
        "scheduler/dequeued",
        "start_requests_count",
    ],
)
def test_same_stats_as_with_scrapys_scheduler(outcomes, frontier, name):
    memory = outcomes["memory"]["stats"].get(name)
    assert outcomes[frontier]["stats"].get(name) == memory


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_no_warning_that_scrapys_scheduler_does_not_give(outcomes, frontier):
    def warned(outcome: Outcome) -> set[str]:
        lines = outcome["text"].splitlines()
        return {line.partition(": ")[2] for line in lines if "Warning: " in line}

    assert warned(outcomes[frontier]) - warned(outcomes["memory"]) == set()


@pytest.mark.parametrize("frontier", ["memory", "classic"])
def test_higher_priorities_come_first(project, site, frontier):
    project.spider("""
    class Priorities(Spider):
        name = "priorities"

        async def start(self):
            yield Request(f"{self.url}/gate/all")
            while not self.crawler.engine.downloader.active:
                await asyncio.sleep(0.01)
            for priority in (0, 30, -10, 20, 10, 40, -20):
                yield Request(f"{self.url}/page/{priority}", priority=priority)
            record(self, filled=True)

        def parse(self, response):
            pass
    """)
    worker = project.crawl(
        "priorities",
        args={"url": site.url},
        settings={"CONCURRENT_REQUESTS": 1},
        frontier=frontier,
    )
    wait_until(lambda: site.hits()["/gate/all"] == 1, "the gate")
    wait_until(lambda: project.recorded("filled"), "all requests yielded")
    site.open_gate("all")
    assert_finished([worker])

    expected = [f"/page/{priority}" for priority in (40, 30, 20, 10, 0, -10, -20)]
    assert site.paths() == ["/gate/all", *expected]


@pytest.mark.parametrize("frontier", ["memory", "classic"])
def test_closespider_pagecount(project, site, frontier):
    project.spider("""
    class Many(Spider):
        name = "many"

        async def start(self):
            yield Request(self.url)

        def parse(self, response):
            yield from response.follow_all(css="a::attr(href)")
    """)
    worker = project.crawl(
        "many",
        args={"url": f"{site.url}/chain/50/0"},
        settings={"CLOSESPIDER_PAGECOUNT": 5},
        frontier=frontier,
    )
    assert worker.wait() == 0

    assert worker.reason() == "closespider_pagecount"
    assert 5 <= site.hits().total() <= 6


@pytest.mark.parametrize("frontier", ["memory", "classic"])
def test_http_cache(project, site, redis_server, frontier):
    project.spider("""
    class Cached(Spider):
        name = "cached"

        async def start(self):
            for i in range(5):
                yield Request(f"{self.url}/cached/{i}")

        def parse(self, response):
            record(self, flags=response.flags)
            for i in range(5, 10):
                yield response.follow(f"/cached/{i}")
    """)
    settings = {
        "HTTPCACHE_ENABLED": True,
        "HTTPCACHE_DIR": str(project.folder / "cache"),
    }
    args = {"url": site.url}
    runs = []
    for _ in range(2):
        worker = project.crawl("cached", settings, args, frontier)
        assert_finished([worker])
        runs.append(worker.stats())

    assert site.hits() == {f"/cached/{i}": 1 for i in range(10)}
    assert runs[0]["httpcache/miss"] == 10
    assert runs[1]["httpcache/hit"] == 10
    assert project.recorded("flags") == [[]] * 10 + [["cached"]] * 10


UNSERIALIZABLE = """
from urllib.parse import urlsplit

class Unserializable(Spider):
    name = "unserializable"

    async def start(self):
        yield Request(self.url + "/page/start")

    def parse(self, response):
        path = urlsplit(response.url).path
        record(self, path=path)
        if path == "/page/start":
            for i in range(5):
                yield response.follow(
                    f"/page/lambda-{i}", callback=lambda r, i=i: self.parse(r)
                )
                yield response.follow(
                    f"/page/file-{i}", meta={"file": open(__file__)}
                )
                yield response.follow(f"/page/plain-{i}")
        elif "lambda" in path:
            yield response.follow(path.replace("lambda", "child"))
"""


@pytest.mark.parametrize("frontier", ["memory", "classic"])
def test_unserializable_requests_are_crawled_from_memory(project, site, frontier):
    project.spider(UNSERIALIZABLE)
    workers = start_together(
        project,
        site,
        1 if frontier == "memory" else 2,
        "unserializable",
        args={"url": site.url},
        frontier=frontier,
    )
    assert_finished(workers)

    kinds = ("lambda", "file", "plain", "child")
    expected = Counter(f"/page/{kind}-{i}" for kind in kinds for i in range(5))
    expected["/page/start"] = 1
    assert site.hits() == expected
    assert Counter(project.recorded("path")) == expected
    if frontier == "classic":
        text = "".join(worker.log() for worker in workers)
        warnings = [
            line
            for line in text.splitlines()
            if "WARNING" in line and "[scrapy_dist" in line
        ]
        assert len(warnings) == 1, warnings
        counted = Counter(
            {
                name: value
                for worker in workers
                for name, value in worker.stats().items()
                if "unserializable" in name
            }
        )
        assert 10 in counted.values()


def test_unserializable_requests_are_not_lost_when_they_wait(project, site):
    """They are under the lease of the page that made them until they are done."""
    project.spider(UNSERIALIZABLE)
    site.answer(8)
    first = project.crawl(
        "unserializable", args={"url": site.url}, settings={"CONCURRENT_REQUESTS": 1}
    )
    wait_until(lambda: site.hits().total() >= 4, "some pages")
    first.interrupt()
    first.wait_for_log("shutting down gracefully")
    site.resume()
    assert wait_all([first]) == [0]
    assert_finished([project.crawl("unserializable", args={"url": site.url})])

    kinds = ("lambda", "file", "plain", "child")
    expected = {f"/page/{kind}-{i}" for kind in kinds for i in range(5)}
    assert {*site.hits()} == {*expected, "/page/start"}


CRAWL_SPIDER = """
from urllib.parse import urlsplit
from scrapy.linkextractors import LinkExtractor
from scrapy.spiders import CrawlSpider, Rule

class Rules(CrawlSpider):
    name = "rules"
    rules = [
        Rule(LinkExtractor(allow="/tree/"), callback="parse_page", follow=True,
             cb_kwargs={"kind": "tree"}),
    ]

    def __init__(self, url, **kwargs):
        super().__init__(**kwargs)
        self.start_urls = [url]

    def parse_page(self, response, kind):
        record(self, path=urlsplit(response.url).path, kind=kind)
"""


@pytest.mark.parametrize(("frontier", "count"), [("memory", 1), ("classic", 2)])
def test_crawl_spider_follows_its_rules(project, site, frontier, count):
    project.spider(CRAWL_SPIDER)
    args = {"url": f"{site.url}/links/tree~40~3~0,page~not-followed"}
    assert_finished(
        start_together(project, site, count, "rules", args=args, frontier=frontier)
    )

    pages = {f"/tree/40/3/{n}": 1 for n in range(40)}
    assert site.hits() == {**pages, "/links/tree~40~3~0,page~not-followed": 1}
    assert Counter(project.recorded("path")) == pages
    assert set(project.recorded("kind")) == {"tree"}
