"""What is wrong at the start is said once, clearly, and the process fails."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import scrapy.settings.default_settings as scrapy_defaults
from scrapy import version_info

from tests.support.project import Project, Worker, assert_finished
from tests.support.redis_server import RedisServer, free_port
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.together import start_together


@dataclass
class Case:
    """A wrong set-up, and what the error must contain."""

    words: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    redis: str = "plain"
    spider: str = "follow"
    frontier: str = "classic"
    #: Whether it is a defect of the project's code, which has a traceback.
    defect: bool = False


FREE_PORT = free_port()

CASES = {
    "no-redis": Case(
        ("REDIS_URL", f"127.0.0.1:{FREE_PORT}"),
        {"REDIS_URL": f"redis://127.0.0.1:{FREE_PORT}/0"},
    ),
    "no-redis-by-host": Case(
        ("REDIS_HOST", "127.0.0.1", str(FREE_PORT)),
        {"REDIS_URL": None, "REDIS_HOST": "127.0.0.1", "REDIS_PORT": FREE_PORT},
    ),
    "no-redis-with-addon": Case(
        ("REDIS_URL", f"127.0.0.1:{FREE_PORT}"),
        {"REDIS_URL": f"redis://127.0.0.1:{FREE_PORT}/0"},
        frontier="addon",
    ),
    "no-redis-for-seeds": Case(
        ("REDIS_URL", f"127.0.0.1:{FREE_PORT}"),
        {"REDIS_URL": f"redis://127.0.0.1:{FREE_PORT}/0"},
        spider="seeded",
    ),
    "wrong-password": Case(("REDIS_URL", "password"), redis="wrong-password"),
    "no-password": Case(("REDIS_URL", "password"), redis="no-password"),
    "requests-is-a-string": Case(
        ("follow:requests", "string", "SCHEDULER_QUEUE_KEY"), redis="requests"
    ),
    "dupefilter-is-a-list": Case(
        ("follow:dupefilter", "list", "SCHEDULER_DUPEFILTER_KEY"), redis="dupefilter"
    ),
    "seeds-are-a-hash": Case(
        ("seeded:start_urls", "hash"), redis="seeds", spider="seeded"
    ),
    "redis-evicts": Case(
        ("maxmemory-policy", "allkeys-lru", "noeviction", "FRONTIER_ALLOW_EVICTION"),
        redis="evicting",
    ),
    "other-reactor": Case(
        ("TWISTED_REACTOR", "SelectReactor", "AsyncioSelectorReactor"),
        {"TWISTED_REACTOR": "twisted.internet.selectreactor.SelectReactor"},
    ),
    "queue-class": Case(
        ("SCHEDULER_QUEUE_CLASS", "no.such.Queue"),
        {"SCHEDULER_QUEUE_CLASS": "no.such.Queue"},
    ),
    "serializer": Case(
        ("SCHEDULER_SERIALIZER", "no_such_module"),
        {"SCHEDULER_SERIALIZER": "no_such_module"},
    ),
    "serializer-without-loads": Case(
        ("SCHEDULER_SERIALIZER", "loads"), {"SCHEDULER_SERIALIZER": "html"}
    ),
    "ttl-is-text": Case(
        ("FRONTIER_WORKER_TTL", "soon"), {"FRONTIER_WORKER_TTL": "soon"}
    ),
    "ttl-is-negative": Case(("FRONTIER_WORKER_TTL", "-1"), {"FRONTIER_WORKER_TTL": -1}),
    "deliveries-are-negative": Case(
        ("FRONTIER_MAX_DELIVERIES", "-1"), {"FRONTIER_MAX_DELIVERIES": -1}
    ),
    "idle-is-negative": Case(
        ("SCHEDULER_IDLE_BEFORE_CLOSE", "-1"), {"SCHEDULER_IDLE_BEFORE_CLOSE": -1}
    ),
    "key-template": Case(
        ("SCHEDULER_QUEUE_KEY", "nope"), {"SCHEDULER_QUEUE_KEY": "%(nope)s"}
    ),
    "one-key-twice": Case(
        ("SCHEDULER_QUEUE_KEY", "SCHEDULER_DUPEFILTER_KEY", "same"),
        {"SCHEDULER_QUEUE_KEY": "same", "SCHEDULER_DUPEFILTER_KEY": "same"},
    ),
    "url-scheme": Case(
        ("REDIS_URL", "redis://"), {"REDIS_URL": "http://127.0.0.1:6379"}
    ),
    "max-idle-is-text": Case(
        ("MAX_IDLE_TIME_BEFORE_CLOSE", "never"),
        {"MAX_IDLE_TIME_BEFORE_CLOSE": "never"},
        spider="seeded",
    ),
    "dupefilter-fails": Case(
        ("ValueError('made on purpose')",),
        {"DUPEFILTER_CLASS": "shop.wrong.WrongFilter"},
        defect=True,
    ),
    "scheduler-fails": Case(
        ("ValueError('opened on purpose')",),
        {"SCHEDULER": "shop.wrong.WrongScheduler"},
        defect=True,
    ),
    "batch-size-is-zero": Case(
        ("REDIS_START_URLS_BATCH_SIZE", "0"),
        {"REDIS_START_URLS_BATCH_SIZE": 0},
        spider="seeded",
    ),
}


#: ``shop.wrong``, components that fail.
WRONG = """
from scrapy_dist.dupefilter import RFPDupeFilter
from scrapy_dist.scheduler import Scheduler

