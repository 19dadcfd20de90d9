"""Crawls with a frontier in memory: no Redis anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from tests.support.commands import run_frontier
from tests.support.project import assert_finished, package_parent
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW

MEMORY = {"REDIS_URL": "memory://"}

#: Two crawls, one after the other, in one process: of seeds, then of a start URL.
SCRIPT = """
import json, sys
from scrapy import Spider
from scrapy.crawler import CrawlerProcess
from scrapy_dist import Client
from scrapy_dist.spiders import RedisSpider

class Seeded(RedisSpider):
    name = "seeded"
    max_idle_time = 0.2

    def parse(self, response):
        yield {"url": response.url}

class Broken(Spider):
    name = "broken"
    start_urls = [sys.argv[1]]

    def parse(self, response):
        raise ValueError("no")

settings = {
    "REDIS_URL": "memory://test",
    "ADDONS": {"scrapy_dist.Addon": 500},
    "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 1},
    "STATS_CLASS": "scrapy_dist.stats.RedisStatsCollector",
}
with Client("memory://test", "seeded") as seeded, Client("memory://test", "broken") as b:
    seeded.seed_many(f"{sys.argv[1]}?{n}" for n in range(20))
    process = CrawlerProcess(settings)
    process.crawl(Seeded)
    process.crawl(Broken)
    process.start()
    print(json.dumps({
        "items": sorted(item["url"] for item in seeded.items()),
        "left": seeded.status().left + b.status().left,
        "failed": [letter.reason for letter in b.failed()],
        "history": len(seeded.history()),
    }))
"""


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_crawl_without_any_redis(make_project, site, frontier):
    project = make_project(None)
    project.spider(FOLLOW)
    settings = {**MEMORY, "FRONTIER_LOCAL_FINGERPRINTS": 10}
    url = f"{site.url}/tree/30/3/0"
    worker = project.crawl("follow", settings, {"url": url}, frontier=frontier)
    assert_finished([worker])
    assert site.hits() == tree_pages(30, 3)
    assert not list(project.folder.glob(".scrapy/frontier/*"))


def test_seeds_items_and_dead_letters_of_a_process(site, tmp_path):
    script = tmp_path / "crawl.py"
    script.write_text(textwrap.dedent(SCRIPT))
    run = subprocess.run(
        [sys.executable, str(script), f"{site.url}/tree/1/1/0"],
        env={"PATH": "/nowhere", "PYTHONPATH": package_parent()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["items"] == sorted(f"{site.url}/tree/1/1/0?{n}" for n in range(20))
    assert told["left"] == 0
    [reason] = told["failed"]
    assert "ValueError" in reason
    assert told["history"] == 1


def test_commands_say_that_they_do_not_see_it(make_project):
    project = make_project(None)
    run = run_frontier(project.folder, "status", "s", "-s", "REDIS_URL=memory://")
    assert run.returncode == 2
    assert "REDIS_URL = 'memory://' is a frontier inside the process" in run.stderr
