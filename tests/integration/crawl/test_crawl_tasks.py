"""Tasks in real crawls: each ends once, with the right counts, whatever comes of its pages."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import textwrap
from collections import Counter

import scrapy

from tests.support.project import assert_finished, package_parent
from tests.support.redis_state import damage, failed, keys_of, results_of, task_of
from tests.support.site import tree_pages
from tests.support.together import start_together
from tests.support.wait import wait_until

#: What comes of seeds in all the ways that requests go: links, chains that run ahead of the
#: broker, redirects, retries, requests that stay in their worker, errbacks; what middlewares,
#: pipelines and extensions give the engine by hand.
SPIDER = """
from urllib.parse import urlsplit
from scrapy import Request, signals
from scrapy.downloadermiddlewares.retry import get_retry_request
from scrapy.utils.defer import maybe_deferred_to_future
from scrapy_dist.spiders import RedisSpider

class ByHand:
    def __init__(self, crawler):
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler)

    def crawl(self, path, **options):
        url = self.crawler.settings["SITE"] + "/page/" + path
        self.crawler.engine.crawl(Request(url, **options))

class Downloads(ByHand):
    def process_request(self, request, spider):
        if request.url.endswith("/going"):
            self.crawl("going-1")
        if request.url.endswith("refused"):
            raise ValueError("refused")

    def process_response(self, request, response, spider):
        if urlsplit(request.url).path in ("/page/raises", "/page/raises-too"):
            raise ValueError("no good")
        if request.url.endswith("/moved"):
            return request.replace(url=request.url + "-1", dont_filter=False)
        return response

class Outermost(ByHand):
    async def process_spider_output_async(self, response, result, spider):
        async for output in result:
            yield output
        if response.url.endswith("/page/more"):
            yield Request(response.url + "-1")

    def process_spider_output(self, response, result, spider):
        yield from result
        if response.url.endswith("/page/more"):
            yield Request(response.url + "-1")

class Pipeline(ByHand):
    async def process_item(self, item, spider):
        if item["path"] == "/page/piped":
            self.crawl("piped-1", meta={"frontier_local": True})
        return item

class Extension(ByHand):
    def __init__(self, crawler):
        super().__init__(crawler)
        for signal in (signals.item_scraped, signals.response_received):
            crawler.signals.connect(self.sees, signal)

    def sees(self, signal, response=None, **others):
        if response is not None and response.url.endswith("/page/seen"):
            self.crawl("seen-1" if signal is signals.item_scraped else "seen-2")

class Seeded(RedisSpider):
    name = "seeded"
    max_idle_time = 0.5
    custom_settings = {
        "RETRY_ENABLED": True, "RETRY_HTTP_CODES": [503], "RETRY_PRIORITY_ADJUST": 0,
        "DOWNLOADER_MIDDLEWARES": {Downloads: 700},
        "SPIDER_MIDDLEWARES": {Outermost: 10},
        "EXTENSIONS": {Extension: 1},
        "ITEM_PIPELINES": {Pipeline: 0, "scrapy_dist.pipelines.RedisPipeline": 1},
    }

    def given(self, response):
        self.crawler.engine.crawl(response.follow("/page/given-1"))
        self.crawler.engine.crawl(
            response.follow("/page/given-2", dont_filter=True)
        )

    async def asks(self, response):
        engine = self.crawler.engine
        request = response.follow("/redirect/302/page/asked")
        if hasattr(engine, "download_async"):
            found = await engine.download_async(request)
        else:
            found = await maybe_deferred_to_future(engine.download(request))
        yield found.follow("/page/asked-1")
        engine.crawl(found.follow("/page/asked-2"))

    def again(self, response):
        if response.meta.get("retry_times"):
            return {"path": "again"}
        return get_retry_request(response.request, spider=self, reason="empty")

    def gives(self, failure):
        self.crawler.engine.crawl(Request(self.settings["SITE"] + "/page/rescue/gives"))

    def parse(self, response):
        yield {"path": urlsplit(response.url).path}
        yield from response.follow_all(css="a::attr(href)")

    def local(self, response):
        yield response.follow("/page/stays", self.after, meta={"frontier_local": True})

    def after(self, response):
        yield response.follow("/page/after")

    def unreachable(self, response):
        yield Request("http://127.0.0.1:1/", errback=self.rescued, cb_kwargs={})

    async def rescued(self, failure):
        assert failure.request.errback == self.rescued
        yield {"path": "rescued"}
        path = urlsplit(failure.request.url).path
        yield Request(self.settings["SITE"] + "/page/rescue" + path)