class WrongFilter(RFPDupeFilter):
    @classmethod
    def from_crawler(cls, crawler):
        raise ValueError("made on purpose")

class WrongScheduler(Scheduler):
    def open(self, spider):
        super().open(spider)
        raise ValueError("opened on purpose")
"""


@dataclass
class Run:
    worker: Worker
    code: int


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shared_site) -> Iterator[dict[str, Run]]:
    """All wrong set-ups, four processes at a time."""
    folder = tmp_path_factory.mktemp("errors")
    servers = {
        "plain": RedisServer(folder / "plain"),
        "password": RedisServer(folder / "password", requirepass="secret"),
        "evicting": RedisServer(
            folder / "evicting", maxmemory="50mb", maxmemory_policy="allkeys-lru"
        ),
    }
    with servers["plain"].client() as client:
        for number, name in ((1, "requests"), (2, "dupefilter"), (3, "seeds")):
            client.select(number)
            if name == "requests":
                client.set("follow:requests", "text")
            elif name == "dupefilter":
                client.lpush("follow:dupefilter", "text")
            else:
                client.hset("seeded:start_urls", "a", "b")
    plain = servers["plain"].url.removesuffix("/0")
    password = servers["password"].url
    urls = {
        "plain": f"{plain}/0",
        "requests": f"{plain}/1",
        "dupefilter": f"{plain}/2",
        "seeds": f"{plain}/3",
        "wrong-password": password.replace("secret", "hunter2"),
        "no-password": password.replace(":secret@", ""),
        "evicting": servers["evicting"].url,
    }
    project = Project(folder / "project", None)
    project.spider(FOLLOW)
    project.spider(SEEDED)
    project.module("wrong", WRONG)
    try:
        yield _run_all(project, urls, f"{shared_site.url}/tree/3/2/0")
    finally:
        project.end()
        for server in servers.values():
            server.kill()


def _run_all(project: Project, urls: dict[str, str], url: str) -> dict[str, Run]:
    done: dict[str, Run] = {}
    waiting = list(CASES.items())
    running: dict[str, tuple[Worker, float]] = {}
    while waiting or running:
        while waiting and len(running) < 4:
            name, case = waiting.pop(0)
            worker = project.crawl(
                case.spider,
                settings={"REDIS_URL": urls[case.redis], **case.settings},
                args={"url": url},
                frontier=case.frontier,
            )
            running[name] = (worker, time.monotonic())
        for name, (worker, started) in list(running.items()):
            if time.monotonic() - started > 200:
                worker.kill()  # its exit code then is below 0
            if not worker.running():
                done[name] = Run(worker, worker.wait(1))
                del running[name]
        time.sleep(0.05)
    return done


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_wrong_set_up_is_one_clear_error(runs, name):
    run, case = runs[name], CASES[name]
    log = run.worker.log()

    assert run.code > 0, log
    # The words stand together, in one paragraph of the log, without a traceback.
    lines = [line for line in log.splitlines() if all(w in line for w in case.words)]
    assert "hunter2" not in log
    assert lines, log
    if version_info < (2, 14) or name == "other-reactor":
        # There Scrapy waits with a Deferred, and Twisted adds its own account of the
        # error: it ends with the same words.
        # A scheduler that fails when it is open leaves a coroutine, which Python tells.
        told = [n for n in log.strip().splitlines() if "[py.warnings]" not in n]
        last = told[-1]
        assert last in lines[-1] or (case.defect and last.endswith("on purpose"))
        return
    assert len(lines) == 1, log
    assert log.count("Traceback") == case.defect
    assert len(re.findall(r" (?:ERROR|CRITICAL): ", log)) <= 1, log


def test_eviction_can_be_allowed(make_redis, make_project, site):
    server = make_redis(maxmemory="50mb", maxmemory_policy="allkeys-lru")
    project = make_project(server.url, FRONTIER_ALLOW_EVICTION=True)
    project.spider(FOLLOW)
    assert_finished([project.crawl("follow", args={"url": f"{site.url}/tree/10/3/0"})])
    assert site.hits() == tree_pages(10, 3)


def test_password_in_the_url_is_used_and_never_logged(make_redis, make_project, site):
    server = make_redis(requirepass="sesame-open")
    project = make_project(server.url, LOG_LEVEL="DEBUG")
    project.spider(FOLLOW)
    project.spider(SEEDED)
    worker = project.crawl("follow", args={"url": f"{site.url}/tree/10/3/0"})
    assert_finished([worker])
    assert site.hits() == tree_pages(10, 3)
    ours = [line for line in worker.log().splitlines() if "scrapy_dist" in line]
    assert not [line for line in ours if "sesame-open" in line]


@pytest.mark.skipif(
    not hasattr(scrapy_defaults, "TWISTED_REACTOR_ENABLED"),
    reason="this Scrapy always uses a Twisted reactor",
)
def test_without_a_twisted_reactor(project, site):
    project.spider(FOLLOW)
    project.spider(SEEDED)
    settings = {"TWISTED_REACTOR_ENABLED": False, "MAX_IDLE_TIME_BEFORE_CLOSE": 1}
    args = {"url": f"{site.url}/graph/60/3/0"}
    workers = start_together(project, site, 2, "follow", args=args, settings=settings)
    workers.append(project.crawl("seeded", settings=settings))
    assert_finished(workers)
    assert site.hits().total() == 60
    assert len(site.hits()) == 60
