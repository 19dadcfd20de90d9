"""Tasks in real crawls: each ends once, with the right counts, whatever comes of its pages."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections import Counter

from tests.support.project import package_parent
from tests.support.site import tree_pages

#: What comes of seeds in all the ways that requests go: links, chains that run ahead of the
#: broker, redirects, retries, requests that stay in their worker, errbacks.
SPIDER = """
from urllib.parse import urlsplit
from scrapy import Request
from scrapy_dist.spiders import RedisSpider

class Seeded(RedisSpider):
    name = "seeded"
    max_idle_time = 0.5
    custom_settings = {
        "RETRY_ENABLED": True, "RETRY_HTTP_CODES": [503], "RETRY_PRIORITY_ADJUST": 0,
    }

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
        yield Request(self.settings["SITE"] + "/page/rescue")
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
    "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 1},
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
    "errback": ("/page/unreachable", "unreachable", 3, 0, 2),
}


def seeds_of(url: str) -> list[dict[str, object]]:
    return [
        {"url": url + path, "id": id_, "batch": "all"}
        | ({"callback": callback} if callback else {})
        for id_, (path, callback, *_) in TASKS.items()
    ]


def check(tasks: dict[str, dict[str, object]]) -> None:
    for id_, (_, _, done, failed, items) in TASKS.items():
        task = tasks[id_]
        shown = (task["state"], task["open"], task["done"], task["failed"])
        assert shown == ("failed" if failed else "done", 0, done, failed), id_
        assert task["items"] == items, id_
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
        {"url": f"{site.url}/page/again", "id": "tree"},
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
    assert len(told["letters"]) == 4
    hits = site.hits()
    assert not hits.keys() & {"/page/again", "/page/bad"}
    assert hits["/page/none"] == 1
    trees = Counter({p: n for p, n in hits.items() if p.startswith("/tree")})
    assert trees == tree_pages(15, 2)
    assert sum(path.startswith("/chain") for path in hits) == 30
