"""Fixtures of all tests: a real Redis, a loopback site, a throw-away Scrapy project.

* ``redis_server``: `RedisServer`, shared by all tests and empty at the start of each.
  A test may leave in it only keys that a frontier has, and those that its mark names:
  ``@pytest.mark.keeps("pattern*", reason="…")``.
* ``client``: a client of ``redis_server``.
* ``own_redis``: `RedisServer` of this test alone, to kill, freeze or roll back.
* ``make_redis``: like ``own_redis`` with options, e.g. ``make_redis(appendonly="yes")``.
* ``site``: `Site`, the loopback site, with no request counted yet.
* ``project``: `Project` whose Redis is ``redis_server``. A crawl of it that ended as
  ``finished`` leaves only dead letters, items and history.
* ``make_project``: ``make_project(redis_url)`` for another Redis, or None.
* ``hosts``: `Site` with six more hosts, each an address of loopback.
* ``rabbitmq``: `RabbitServer`, shared; a test declares queues of its own. Skipped where
  RabbitMQ is not. Its tests are `TOGETHER`.
* ``shared_redis``, ``shared_site``: the same things for fixtures of a whole module.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import scrapy.utils.log

from tests.support.leaks import allowed_keys, finished, leaked, strange
from tests.support.project import Project
from tests.support.rabbitmq import NO_RABBITMQ, RabbitServer, find_programs
from tests.support.redis_server import RedisServer
from tests.support.site import Site

if TYPE_CHECKING:
    import redis

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts its background jobs, and the processes of the tests inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # So nohup starts its program: a handler lives on in no process of the tests.
    signal.signal(signal.SIGHUP, lambda signum, frame: None)

# No test depends on how fast the machine is.
hypothesis.settings.register_profile(
    "slow machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("slow machine")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """What Scrapy has set up for a process of its own goes with the test that ran it.

    Its handler writes to what was stderr then, and each new crawler renews it.
    """
    loggers = (logging.root, logging.getLogger("scrapy"))
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    handler = scrapy.utils.log.get_scrapy_root_handler()
    if handler is not None:
        logging.root.removeHandler(handler)
        scrapy.utils.log._scrapy_root_handler = None


_outcome = pytest.StashKey[bool]()


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as processors: many tests wait for a crawl, or a TTL."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


#: How the tests begin that share what costs many seconds: each group is in one process.
TOGETHER = {
    "tests/crash/test_bridge_": "RabbitMQ",
    "tests/integration/bridge/": "RabbitMQ",
    "tests/integration/test_example.py::test_rabbitmq": "RabbitMQ",
    "tests/integration/crawl/test_crawl_errors.py::test_wrong_set_up": "wrong set-ups",
    "tests/integration/crawl/test_crawl_like_scrapy.py::test_same_": "like Scrapy",
    "tests/integration/crawl/test_crawl_like_scrapy.py::test_no_warning_": "like Scrapy",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each test by itself, to whoever is free, but those that are `TOGETHER`."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            found = (TOGETHER[each] for each in TOGETHER if nodeid.startswith(each))
            return next(found, nodeid)

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    """Remember whether the test failed, for fixtures that then show their logs."""
    report = yield
    if report.when == "call":
        item.stash[_outcome] = report.failed
    return report


def _failed(request: pytest.FixtureRequest) -> bool:
    return request.node.stash.get(_outcome, False)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One redis-server for the whole run; not flushed."""
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        yield server


@pytest.fixture
def redis_server(
    shared_redis: RedisServer, request: pytest.FixtureRequest
) -> Iterator[RedisServer]:
    """The shared redis-server, empty."""
    with shared_redis.client() as client:
        client.flushall()
        yield shared_redis
        if not _failed(request):
            left = strange(client, allowed_keys(request.node))
            assert left == [], "keys of no frontier in Redis"


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of ``redis_server``; where brokers are tested, that of fake_redis.py."""
    with redis_server.client() as client:
        yield client


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """One broker for all tests of `WITH_RABBITMQ`."""
    programs = find_programs()
    if programs is None or importlib.util.find_spec("pika") is None:
        pytest.skip(NO_RABBITMQ)
    server = RabbitServer(tmp_path_factory.mktemp("rabbitmq"), programs)
    yield server
    server.stop()


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start a redis-server of this test's own, with options."""
    servers: list[RedisServer] = []

    def make(**options: str) -> RedisServer:
        folder = tmp_path / f"redis-{len(servers)}"
        servers.append(RedisServer(folder, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def own_redis(make_redis: Callable[..., RedisServer]) -> RedisServer:
    """A redis-server of this test's own."""
    return make_redis()


@pytest.fixture(scope="session")
def shared_site() -> Iterator[Site]:
    """One site for the whole run; not reset."""
    server = Site()
    yield server
    server.stop()


@pytest.fixture
def site(shared_site: Site) -> Site:
    """The loopback site, with an empty log."""
    shared_site.reset()
    return shared_site


@pytest.fixture(scope="session")
def shared_hosts() -> Iterator[Site]:
    """One site of six more hosts for the whole run; not reset."""
    server = Site(hosts=6)
    yield server
    server.stop()


@pytest.fixture
def hosts(shared_hosts: Site) -> Site:
    """A site of six more hosts, with an empty log; see `Site.gaps` and `host_pages`."""
    shared_hosts.reset()
    return shared_hosts


@pytest.fixture
def make_project(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Project]]:
    """Make a Scrapy project; its workers are killed at the end of the test."""
    projects: list[Project] = []

    def make(redis_url: str | None, **settings: Any) -> Project:
        folder = tmp_path / f"project-{len(projects)}"
        projects.append(Project(folder, redis_url, settings))
        return projects[-1]

    yield make
    for project in projects:
        project.end()
        if _failed(request):
            for worker in project.workers:
                print(f"--- {worker.agent} ({worker.log_path})\n{worker.tail()}")


@pytest.fixture
def project(
    make_project: Callable[..., Project],
    redis_server: RedisServer,
    request: pytest.FixtureRequest,
) -> Iterator[Project]:
    """A Scrapy project whose Redis is ``redis_server``."""
    project = make_project(redis_server.url)
    yield project
    project.end()
    if _failed(request):
        return
    allowed = allowed_keys(request.node)
    with redis_server.client() as client:
        left = [
            k for crawl in finished(project) for k in leaked(client, allowed, crawl)
        ]
    assert left == [], "keys of finished crawls in Redis"
