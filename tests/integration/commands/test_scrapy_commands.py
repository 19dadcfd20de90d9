"""Scrapy's commands that are no crawl leave the frontier alone."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from scrapy import Request, Spider
from scrapy import crawler as crawler_module
from scrapy.commands import ScrapyCommand, crawl, fetch, shell
from scrapy.dupefilters import BaseDupeFilter
from scrapy.statscollectors import MemoryStatsCollector
from scrapy.utils.request import RequestFingerprinter

from scrapy_dist.dupefilter import RFPDupeFilter
from scrapy_dist.scheduler import Scheduler
from scrapy_dist.worker.command import command_without_crawl
from tests.support.project import FRONTIERS, SETTINGS, assert_finished, package_parent
from tests.support.redis_state import count_items, count_pending, count_workers
from tests.support.wait import wait_until

SPIDERS = """
from urllib.parse import urlsplit
from scrapy_dist.spiders import RedisSpider

class Page:
    def parse(self, response):
        '''A page, for scrapy check.

        @url $SITE/page/contract
        @returns items 1 1
        @returns requests 1 1
        '''
        yield {"path": urlsplit(response.url).path}
        yield Request(f"$SITE/page/next-{self.name}", self.leaf)

    def leaf(self, response):
        yield {"path": urlsplit(response.url).path}

    def links(self, response):
        yield from response.follow_all(css="a::attr(href)", callback=self.leaf)

class Plain(Page, Spider):
    name = "plain"

    async def start(self):
        yield Request("$SITE/tree/1001/1000/0", self.links)

class Seeded(Page, RedisSpider):
    name = "seeded"

    @classmethod
    def handles_request(cls, request):
        # What the commands find without --spider.
        return "-any" in request.url
"""

ASKING = """

class Asking(Seeded):
    name = "asking"

    def parse(self, response):
        self.schedule_next_requests()
        yield from self.next_requests()
        yield from super().parse(response)
