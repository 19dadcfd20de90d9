"""Redis that restarts, comes back from older data, or is flushed loses no page."""

from __future__ import annotations

import time

from tests.support.project import assert_finished
from tests.support.redis_state import count_pending, failed
from tests.support.site import graph_pages, tree_pages
from tests.support.spiders import FOLLOW
from tests.support.together import start_together
from tests.support.wait import wait_until

TTL = {"FRONTIER_WORKER_TTL": 2.0}


def start(project, site, pages: int, answers: int):
    project.spider(FOLLOW)
    site.delay(60)
    return start_together(
        project,
        site,
        2,
        "follow",
        answers=answers,
        args={"url": f"{site.url}/tree/{pages}/3/0"},
        settings=TTL,
    )


def test_redis_killed_and_started_again(make_redis, make_project, site):
    server = make_redis(appendonly="yes")
    project = make_project(server.url)
    workers = start(project, site, 300, answers=200)
    wait_until(lambda: site.hits().total() >= 40, "40 pages")
    server.kill()
    for worker in workers:
        worker.wait_for_log("No exchange with Redis")
    site.resume()
    server.start()
    assert_finished(workers)

    assert set(project.recorded("path")) == set(tree_pages(300, 3))
    assert max(site.hits().values()) <= 2 + project.deaths()
    with server.client() as client:
        assert failed(client, "follow") == []
        assert count_pending(client, "follow") == 0


def test_redis_goes_back_to_older_data(make_redis, make_project, site):
    server = make_redis(appendonly="yes")
    project = make_project(server.url)
    workers = start(project, site, 300, answers=40)
    wait_until(lambda: site.hits().total() > 40, "40 pages")
    snapshot = server.snapshot()
    site.answer(120)
    wait_until(lambda: site.hits().total() > 160, "120 pages more")
    server.restore(snapshot)
    site.resume()
    assert_finished(workers)

    assert set(project.recorded("path")) == set(tree_pages(300, 3))
    with server.client() as client:
        assert failed(client, "follow") == []
        assert count_pending(client, "follow") == 0


def test_redis_frozen_for_longer_than_the_ttl(make_redis, make_project, site):
    """Nobody could beat, so nobody is declared dead: every page is fetched once."""
    server = make_redis()
    project = make_project(server.url)
    project.spider(FOLLOW)
    site.delay(20)
    workers = start_together(
        project,
        site,
        2,
        "follow",
        answers=120,
        args={"url": f"{site.url}/graph/200/4/0"},
        settings=TTL,
    )
    wait_until(lambda: site.hits().total() >= 40, "40 pages")
    server.freeze()
    time.sleep(3.5)
    site.resume()
    server.thaw()
    assert_finished(workers)

    assert site.hits() == graph_pages(200, 4)


def test_redis_flushed_in_mid_crawl(make_redis, make_project, site):
    """What the workers hold is crawled; they end by themselves and hide nothing."""
    server = make_redis()
    project = make_project(server.url)
    workers = start(project, site, 150, answers=90)
    wait_until(lambda: site.hits().total() > 90, "90 pages")
    with server.client() as client:
        client.flushall()
    site.resume()
    assert_finished(workers)
    assert any("WARNING" in worker.log() for worker in workers)


def test_worker_closes_when_its_patience_with_redis_is_over(
    make_redis, make_project, site
):
    server = make_redis(appendonly="yes")
    project = make_project(server.url)
    project.spider(FOLLOW)
    site.delay(60)
    args = {"url": f"{site.url}/tree/60/3/0"}
    settings = {"FRONTIER_REDIS_PATIENCE": 1.5, "FRONTIER_CLOSE_TIMEOUT": 0.5, **TTL}
    site.answer(40)
    worker = project.crawl("follow", args=args, settings=settings)
    wait_until(lambda: site.hits().total() >= 10, "ten pages")
    server.kill()
    site.resume()
    assert worker.wait() == 1
    assert worker.reason() == "redis_unavailable"
    assert worker.log().count("FRONTIER_REDIS_PATIENCE") == 1

    server.start()
    assert_finished([project.crawl("follow", args=args, settings=settings)])
    assert set(project.recorded("path")) == set(tree_pages(60, 3))
