"""What does not work with scrapy-redis on today's Scrapy, and does here.

More of them are where they belong: seeds in `test_crawl_seeds`, the order of equal
priorities in `test_crawl_order`, flush, stop and idle time in `test_crawl_shared`,
stats in `test_crawl_items`, no Twisted reactor in `test_crawl_errors`.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.project import assert_finished
from tests.support.redis_state import failed
from tests.support.site import graph_pages, tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.together import start_together


@pytest.mark.parametrize(
    "path", ["scrapy.dupefilters.RFPDupeFilter", "shop.dupefilters.ByHand"]
)
def test_any_dupefilter_works(project, site, path):
    project.module(
        "dupefilters",
        """
        from scrapy.dupefilters import BaseDupeFilter

        class ByHand(BaseDupeFilter):
            def __init__(self):
                self.urls = set()

            def request_seen(self, request):
                seen = request.url in self.urls
                self.urls.add(request.url)
                return seen
        """,
    )
    project.spider(FOLLOW)
    worker = project.crawl(
        "follow",
        args={"url": f"{site.url}/graph/60/4/0"},
        settings={"DUPEFILTER_CLASS": path},
    )
    assert_finished([worker])

    assert site.hits() == graph_pages(60, 4)
    if path.startswith("scrapy."):
        # Each of 60 pages has 5 links; 59 of them led to a page for the first time.
        assert worker.stats()["dupefilter/filtered"] == 60 * 5 - 59


def test_two_workers_with_scrapys_own_dupefilter_share_fingerprints(project, site):
    project.spider(FOLLOW)
    workers = start_together(
        project,
        site,
        2,
        "follow",
        args={"url": f"{site.url}/graph/100/4/0"},
        settings={"DUPEFILTER_CLASS": "scrapy.dupefilters.RFPDupeFilter"},
    )
    assert_finished(workers)
    assert site.hits() == graph_pages(100, 4)


def test_base_dupefilter_filters_nothing(project, site):
    project.spider(FOLLOW)
    worker = project.crawl(
        "follow",
        args={"url": f"{site.url}/links/page~a,page~a,page~a,page~b"},
        settings={"DUPEFILTER_CLASS": "scrapy.dupefilters.BaseDupeFilter"},
    )
    assert_finished([worker])
    hits = site.hits()
    assert (hits["/page/a"], hits["/page/b"]) == (3, 1)


def test_fingerprinter_of_the_project_is_used(project, site):
    project.module(
        "fingerprints",
        """
        import hashlib
        from urllib.parse import urlsplit

        class WithoutQuery:
            def fingerprint(self, request):
                return hashlib.sha1(urlsplit(request.url).path.encode()).digest()
        """,
    )
    project.spider("""
    class Queries(Spider):
        name = "queries"

        async def start(self):
            for i in range(10):
                yield Request(f"{self.url}/page/start?i={i}")

        def parse(self, response):
            for i in range(10):
                yield response.follow(f"/page/child?i={i}", self.ignore)

        def ignore(self, response):
            pass
    """)
    settings = {"REQUEST_FINGERPRINTER_CLASS": "shop.fingerprints.WithoutQuery"}
    workers = start_together(
        project, site, 2, "queries", args={"url": site.url}, settings=settings
    )
    assert_finished(workers)
    assert site.hits() == {"/page/start": 1, "/page/child": 1}


SERIALIZED = """
from urllib.parse import urlsplit

class Serialized(Spider):
    name = "serialized"

    async def start(self):
        yield Request(self.url, cb_kwargs={"n": 0})

    def parse(self, response, n):
        record(self, path=urlsplit(response.url).path, n=n, meta=response.meta.get("m"))
        for link in response.css("a::attr(href)").getall():
            yield response.follow(
                link, cb_kwargs={"n": n + 1}, meta={"m": ["text", 1.5, None]}
            )
        yield FormRequest(
            response.urljoin("/echo/form"), self.form, formdata={"a": "ü"}
        )

    def form(self, response):
        record(self, body=json.loads(response.text)["body"])
"""


@pytest.mark.parametrize("serializer", ["json", "scrapy_dist.picklecompat", "pickle"])
def test_serializers(project, site, serializer):
    project.spider(SERIALIZED)
    workers = start_together(
        project,
        site,
        2,
        "serialized",
        args={"url": f"{site.url}/tree/40/3/0"},
        settings={"SCHEDULER_SERIALIZER": serializer},
    )
    assert_finished(workers)

    assert site.hits() == {**tree_pages(40, 3), "/echo/form": 1}
    pages = [record for record in project.records() if "path" in record]
    assert Counter(record["path"] for record in pages) == tree_pages(40, 3)
    assert Counter(record["n"] for record in pages) == {0: 1, 1: 3, 2: 9, 3: 27}
    assert all(r["meta"] == ["text", 1.5, None] for r in pages if r["n"])
    assert project.recorded("body") == ["a=%C3%BC"]
    if serializer != "json":
        for worker in workers:
            warnings = [
                line
                for line in worker.log().splitlines()
                if "WARNING" in line and "SCHEDULER_SERIALIZER" in line
            ]
            assert len(warnings) == 1


def test_decode_responses_works(project, site, redis_server):
    project.spider(FOLLOW)
    project.spider(SEEDED)
    settings = {"REDIS_DECODE_RESPONSES": True, "MAX_IDLE_TIME_BEFORE_CLOSE": 1}
    args = {"url": f"{site.url}/graph/40/3/0"}
    with redis_server.client() as client:
        client.lpush("seeded:start_urls", f"{site.url}/page/seed")
        workers = start_together(
            project, site, 2, "follow", args=args, settings=settings
        )
        workers.append(project.crawl("seeded", settings=settings))
        assert_finished(workers)
        assert failed(client, "seeded") == []

    assert site.hits() == {**graph_pages(40, 3), "/page/seed": 1}


def test_encoding_of_the_client_does_not_matter(project, site):
    project.spider(FOLLOW)
    settings = {
        "REDIS_ENCODING": "latin-1",
        "REDIS_PARAMS": {"encoding": "latin-1", "decode_responses": True},
    }
    args = {"url": f"{site.url}/graph/40/3/0"}
    assert_finished(
        start_together(project, site, 2, "follow", args=args, settings=settings)
    )
    assert site.hits() == graph_pages(40, 3)


def test_offsite_and_depth_middlewares_still_count(project, site):
    project.spider("""
    class Deep(Spider):
        name = "deep"
        allowed_domains = ["127.0.0.1"]

        async def start(self):
            yield Request(self.url)

        def parse(self, response):
            record(self, depth=response.meta["depth"])
            yield from response.follow_all(css="a::attr(href)")
            yield Request("http://offsite.example/")
    """)
    workers = start_together(
        project,
        site,
        2,
        "deep",
        args={"url": f"{site.url}/chain/20/0"},
        settings={"DEPTH_LIMIT": 7},
    )
    assert_finished(workers)
    assert sorted(project.recorded("depth")) == list(range(8))
    offsite = sum(w.stats().get("offsite/filtered", 0) for w in workers)
    assert offsite >= 1