"""

#: What a project may have that writes into Redis.
WRITERS = {
    "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 300},
    "STATS_CLASS": "scrapy_dist.stats.RedisStatsCollector",
}

BROWSER = """\
#!{python}
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1]).read().decode())
"""


class Commands:
    """Runs Scrapy's commands in a project, each in a process of its own."""

    def __init__(self, project, site, frontier, **settings):
        self.site = site
        self.folder = project.folder
        self.settings = {**SETTINGS, **FRONTIERS[frontier], **WRITERS, **settings}
        self.settings.setdefault("REDIS_URL", project.redis_url)
        self.settings["USER_AGENT"] = "command"
        browser = self.folder / "browser"
        browser.write_text(BROWSER.format(python=sys.executable))
        browser.chmod(0o755)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
        self.env |= {
            "CRAWL_SETTINGS": repr(self.settings),
            "PYTHONPATH": package_parent(),
            "BROWSER": f"{browser} %s",
        }

    def run(self, *args):
        return subprocess.run(
            [sys.executable, *args],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )

    def show(self, command, page, *options):
        """Run a *command* that asks for one page and shows it."""
        more = {
            "parse": ["--pipelines", "--depth", "2"],
            "shell": ["-c", "response.text"],
        }
        url = f"{self.site.url}/page/{page}"
        done = self.run("-m", "scrapy", command, *options, *more.get(command, []), url)
        assert done.returncode == 0, done.stdout
        shown = f"/page/{page}" if command == "parse" else f"<title>page {page}<"
        assert shown in done.stdout, done.stdout
        assert "ERROR" not in done.stdout, done.stdout
        return [f"/page/{page}"]

    def check(self, *spiders):
        done = self.run("-m", "scrapy", "check", *spiders)
        assert done.returncode == 0, done.stdout
        assert "\nOK\n" in done.stdout, done.stdout
        return ["/page/contract"] * (len(spiders) or 2)

    def bench(self):
        # Its server has one port for the whole machine.
        with Path(tempfile.gettempdir(), "scrapy-dist-bench.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = self.run("-m", "scrapy", "bench", "-s", "CLOSESPIDER_TIMEOUT=1")
        assert done.returncode == 0, done.stdout
        assert "Closing spider (closespider_timeout)" in done.stdout, done.stdout
        assert "'scheduler/dequeued/memory'" in done.stdout, done.stdout
        return []

    def run_all(self, calls):
        """Run *calls*, several at a time; the pages that they ask for."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pages = list(pool.map(lambda call: call[0](*call[1:]), calls))
        return Counter(page for some in pages for page in some)


def all_calls(commands, *spiders):
    yield (commands.bench,)
    for command in ("fetch", "parse", "shell", "view"):
        yield commands.show, command, f"{command}-any"
        for spider in spiders:
            page = f"{command}-{spider}"
            yield commands.show, command, page, f"--spider={spider}"
    yield (commands.check,)
    yield commands.check, spiders[-1]


def dump(client):
    return {key: (client.dump(key), client.pttl(key)) for key in client.scan_iter()}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_a_stopped_crawl_is_byte_for_byte_the_same(
    frontier, make_project, own_redis, site
):
    project = make_project(own_redis.url, **WRITERS)
    project.spider(SPIDERS.replace("$SITE", site.url))
    client = own_redis.client()
    client.rpush("seeded:start_urls", *(f"{site.url}/page/s{n}" for n in range(20)))
    # The one page that it may crawl leaves a thousand.
    stop = {"CLOSESPIDER_PAGECOUNT": 1, "CONCURRENT_REQUESTS": 1}
    for name in ("plain", "seeded"):
        assert project.crawl(name, settings=stop, frontier=frontier).wait() == 0
    assert count_pending(client, "plain") == 1000
    before = dump(client)
    site.reset()
    received = client.info("stats")["total_connections_received"]

    commands = Commands(project, site, frontier)
    pages = commands.run_all(all_calls(commands, "plain", "seeded"))

    assert client.info("stats")["total_connections_received"] == received
    assert dump(client) == before
    hits = site.hits()
    assert {page: hits[page] for page in pages} == pages
    # Beside what was asked for there are the links that parse followed (--depth 2).
    # The shell of Scrapy 2.13 runs start(), too.
    known = (*pages, "/page/next-plain", "/page/next-seeded", "/robots.txt")
    others = [path for path in hits if path not in known]
    assert all(path.startswith("/tree/") for path in others), others


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_they_need_no_redis(frontier, project, site):
    project.spider(SPIDERS.replace("$SITE", site.url))
    commands = Commands(project, site, frontier, REDIS_URL="redis://127.0.0.1:1/0")
    pages = commands.run_all(
        [
            (commands.check, "seeded"),
            (commands.show, "fetch", "a", "--spider=plain"),
            (commands.show, "parse", "b", "--spider=seeded"),
            (commands.show, "shell", "c"),
        ]
    )
    hits = site.hits()
    assert {page: hits[page] for page in pages} == pages


def test_they_start_no_embedded_redis(make_project, site):
    """Also not for a pipeline that wants a client, and a spider that asks for seeds."""
    project = make_project(None)
    project.spider(SPIDERS.replace("$SITE", site.url) + ASKING)
    project.module(
        "own",
        """
        from scrapy_dist.pipelines import RedisPipeline

        class Own(RedisPipeline):
            def __init__(self, server, key="k", serialize_func=str):
                super().__init__(server, key, serialize_func)
                self.script = server.register_script("return 1")
        """,
    )
    commands = Commands(project, site, "addon")
    commands.settings["ITEM_PIPELINES"] = {"shop.own.Own": 300}
    del commands.settings["REDIS_URL"]
    commands.env["CRAWL_SETTINGS"] = repr(commands.settings)
    commands.show("parse", "a", "--spider=asking")
    assert not list(commands.folder.rglob("*.sock"))


@pytest.mark.timeout(300)
@pytest.mark.keeps("seeded:stats", reason="commands count into it")
def test_a_crawl_goes_on_beside_them(project, site, redis_server):
    project.spider(SPIDERS.replace("$SITE", site.url))
    seeds = [f"{site.url}/page/s{n}" for n in range(20)]
    args = {"max_idle_time": 3}
    with redis_server.client() as client:
        worker = project.crawl("seeded", settings=WRITERS, frontier="addon", args=args)
        client.rpush("seeded:start_urls", f"{site.url}/gate/crawl/")
        wait_until(lambda: "/gate/crawl/" in site.hits(), "the crawl is at work")
        commands = Commands(project, site, "addon")
        pages = commands.run_all(
            [
                (commands.check, "seeded"),
                (commands.show, "fetch", "a", "--spider=seeded"),
                (commands.show, "parse", "b", "--spider=seeded"),
                (commands.show, "shell", "c", "--spider=seeded"),
            ]
        )
        assert count_workers(client, "seeded") == 1
        client.rpush("seeded:start_urls", *seeds)
        site.open_gate("crawl")
        assert_finished([worker])
        crawled = Counter(h.path for h in site.log() if h.agent == worker.agent)
        assert crawled == {
            **{f"/page/s{n}": 1 for n in range(20)},
            "/gate/crawl/": 1,
            "/page/next-seeded": 1,
        }
        asked = Counter(h.path for h in site.log() if h.agent == "command")
        assert {page: asked[page] for page in pages} == pages
        assert count_items(client, "seeded") == sum(crawled.values())


def test_a_program_is_a_crawl(project, site, redis_server):
    project.spider(SPIDERS.replace("$SITE", site.url))
    program = project.folder / "program.py"
    program.write_text(
        textwrap.dedent("""
        from scrapy.crawler import CrawlerProcess
        from scrapy.utils.project import get_project_settings

        class Program:
            def run(self):
                process = CrawlerProcess(get_project_settings())
                process.crawl("plain")
                process.start()

        Program().run()
        """)
    )
    commands = Commands(project, site, "classic", CLOSESPIDER_PAGECOUNT=1)
    done = commands.run("program.py")
    assert done.returncode == 0, done.stdout
    with redis_server.client() as client:
        assert count_pending(client, "plain") == 1000


# The command that runs


class _Running(ScrapyCommand):
    """A command of a project; *inside*: what it calls to run a crawler."""

    def short_desc(self):
        return "a test"

    def run(self, args, opts):
        return self.inside()


def running(base, inside):
    """What *inside* returns while a command derived from *base* runs."""

    class Command(_Running, base):
        def run(self, args, opts):
            return self.inside()

    command = Command()
    command.inside = inside
    return command.run([], None)


class Crawler:
    pass


def found():
    return command_without_crawl(Crawler())


def test_commands_derived_from_scrapys_are_no_crawl():
    assert running(fetch.Command, found) == "fetch"
    assert running(shell.Command, found) == "shell"


def test_a_project_s_own_command_is_a_crawl():
    assert running(crawl.Command, found) == ""
    assert running(ScrapyCommand, found) == ""


def test_the_innermost_command_counts():
    assert running(crawl.Command, lambda: running(fetch.Command, found)) == "fetch"
    assert running(fetch.Command, lambda: running(crawl.Command, found)) == ""


def test_the_shell_runs_its_crawler_in_another_thread():
    with ThreadPoolExecutor(1) as pool:

        def elsewhere():
            return pool.submit(found).result()

        assert running(shell.Command, elsewhere) == "shell"
        assert running(fetch.Command, elsewhere) == ""
        assert elsewhere() == ""


def test_what_runs_a_crawler_is_remembered():
    crawler = Crawler()
    running(fetch.Command, lambda: command_without_crawl(crawler))
    assert command_without_crawl(crawler) == "fetch"


# The filter in memory


class AsksRedis(RFPDupeFilter):
    def request_seen(self, request):
        raise AssertionError("a command asked Redis")


class NamesByPath(RFPDupeFilter):
    def request_fingerprint(self, request):
        return urlsplit(request.url).path


@pytest.mark.parametrize(
    ("filter_class", "second"),
    [(AsksRedis, False), (NamesByPath, False), (BaseDupeFilter, True)],
)
def test_commands_filter_without_redis(filter_class, second):
    settings = {
        "DUPEFILTER_CLASS": filter_class,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "SCHEDULER_PRIORITY_QUEUE": "scrapy.pqueues.ScrapyPriorityQueue",
    }
    crawler = crawler_module.Crawler(Spider, settings)
    crawler.stats = MemoryStatsCollector(crawler)
    crawler.request_fingerprinter = RequestFingerprinter(crawler)
    crawler.spider = Spider("any")
    crawler.spider.crawler = crawler
    scheduler = running(fetch.Command, lambda: Scheduler.from_crawler(crawler))
    scheduler.open(crawler.spider)
    request = Request("http://localhost/a")
    assert scheduler.enqueue_request(request)
    assert scheduler.enqueue_request(request.copy()) is second
    assert scheduler.next_request().url == request.url
