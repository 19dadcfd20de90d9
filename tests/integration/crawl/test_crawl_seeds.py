"""Seeds: pushed with redis-cli to workers that wait, crawled at once, never trusted."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from scrapy_dist.codec.envelope import SEED
from tests.support.commands import run_frontier
from tests.support.frontiers import leased_as
from tests.support.project import Project, assert_finished
from tests.support.redis_state import (
    count_failed,
    count_leased,
    count_pending,
    count_suspects,
    failed,
    wait_for_workers,
)
from tests.support.site import tree_pages
from tests.support.spiders import SEEDED
from tests.support.together import start_together
from tests.support.wait import wait_until

KEY = "seeded:start_urls"


def stop(worker) -> None:
    """End a worker that would wait for seeds for ever."""
    worker.interrupt()
    assert worker.wait() == 0
    assert worker.reason() == "shutdown"


def test_idle_worker_takes_a_seed_at_once(project, site, client):
    project.spider(SEEDED)
    worker = project.crawl("seeded")
    wait_for_workers(client, "seeded", 1)
    time.sleep(6)  # longer than Scrapy's own idle check of 5 s
    assert worker.running()

    waited = []
    for n in range(5):
        time.sleep(0.3)
        pushed = time.monotonic()
        client.lpush(KEY, f"{site.url}/page/{n}")
        wait_until(lambda n=n: site.hits()[f"/page/{n}"], "the page", interval=0.005)
        waited.append(site.first(f"/page/{n}").time - pushed)

    # By itself it would look after 5 s; a machine may be slow, but not each time.
    assert min(waited[1:]) < 3, waited
    stop(worker)


def test_each_seed_goes_to_one_of_three_idle_workers(project, site, client):
    project.spider(SEEDED)
    workers = start_together(project, site, 3, "seeded")
    wait_for_workers(client, "seeded", 3)
    for n in range(12):
        client.lpush(KEY, f"{site.url}/slow/300/{n}")
    expected = {f"/slow/300/{n}": 1 for n in range(12)}
    wait_until(lambda: len(project.records()) == 12, "all pages")
    for worker in workers:
        stop(worker)

    assert site.hits() == expected
    assert Counter(project.recorded("path")) == expected


@pytest.mark.parametrize(
    ("settings", "push", "expected"),
    [
        ({}, lambda c, urls: c.lpush(KEY, *urls), [4, 3, 2, 1, 0]),
        ({}, lambda c, urls: c.rpush(KEY, *urls), [0, 1, 2, 3, 4]),
        ({"REDIS_START_URLS_AS_SET": True}, lambda c, urls: c.sadd(KEY, *urls), None),
        (
            {"REDIS_START_URLS_AS_ZSET": True},
            lambda c, urls: c.zadd(
                KEY, dict(zip(urls, (5, 30, -1, 20, 10), strict=True))
            ),
            [1, 3, 4, 0, 2],
        ),
    ],
    ids=["lpush", "rpush", "set", "zset"],
)
def test_seeds_from_every_type_of_key(project, site, client, settings, push, expected):
    project.spider(SEEDED)
    push(client, [f"{site.url}/page/{n}" for n in range(5)])
    worker = project.crawl("seeded", settings={**settings, "CONCURRENT_REQUESTS": 1})
    wait_until(lambda: len(project.records()) == 5, "all pages")
    stop(worker)

    assert site.hits() == {f"/page/{n}": 1 for n in range(5)}
    if expected is not None:
        assert site.paths() == [f"/page/{n}" for n in expected]
    assert not client.exists(KEY)


@pytest.mark.keeps("several:later", reason="a key of seeds; the crawl is stopped")
def test_several_keys_in_order_of_priority(project, site, client):
    project.spider("""
    from scrapy_dist.spiders import RedisSpider

    class Several(RedisSpider):
        name = "several"
        redis_key = ["%(name)s:urgent", "several:normal", "several:later"]

        def parse(self, response):
            record(self, url=response.url)
    """)
    for n in range(3):
        client.zadd("several:later", {f"{site.url}/page/later-{n}": 10 - n})
        client.rpush("several:normal", f"{site.url}/page/normal-{n}")
        client.rpush("several:urgent", f"{site.url}/page/urgent-{n}")
    worker = project.crawl("several", settings={"CONCURRENT_REQUESTS": 1})
    wait_until(lambda: len(project.records()) == 9, "all pages")
    client.rpush("several:later", "wrong type, but empty now")
    stop(worker)

    assert site.paths() == [
        f"/page/{name}-{n}" for name in ("urgent", "normal", "later") for n in range(3)
    ]


def test_redis_key_from_setting_and_from_argument(project, site, client):
    project.spider(SEEDED)
    client.lpush("seeds of seeded", f"{site.url}/page/setting")
    client.lpush("mine", f"{site.url}/page/argument")
    first = project.crawl(
        "seeded", settings={"REDIS_START_URLS_KEY": "seeds of %(name)s"}
    )
    wait_until(lambda: site.hits()["/page/setting"], "the page")
    stop(first)
    second = project.crawl("seeded", args={"redis_key": "mine"})
    wait_until(lambda: site.hits()["/page/argument"], "the page")
    stop(second)

    assert site.hits() == {"/page/setting": 1, "/page/argument": 1}


def test_same_seed_twice_is_crawled_twice(project, site, client):
    project.spider(SEEDED)
    worker = project.crawl("seeded")
    client.lpush(KEY, f"{site.url}/page/same", f"{site.url}/page/same")
    wait_until(lambda: len(project.records()) == 2, "two pages")
    client.lpush(KEY, f"{site.url}/page/same")
    wait_until(lambda: len(project.records()) == 3, "three pages")
    stop(worker)

    assert site.hits() == {"/page/same": 3}


def test_slow_page_does_not_stall_the_next_seeds(project, site, client):
    project.spider(SEEDED)
    worker = project.crawl("seeded")
    client.lpush(KEY, f"{site.url}/gate/shut/page/first")
    wait_until(lambda: site.hits()["/gate/shut/page/first"], "the slow page")

    for n in range(5):
        client.lpush(KEY, f"{site.url}/page/{n}")
    wait_until(lambda: len(project.records()) == 5, "the other pages")

    assert sorted(project.recorded("path")) == [f"/page/{n}" for n in range(5)]
    worker.kill()


def test_idle_time_counts_from_the_last_activity_of_any_worker(project, site, client):
    project.spider(SEEDED)
    client.lpush(KEY, f"{site.url}/gate/g")
    workers = start_together(
        project, site, 2, "seeded", settings={"MAX_IDLE_TIME_BEFORE_CLOSE": 2.5}
    )
    wait_until(lambda: site.hits()["/gate/g"], "the slow page")
    time.sleep(3)
    done = time.time()
    site.open_gate("g")
    assert_finished(workers)

    assert project.recorded("path") == ["/gate/g"]
    for worker in workers:
        assert 2.4 <= worker.finish_time() - done <= 12


def test_seed_in_work_is_taken_over_after_ctrl_c(project, site, client):
    project.spider(SEEDED)
    settings = {"CONCURRENT_REQUESTS": 1, "REDIS_START_URLS_BATCH_SIZE": 10}
    worker = project.crawl("seeded", settings=settings)
    client.rpush(KEY, f"{site.url}/gate/first")
    client.rpush(KEY, *[f"{site.url}/page/{n}" for n in range(10)])
    wait_until(lambda: site.hits()["/gate/first"], "the first page")
    worker.interrupt()
    worker.wait_for_log("Closing spider")
    site.open_gate("first")
    assert worker.wait() == 0

    second = project.crawl("seeded")
    wait_until(lambda: len(project.records()) == 11, "all pages")
    stop(second)

    assert site.hits() == {"/gate/first": 1, **{f"/page/{n}": 1 for n in range(10)}}


def leased(client, spider: str = "seeded") -> list[bytes]:
    """The payloads of all leases, sorted."""
    entries = map(leased_as, client.hvals(f"{spider}:leased"))
    return sorted(member[24:] for _, _, _, member in entries)


def test_seed_is_leased_until_its_page_is_done_and_passes_redis_once(
    project, site, client
):
    project.spider(SEEDED)
    worker = project.crawl("seeded", frontier="addon")
    url = f"{site.url}/gate/a"
    client.lpush(KEY, url)
    wait_until(lambda: site.hits()["/gate/a"], "the page")
    assert leased(client) == [SEED + url.encode()]
    assert count_pending(client, "seeded") == 0

    site.open_gate("a")
    wait_until(lambda: not count_leased(client, "seeded"), "the ack")
    assert client.hget("seeded:state", "pages") == b"1"
    stop(worker)
    stats = worker.stats()
    for name in ("enqueued", "enqueued/memory", "dequeued", "dequeued/memory"):
        assert stats[f"scheduler/{name}"] == 1
    assert "scheduler/enqueued/redis" not in stats
    assert "scheduler/dequeued/redis" not in stats
    assert project.recorded("path") == ["/gate/a"]


def test_seeds_are_leased_as_they_can_be_used_and_shared_by_all(project, site, client):
    project.spider(SEEDED)
    settings = {"CONCURRENT_REQUESTS": 4}
    workers = start_together(project, site, 2, "seeded", settings=settings)
    wait_for_workers(client, "seeded", 2)
    client.rpush(KEY, *[f"{site.url}/gate/{n}" for n in range(6)])
    wait_until(lambda: len(site.log()) == 6, "all in work")
    assert Counter(hit.agent for hit in site.log()) == {w.agent: 3 for w in workers}

    client.rpush(KEY, *[f"{site.url}/gate/{n}" for n in range(6, 200)])
    wait_until(lambda: len(site.log()) == 8, "two workers full of work")
    wait_until(lambda: client.llen(KEY) < 194, "some ahead")
    # Free places, and at the most as many again to have something when one is done.
    assert count_leased(client, "seeded") <= 2 * 2 * 4
    for n in range(200):
        site.open_gate(str(n))
    wait_until(lambda: len(project.records()) == 200, "all pages")
    for worker in workers:
        stop(worker)
    assert set(site.hits().values()) == {1}


def test_batch_size_is_the_most_that_is_taken_at_once(project, site, client):
    project.spider(SEEDED)
    client.rpush(KEY, *[f"{site.url}/page/{n}" for n in range(40)])
    worker = project.crawl("seeded", settings={"REDIS_START_URLS_BATCH_SIZE": 1})
    wait_until(lambda: len(project.records()) == 40, "all pages")
    stop(worker)
    # And no more at once: one exchange for each at the least.
    assert worker.stats()["frontier/exchanges"] >= 40


def test_pages_count_also_where_a_seed_makes_several_or_none(project, site, client):
    project.spider("""
    from scrapy_dist.spiders import RedisSpider

    class Several(RedisSpider):
        name = "several"
        max_idle_time = 1

        def make_request_from_data(self, data):
            return [Request(f"{self.url}/page/{data.decode()}-{n}")
                for n in range(int(data))]

        def parse(self, response):
            record(self, url=response.url)
    """)
    client.rpush("several:start_urls", *range(4))
    worker = project.crawl(
        "several", args={"url": site.url}, settings={"SCHEDULER_PERSIST": True}
    )
    assert_finished([worker])
    pages = [f"/page/{seed}-{n}" for seed in range(4) for n in range(seed)]
    assert site.hits() == dict.fromkeys(pages, 1)
    assert client.hget("several:state", "pages") == b"6"
    stats = worker.stats()
    assert (stats["scheduler/enqueued"], stats["scheduler/dequeued"]) == (6, 6)
    assert stats["scheduler/enqueued/memory"] == 1
    assert stats["scheduler/enqueued/redis"] == 5


def test_seeds_wait_until_pending_requests_are_few(project, site, client):
    project.spider("""
    from scrapy_dist.spiders import RedisSpider

    class Pages(RedisSpider):
        name = "pages"
        max_idle_time = 1

        def parse(self, response):
            yield from response.follow_all(css="a::attr(href)", callback=self.below)

        def below(self, response):
            pass
    """)
    below = [f"page~{n}" for n in range(60)]
    first = f"{site.url}/links/{','.join(below)}"
    client.rpush("pages:start_urls", first)
    settings = {"CONCURRENT_REQUESTS": 1}
    site.answer(20)
    worker = project.crawl("pages", settings=settings)
    wait_until(lambda: site.hits().total() >= 3, "some pages")
    client.rpush("pages:start_urls", f"{site.url}/page/seed")
    site.resume()
    assert_finished([worker])
    assert site.hits().total() == 62
    assert site.paths().index("/page/seed") > 50


def test_request_that_cannot_be_serialized_is_crawled_under_its_seed(
    project, site, client
):
    project.spider("""
    import threading
    from scrapy_dist.spiders import RedisSpider

    class Lambdas(RedisSpider):
        name = "lambdas"
        max_idle_time = 1

        def make_request_from_data(self, data):
            url = data.decode()
            return Request(
                url,
                callback=lambda response: record(self, got=response.meta["n"]),
                errback=lambda failure: record(self, failed=url),
                meta={"lock": threading.Lock(), "n": url[-1]},
                dont_filter=True,
            )
    """)
    client.rpush("lambdas:start_urls", *[f"{site.url}/page/{n}" for n in range(3)])
    client.rpush(
        "lambdas:start_urls", f"{site.url}/once/503/a", f"{site.url}/status/500"
    )
    worker = project.crawl(
        "lambdas",
        frontier="addon",
        settings={"RETRY_ENABLED": True, "RETRY_HTTP_CODES": [503]},
    )
    assert_finished([worker])
    assert sorted(project.recorded("got")) == ["0", "1", "2", "a"]
    assert project.recorded("failed") == [f"{site.url}/status/500"]
    assert site.hits()["/once/503/a"] == 2
    assert failed(client, "lambdas") == []


#: Spider middlewares for what start() yields, by what they do with it.
_START = {
    "drop": """
        async for request in start:
            if not request.url.endswith("2"):
                yield request
    """,
    "replace": """
        async for request in start:
            yield Request(request.url + "-new", dont_filter=True)
    """,
    "copy": """
        async for request in start:
            await asyncio.sleep(0.05)
            yield request.replace(url=request.url + "-new")
    """,
    "twice": """
        async for request in start:
            yield request
            yield request.replace(url=request.url + "-new", meta={**meta(request)})
    """,
    "collect": """
        found = []
        async for request in start:
            found.append(request)
            if len(found) == 4:
                for request in found:
                    yield request
    """,
}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("drop", ["0", "1", "3"]),
        ("replace", ["0-new", "1-new", "2-new", "3-new"]),
        ("copy", ["0-new", "1-new", "2-new", "3-new"]),
        ("twice", ["0", "0-new", "1", "1-new", "2", "2-new", "3", "3-new"]),
        ("collect", ["0", "1", "2", "3"]),
    ],
)
def test_seeds_end_whatever_a_spider_middleware_does(
    project, site, client, kind, expected
):
    project.spider(SEEDED)
    source = "import asyncio\nfrom scrapy import Request\n\n"
    source += "def meta(request):\n    return request.meta\n\n"
    source += "class Start:\n    async def process_start(self, start):" + _START[kind]
    project.module("middlewares", source)
    client.rpush(KEY, *[f"{site.url}/page/{n}" for n in range(4)])
    settings = {
        "SPIDER_MIDDLEWARES": {"shop.middlewares.Start": 100},
        "MAX_IDLE_TIME_BEFORE_CLOSE": 1,
    }
    assert_finished([project.crawl("seeded", settings=settings)])
    assert site.hits() == {f"/page/{name}": 1 for name in expected}


def test_schedule_next_requests_past_the_spider_middlewares(project, site, client):
    project.spider("""
    from scrapy_dist.spiders import RedisSpider

    class Past(RedisSpider):
        name = "past"
        max_idle_time = 1

        async def start(self):
            while await self._seed_feed.wait():
                self.schedule_next_requests()
            return
            yield

        def parse(self, response):
            record(self, url=response.url)
    """)
    client.rpush("past:start_urls", *[f"{site.url}/page/{n}" for n in range(30)])
    worker = project.crawl("past")
    assert_finished([worker])
    assert site.hits() == {f"/page/{n}": 1 for n in range(30)}
    assert worker.stats()["scheduler/enqueued/memory"] == 30


def test_retry_of_a_seed_stays_under_its_lease(project, site, client):
    project.spider(SEEDED)
    paths = [f"/once/503/{n}" for n in range(20)]
    client.rpush(KEY, *[site.url + path for path in paths])
    settings = {"RETRY_ENABLED": True, "MAX_IDLE_TIME_BEFORE_CLOSE": 1}
    worker = project.crawl("seeded", settings=settings, frontier="addon")
    assert_finished([worker])
    assert site.hits() == dict.fromkeys(paths, 2)
    assert sorted(project.recorded("path")) == sorted(paths)
    stats = worker.stats()
    assert stats["scheduler/enqueued/memory"] == 40
    assert (stats["scheduler/enqueued"], stats["scheduler/dequeued"]) == (40, 40)


@pytest.mark.parametrize("dont_filter", [True, False])
def test_redirect_of_a_seed_stays_under_its_lease(project, site, client, dont_filter):
    project.spider(SEEDED)
    seed = {"url": f"{site.url}/redirect/302/gate/a", "dont_filter": dont_filter}
    client.rpush(KEY, json.dumps(seed))
    worker = project.crawl("seeded", frontier="addon")
    wait_until(lambda: site.hits()["/gate/a"], "the target")
    assert leased(client) == [SEED + json.dumps(seed).encode()]
    site.open_gate("a")
    wait_until(lambda: not count_leased(client, "seeded"), "the ack")
    stop(worker)
    assert project.recorded("path") == ["/gate/a"]
    assert client.hget("seeded:state", "pages") == b"1"


def test_stopped_worker_gives_seeds_back_as_seeds(project, site, client):
    project.spider(SEEDED)
    worker = project.crawl("seeded", settings={"CONCURRENT_REQUESTS": 1})
    urls = [f"{site.url}/gate/{n}" for n in range(10)]
    client.rpush(KEY, *urls)
    wait_until(lambda: site.hits()["/gate/0"], "the first page")
    wait_until(lambda: count_leased(client, "seeded") > 1, "a seed that is not started")
    worker.interrupt()
    worker.wait_for_log("Closing spider")
    site.open_gate("0")
    assert worker.wait() == 0

    assert count_leased(client, "seeded") == count_suspects(client, "seeded") == 0
    back = [member[24:] for member in client.zrange("seeded:requests", 0, -1)]
    assert back
    assert back == [SEED + url.encode() for url in urls[1 : 1 + len(back)]]
    result = run_frontier(
        project.folder, "peek", "seeded", "--redis", project.redis_url
    )
    assert urls[1] in result.stdout


def test_download_that_failed_sets_the_seed_aside_to_be_retried(project, site, client):
    project.spider(SEEDED)
    seeds = [
        f"{site.url}/once/404/a",
        json.dumps({"url": f"{site.url}/once/404/b", "priority": 3}),
        json.dumps(
            {"url": f"{site.url}/redirect/302/once/404/c", "dont_filter": False}
        ),
    ]
    client.rpush(KEY, *seeds)
    worker = project.crawl("seeded", frontier="addon")
    wait_until(lambda: count_failed(client, "seeded") == 3, "three dead letters")
    found = {letter["payload"].decode(): letter for letter in failed(client, "seeded")}
    assert set(found) == set(seeds)
    for letter in found.values():
        assert letter["kind"] == b"seed"
        assert letter["reason"] == b"HTTP 404 is not handled"
    outside = ("--redis", project.redis_url)
    listed = run_frontier(project.folder, "failed", "seeded", *outside).stdout
    assert all(f"/once/404/{name}" in listed for name in "abc")
    told = run_frontier(
        project.folder, "explain", "seeded", f"{site.url}/once/404/b", *outside
    ).stdout
    assert "place          failed" in told
    assert "HTTP 404" in told

    result = run_frontier(project.folder, "retry", "seeded", "--all", *outside)
    assert (result.returncode, count_failed(client, "seeded")) == (0, 0), result
    wait_until(lambda: len(project.records()) == 3, "all pages")
    stop(worker)
    assert site.hits() == {
        "/once/404/a": 2,
        "/once/404/b": 2,
        "/redirect/302/once/404/c": 2,
        "/once/404/c": 2,
    }
    assert worker.stats()["frontier/failed"] == 3


SEED_FIELDS = """
from scrapy_dist.spiders import RedisSpider