"""

SCRIPT = (
    SPIDER
    + """
import asyncio, dataclasses, json, sys
from scrapy.crawler import CrawlerProcess
from scrapy.settings import Settings
from scrapy_dist import Client
from scrapy_dist.brokers.memory.broker import MemoryBroker

settings = {
    "REDIS_URL": "memory://tasks",
    "ADDONS": {"scrapy_dist.Addon": 500},
    "SITE": sys.argv[1],
    "LOG_LEVEL": "INFO",
}
seeds = json.loads(sys.argv[2])

async def tell(crawl):
    tasks = [task async for some in crawl.tasks() for task in some]
    return {
        task.id: {
            **dataclasses.asdict(task),
            "state": task.state.value,
            "results": [json.loads(x) for x in await crawl.results(task, 0, 100)],
        }
        for task in tasks
    }

with Client("memory://tasks", "seeded") as client:
    client.seed_many(seed for seed in seeds if seed.get("id") != [])
    crawl = MemoryBroker.of(Settings(settings)).crawl(Settings(settings), "seeded")
    crawl._state.push_seeds(
        "seeded:start_urls", [json.dumps(s).encode() for s in seeds if s.get("id") == []]
    )
    process = CrawlerProcess(settings)
    process.crawl(Seeded)
    process.start()
    print(json.dumps({
        "tasks": asyncio.run(tell(crawl)),
        "letters": [letter.reason for letter in client.failed()],
        "left": client.status().left,
    }))