class Fields(RedisSpider):
    name = "fields"

    def parse(self, response):
        yield from self.note(response, "parse")

    def parse_seed(self, response, **kwargs):
        yield from self.note(response, "parse_seed", **kwargs)

    def note(self, response, callback, **kwargs):
        echo = json.loads(response.text)
        record(
            self, callback=callback, kwargs=kwargs, path=echo["path"],
            query=echo["query"], method=echo["method"], body=echo["body"],
            headers=echo["headers"], note=response.meta.get("note"),
            priority=response.request.priority,
            dont_filter=response.request.dont_filter,
        )
        return []
"""


def test_json_seed_with_all_fields(project, site, client):
    project.spider(SEED_FIELDS)
    seed = {
        "url": f"{site.url}/echo/all?b=2&a=1",
        "method": "post",
        "meta": {"note": {"list": [1, "two", None]}},
        "cb_kwargs": {"n": 5},
        "headers": {"X-Test": "yes"},
        "cookies": {"color": "red"},
        "body": "häagen",
        "priority": 3,
        "dont_filter": True,
        "callback": "parse_seed",
    }
    worker = project.crawl("fields")
    client.lpush("fields:start_urls", json.dumps(seed))
    wait_until(project.records, "the page")
    stop(worker)

    [record] = project.records()
    assert record["callback"] == "parse_seed"
    assert record["kwargs"] == {"n": 5}
    assert (record["path"], record["query"]) == ("/echo/all", "b=2&a=1")
    assert (record["method"], record["body"]) == ("POST", "häagen")
    assert record["headers"]["x-test"] == "yes"
    assert record["headers"]["cookie"] == "color=red"
    assert record["note"] == {"list": [1, "two", None]}
    assert record["priority"] == 3
    assert failed(client, "fields") == []


def test_json_seed_keeps_its_query_and_names_its_form_fields(project, site, client):
    project.spider(SEED_FIELDS)
    worker = project.crawl("fields")
    seeds = [
        {"url": f"{site.url}/echo/query?a=1&b=2"},
        {
            "url": f"{site.url}/echo/form?q=1",
            "method": "POST",
            "formdata": {"a": "1", "b": "x y"},
        },
        {"url": f"{site.url}/echo/unknown", "colour": "red"},
    ]
    for seed in seeds:
        client.lpush("fields:start_urls", json.dumps(seed))
    wait_until(
        lambda: len(project.records()) == 2 and failed(client, "fields"),
        "two pages and one dead letter",
    )
    stop(worker)

    records = {record["path"]: record for record in project.records()}
    assert records["/echo/query"]["query"] == "a=1&b=2"
    assert records["/echo/query"]["method"] == "GET"
    assert records["/echo/form"]["query"] == "q=1"
    assert records["/echo/form"]["body"] == "a=1&b=x+y"
    assert records["/echo/form"]["method"] == "POST"
    [letter] = failed(client, "fields")
    assert "colour" in letter["reason"].decode()


def test_setting_restores_the_form_fields_of_scrapy_redis(project, site, client):
    project.spider(SEED_FIELDS)
    settings = {"FRONTIER_SEED_FORM_FIELDS": True}
    worker = project.crawl("fields", settings=settings)
    seed = {"url": f"{site.url}/echo/form", "method": "POST", "a": "1", "b": "2"}
    client.lpush("fields:start_urls", json.dumps(seed))
    wait_until(project.records, "the page")
    stop(worker)

    [record] = project.records()
    assert (record["method"], record["body"]) == ("POST", "a=1&b=2")


#: Seeds that harm nobody: what is pushed, and words of which the reason has one.
BAD_SEEDS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "no-url": (b"not a url", ("url", "scheme")),
    "broken-json": (b'{"url": "http://127.0.0.1/', ("json",)),
    "json-number": (b"42", ("number", "object", "url", "scheme")),
    "json-list": (b'["http://127.0.0.1/a"]', ("list", "array", "object", "scheme")),
    "empty-object": (b"{}", ("url",)),
    "file": (b"file:///etc/passwd", ("file", "scheme")),
    "file-in-json": (b'{"url": "file:///etc/passwd"}', ("file", "scheme")),
    "invalid-utf-8": (b"http://127.0.0.1/\xff\xfe", ("utf-8", "text", "decode")),
    "ten-megabytes": (
        b'{"url": "http://127.0.0.1/' + b"x" * 10_000_000 + b'"}',
        ("bytes", "large", "size"),
    ),
    "callback-init": (
        b'{"url": "http://127.0.0.1/", "callback": "__init__"}',
        ("callback", "__init__"),
    ),
    "callback-missing": (
        b'{"url": "http://127.0.0.1/", "callback": "parse_nothing"}',
        ("parse_nothing",),
    ),
    "proxy": (
        b'{"url": "http://127.0.0.1/", "meta": {"proxy": "http://evil.example"}}',
        ("proxy",),
    ),
    "meta-list": (b'{"url": "http://127.0.0.1/", "meta": [1]}', ("meta",)),
    "url-number": (b'{"url": 5}', ("url",)),
    "empty": (b"", ("empty", "url")),
}


@pytest.fixture(scope="module")
def bad_seeds(shared_redis, shared_site, tmp_path_factory) -> Iterator[dict[str, Any]]:
    """One crawl of all bad seeds in one batch with good ones."""
    project = Project(tmp_path_factory.mktemp("bad") / "p", shared_redis.url)
    project.spider(SEEDED)
    shared_site.reset()
    with shared_redis.client() as client:
        client.flushall()
        for n, (seed, _) in enumerate(BAD_SEEDS.values()):
            client.rpush(KEY, f"{shared_site.url}/page/{n}", seed)
        worker = project.crawl("seeded")
        try:
            wait_until(
                lambda: (
                    len(project.records()) >= len(BAD_SEEDS)
                    and len(failed(client, "seeded")) >= len(BAD_SEEDS)
                ),
                "all good seeds crawled and all bad ones set aside",
            )
            running = worker.running()
            client.rpush(KEY, f"{shared_site.url}/page/after")
            wait_until(lambda: shared_site.hits()["/page/after"], "one more seed")
            stop(worker)
            yield {
                "failed": failed(client, "seeded"),
                "hits": shared_site.hits(),
                "running": running,
                "log": worker.log(),
            }
        finally:
            project.end()


def test_good_seeds_beside_bad_ones_are_crawled(bad_seeds):
    assert bad_seeds["running"]
    pages = {f"/page/{n}": 1 for n in range(len(BAD_SEEDS))}
    assert bad_seeds["hits"] == {**pages, "/page/after": 1}
    assert len(bad_seeds["failed"]) == len(BAD_SEEDS)
    assert "Traceback" not in bad_seeds["log"]


@pytest.mark.parametrize("name", BAD_SEEDS)
def test_bad_seed_is_set_aside_with_a_reason(bad_seeds, name):
    seed, words = BAD_SEEDS[name]
    letters = [
        letter for letter in bad_seeds["failed"] if _is_payload(letter["payload"], seed)
    ]

    assert len(letters) == 1
    [letter] = letters
    assert letter["kind"] == b"seed"
    reason = letter["reason"].decode()
    assert any(word in reason.lower() for word in words), reason
    assert len(reason) < 1000
    assert "Traceback" not in reason
    assert int(letter["time"]) > 0
    assert b":" in letter["worker"]


def _is_payload(payload: bytes, seed: bytes) -> bool:
    """Whether *payload* is *seed*, which may be tagged and, if large, shortened."""
    payload = payload.removeprefix(b"\x00")
    if len(seed) > 1_000_000:
        return payload[:100] == seed[:100]
    return payload == seed


def test_make_request_from_data_may_be_overridden(project, site, client):
    project.spider("""
    from scrapy_dist.spiders import RedisSpider

    class Numbers(RedisSpider):
        name = "numbers"

        def make_request_from_data(self, data):
            number = int(data)  # raises for what is no number
            if number == 0:
                return None
            if number == 1:
                return Request(f"{self.url}/page/one", callback=self.parse_page)
            return [Request(f"{self.url}/page/{number}-{i}") for i in range(number)]

        def parse(self, response):
            record(self, url=response.url, by="parse")

        def parse_page(self, response):
            record(self, url=response.url, by="parse_page")
    """)
    worker = project.crawl("numbers", args={"url": site.url})
    client.rpush("numbers:start_urls", "0", "1", "x", "3", "1")
    wait_until(
        lambda: len(project.records()) == 5 and failed(client, "numbers"), "all pages"
    )
    stop(worker)

    pages = {f"/page/3-{i}": 1 for i in range(3)}
    # FormRequest(dont_filter=True) is up to the spider here: one page/one is seen.
    assert site.hits() == {**pages, "/page/one": 2}
    assert Counter(project.recorded("by")) == {"parse": 3, "parse_page": 2}
    [letter] = failed(client, "numbers")
    assert _is_payload(letter["payload"], b"x")


def test_redis_crawl_spider_follows_rules(project, site, client):
    project.spider("""
    from urllib.parse import urlsplit
    from scrapy.linkextractors import LinkExtractor
    from scrapy.spiders import Rule
    from scrapy_dist.spiders import RedisCrawlSpider

    class Shop(RedisCrawlSpider):
        name = "shop"
        redis_key = "shop:seeds"
        rules = [
            Rule(LinkExtractor(allow="/tree/"), callback="parse_page", follow=True)
        ]

        def parse_page(self, response):
            record(self, path=urlsplit(response.url).path)
    """)
    seed = "/links/tree~40~3~0,page~other"
    client.lpush("shop:seeds", f"{site.url}{seed}")
    workers = start_together(
        project, site, 2, "shop", settings={"MAX_IDLE_TIME_BEFORE_CLOSE": 1}
    )
    assert_finished(workers)

    assert site.hits() == {**tree_pages(40, 3), seed: 1}
    assert Counter(project.recorded("path")) == tree_pages(40, 3)


def test_sitemap_spider_with_redis_mixin(project, site, client):
    project.spider("""
    from urllib.parse import urlsplit
    from scrapy.spiders import SitemapSpider
    from scrapy_dist.spiders import RedisMixin

    class Maps(RedisMixin, SitemapSpider):
        name = "maps"
        sitemap_rules = [("/page/", "parse_page")]

        def parse_page(self, response):
            record(self, path=urlsplit(response.url).path)
    """)
    client.lpush("maps:start_urls", f"{site.url}/sitemap/20")
    workers = start_together(
        project, site, 2, "maps", settings={"MAX_IDLE_TIME_BEFORE_CLOSE": 1}
    )
    assert_finished(workers)

    pages = {f"/page/map-{i}": 1 for i in range(20)}
    assert site.hits() == {**pages, "/sitemap/20": 1}
    assert Counter(project.recorded("path")) == pages
    assert failed(client, "maps") == []


def test_classic_set_up_of_the_mixin_still_works(project, site, client):
    """As the README of scrapy-redis shows it, with ``setup_redis``."""
    project.spider("""
    from scrapy_dist.spiders import RedisMixin

    class Classic(RedisMixin, Spider):
        name = "classic"
        redis_key = "classic:urls"
        redis_batch_size = 2
        redis_encoding = "utf-8"
        max_idle_time = 1

        @classmethod
        def from_crawler(cls, crawler, *args, **kwargs):
            spider = super().from_crawler(crawler, *args, **kwargs)
            spider.setup_redis(crawler)
            return spider

        def parse(self, response):
            record(self, url=response.url, ping=self.server.ping())
    """)
    client.rpush("classic:urls", *[f"{site.url}/page/{n}" for n in range(5)])
    assert_finished([project.crawl("classic")])

    assert site.hits() == {f"/page/{n}": 1 for n in range(5)}
    assert project.recorded("ping") == [True] * 5


def test_another_scheduler_is_an_error_and_an_exit_code(project, site):
    project.spider(SEEDED)
    worker = project.crawl("seeded", frontier="memory")
    assert worker.wait() == 1
    assert worker.reason() == "configuration_error"
    assert worker.log().count("cannot serve the seeds") == 1
    assert "Traceback" not in worker.log()