"""
)

#: Scrapy 2.13.0 forgets what the errback of a failed download yields.
_YIELDS = scrapy.version_info >= (2, 13, 2)

#: Path, callback, and how the task ends: pages, dead letters, items.
TASKS = {
    "tree": ("/tree/15/2/0", "", 15, 0, 15),
    "chain": ("/chain/30/0", "", 30, 0, 30),
    "redirect": ("/redirect/302/page/target", "", 1, 0, 1),
    "retry": ("/once/503/seed", "", 1, 0, 1),
    "retried": ("/links/once~503~child", "", 2, 0, 2),
    "missing": ("/links/status~404~a,page~b", "", 2, 1, 2),
    "gone": ("/status/404/c", "", 0, 1, 0),
    "local": ("/page/local", "local", 2, 0, 1),
    "handled": ("/status/404/d", "", 2, 0, 2),
    "refused": ("/page/refused", "", 0, 1, 0),
    "raises": ("/page/raises", "", 1 + _YIELDS, 0, 2 * _YIELDS),
    "raises too": ("/page/raises-too", "", 0, 1, 0),
    "moved": ("/page/moved", "", 1, 0, 1),
    "moved child": ("/links/page~child~moved", "", 2, 0, 2),
    "again": ("/page/again", "again", 1, 0, 1),
    "errback": ("/page/unreachable", "unreachable", 2 + _YIELDS, 0, 2 * _YIELDS),
}
#: What is given to the engine by hand; before Scrapy 2.14 it is of no task.
if scrapy.version_info >= (2, 14):
    TASKS |= {
        "going": ("/page/going", "", 2, 0, 2),
        "more": ("/page/more", "", 2, 0, 2),
        "piped": ("/page/piped", "", 1, 0, 2),
        "seen": ("/page/seen", "", 3, 0, 3),
        "given": ("/page/given", "given", 3, 0, 2),
        "asked": ("/page/asks", "asks", 3, 0, 2),
        "gives": ("/page/gives-refused", "", 2, 0, 1),
    }
_ERRBACKS = {"handled": "rescued", "raises": "rescued", "gives": "gives"}


def seeds_of(url: str) -> list[dict[str, object]]:
    return [
        {"url": url + path, "id": id_, "batch": "all"}
        | ({"callback": callback} if callback else {})
        | ({"errback": _ERRBACKS[id_]} if id_ in _ERRBACKS else {})
        for id_, (path, callback, *_) in TASKS.items()
    ]


def check(tasks: dict[str, dict[str, object]]) -> None:
    for id_, (_, _, done, letters, items) in TASKS.items():
        task = tasks[id_]
        shown = (task["state"], task["open"], task["done"], task["failed"])
        assert shown == ("failed" if letters else "done", 0, done, letters), id_
        assert task["items"] == items, (id_, task["results"])
        assert len(task["results"]) == items, id_  # type: ignore[arg-type]
        assert 0 < task["submitted_ms"] <= task["started_ms"] <= task["ended_ms"]  # type: ignore[operator]
        assert task["worker"], id_
    assert tasks["missing"]["reason"] == tasks["gone"]["reason"]
    assert tasks["gone"]["reason"] == "HTTP 404 is not handled"


def test_tasks_of_a_process(site, tmp_path):
    script = tmp_path / "crawl.py"
    script.write_text(textwrap.dedent(SCRIPT))
    seeds = seeds_of(site.url)
    seeds += [
        {"url": f"{site.url}/page/never", "id": "tree"},
        {"url": f"{site.url}/page/bad", "id": []},
        {"url": f"{site.url}/page/none"},
    ]
    run = subprocess.run(
        [sys.executable, str(script), site.url, json.dumps(seeds)],
        env={"PATH": "/nowhere", "PYTHONPATH": package_parent()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)

    check(told["tasks"])
    assert told["tasks"].keys() == TASKS.keys()
    assert told["left"] == 0
    refused = [r for r in told["letters"] if "still queued or running" in r]
    assert len(refused) == 1
    assert sum("id is a JSON list" in reason for reason in told["letters"]) == 1
    assert len(told["letters"]) == 2 + sum(
        letters for _, _, _, letters, _ in TASKS.values()
    )
    hits = site.hits()
    assert not hits.keys() & {"/page/never", "/page/bad"}
    assert hits["/page/none"] == 1
    trees = Counter({p: n for p, n in hits.items() if p.startswith("/tree")})
    assert trees == tree_pages(15, 2)
    assert sum(path.startswith("/chain") for path in hits) == 30


def test_each_task_ends_once_though_a_worker_is_killed(project, site, redis_server):
    project.spider(SPIDER)
    settings = {"SITE": site.url, "FRONTIER_WORKER_TTL": 2.0, "CONCURRENT_REQUESTS": 4}
    seeds = seeds_of(site.url)
    trees = {f"tree {n}": 20 + n for n in range(6)}
    seeds += [{"url": f"{site.url}/tree/{n}/3/0", "id": t} for t, n in trees.items()]
    with redis_server.client() as client:
        client.rpush("seeded:start_urls", *map(json.dumps, seeds))
        workers = start_together(
            project, site, 2, "seeded", answers=90, settings=settings, frontier="addon"
        )
        wait_until(lambda: site.waiting()[workers[1].agent] >= 2, "pages in work")
        workers[1].kill()
        site.resume()
        assert_finished(workers[:1])

        told = {}
        for id_ in [*TASKS, *trees]:
            task = task_of(client, "seeded", id_)
            assert task is not None, id_
            results = [json.loads(x) for x in results_of(client, "seeded", id_)]
            told[id_] = {
                **dataclasses.asdict(task),
                "state": task.state.value,
                "results": results,
            }
        check(told)
        for id_, size in trees.items():
            task, pages = told[id_], tree_pages(size, 3)
            shown = (task["state"], task["open"], task["done"], task["failed"])
            assert shown == ("done", 0, size, 0)
            assert Counter(item["path"] for item in task["results"]) == pages
        tokens = {told[id_]["token"].encode() for id_, row in TASKS.items() if row[3]}
        of_tasks = keys_of("seeded")
        for key in (of_tasks.tasks, of_tasks.results, of_tasks.tasks_ended):
            assert client.pttl(key) > 0  # they outlive the crawl, but not for ever
        assert {letter["task"] for letter in failed(client, "seeded")} == tokens
    assert damage(redis_server.url, "seeded") == {}
