"""Workers that die or hang take nothing with them."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.support.project import assert_finished
from tests.support.redis_state import (
    count_leased,
    count_pending,
    count_workers,
    failed,
    wait_for_workers,
)
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.together import start_together
from tests.support.wait import wait_until

TTL = {"FRONTIER_WORKER_TTL": 2.0}


def at_work(site, count: int, workers) -> None:
    """Wait until each of *workers* has fetched *count* pages."""
    wait_until(
        lambda: all(site.hits_by_worker()[w.agent] >= count for w in workers),
        f"{count} pages of each worker",
    )


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_pages_of_a_killed_worker_are_crawled_by_the_others(
    project, site, redis_server, frontier
):
    project.spider(FOLLOW)
    site.delay(60)
    workers = start_together(
        project,
        site,
        3,
        "follow",
        answers=160,
        args={"url": f"{site.url}/tree/240/3/0"},
        settings={**TTL, "CONCURRENT_REQUESTS": 4},
        frontier=frontier,
    )
    at_work(site, 4, workers)
    workers[1].kill()
    site.resume()
    assert_finished([workers[0], workers[2]])

    # The callback ran for every page; what the dead one held ran again at most.
    done = Counter(project.recorded("path"))
    assert set(done) == set(tree_pages(240, 3))
    assert max(site.hits().values()) <= 1 + project.deaths()
    with redis_server.client() as client:
        assert failed(client, "follow") == []


def test_all_workers_killed_then_started_again(project, site, redis_server):
    project.spider(FOLLOW)
    site.delay(60)
    crawl = {
        "args": {"url": f"{site.url}/tree/120/3/0"},
        "settings": {**TTL, "CONCURRENT_REQUESTS": 4},
    }
    workers = start_together(project, site, 2, "follow", answers=80, **crawl)
    at_work(site, 4, workers)
    for worker in workers:
        worker.freeze()  # else the second takes over at once what the first held
    for worker in workers:
        worker.kill()
    site.delay(0)
    assert_finished(start_together(project, site, 2, "follow", **crawl))

    assert set(project.recorded("path")) == set(tree_pages(120, 3))
    # None was held by both.
    assert max(site.hits().values()) <= project.deaths()
    with redis_server.client() as client:
        assert failed(client, "follow") == []


def test_worker_killed_while_it_yields_start_requests(project, site):
    project.spider("""
    import os
    from urllib.parse import urlsplit

    class Starts(Spider):
        name = "starts"

        async def start(self):
            for i in range(40):
                yield Request(f"{self.url}/page/{i}", dont_filter=True)
                while i == 25 and not os.path.exists("may-end"):
                    await asyncio.sleep(0.01)

        def parse(self, response):
            record(self, path=urlsplit(response.url).path)
    """)
    args = {"url": site.url}
    first = project.crawl("starts", args=args, settings=TTL)
    wait_until(lambda: site.hits().total() >= 10, "ten pages")
    first.kill()
    (project.folder / "may-end").touch()
    assert_finished([project.crawl("starts", args=args, settings=TTL)])

    assert set(project.recorded("path")) == {f"/page/{i}" for i in range(40)}
    assert len(site.hits()) == 40
    assert max(site.hits().values()) <= 1 + project.deaths()


def test_worker_killed_at_the_very_start(project, site, redis_server):
    """It holds the lease of the only request there is."""
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/gate/all/tree/20/3/0"}
    workers = start_together(project, site, 3, "follow", args=args, settings=TTL)
    with redis_server.client() as client:
        wait_for_workers(client, "follow", 3)
    gate = "/gate/all/tree/20/3/0"
    wait_until(lambda: site.hits()[gate], "the first page")
    holder = site.first(gate).agent
    [dead] = [worker for worker in workers if worker.agent == holder]
    dead.kill()
    site.open_gate("all")
    assert_finished([worker for worker in workers if worker is not dead])

    assert Counter(project.recorded("path")) == {gate: 1, **tree_pages(20, 3)}
    assert site.hits() == {gate: 2, **tree_pages(20, 3)}


def test_frozen_worker_loses_its_leases_and_comes_back(project, site, redis_server):
    project.spider(FOLLOW)
    site.delay(100)
    workers = start_together(
        project,
        site,
        3,
        "follow",
        answers=300,
        args={"url": f"{site.url}/tree/400/3/0"},
        settings={**TTL, "CONCURRENT_REQUESTS": 4},
    )
    at_work(site, 4, workers)
    workers[0].freeze()
    with redis_server.client() as client:
        wait_for_workers(client, "follow", 2)
        workers[0].thaw()
        site.resume()
        wait_for_workers(client, "follow", 3)
        assert_finished(workers)
        assert failed(client, "follow") == []

    assert set(project.recorded("path")) == set(tree_pages(400, 3))
    assert max(site.hits().values()) <= 1 + project.deaths()


def test_frozen_worker_that_wakes_up_after_the_end_just_ends(
    project, site, redis_server
):
    project.spider(FOLLOW)
    site.delay(50)
    workers = start_together(
        project,
        site,
        2,
        "follow",
        answers=40,
        args={"url": f"{site.url}/tree/60/3/0"},
        settings={**TTL, "CONCURRENT_REQUESTS": 3},
    )
    at_work(site, 3, workers)
    workers[0].freeze()
    site.resume()
    assert_finished([workers[1]])
    assert set(project.recorded("path")) == set(tree_pages(60, 3))

    workers[0].thaw()
    assert workers[0].wait() == 0
    with redis_server.client() as client:
        assert failed(client, "follow") == []
        assert count_pending(client, "follow") == 0


def test_page_that_kills_its_worker_takes_no_other_along(project, site, redis_server):
    project.spider("""
    import os
    from urllib.parse import urlsplit

    class Poison(Spider):
        name = "poison"

        async def start(self):
            yield Request(self.url)

        def parse(self, response):
            path = urlsplit(response.url).path
            if path.endswith("/7"):
                os._exit(1)
            record(self, path=path)
            yield from response.follow_all(css="a::attr(href)")
    """)
    site.delay(50)
    workers = start_together(
        project,
        site,
        3,
        "poison",
        args={"url": f"{site.url}/tree/60/3/0"},
        settings={**TTL, "FRONTIER_MAX_DELIVERIES": 2},
    )
    codes = sorted(worker.wait() for worker in workers)
    assert codes == [0, 1, 1]

    expected = set(tree_pages(60, 3))
    below = {f"/tree/60/3/{n}" for n in (7, 22, 23, 24)}
    assert set(project.recorded("path")) == expected - below
    with redis_server.client() as client:
        [letter] = failed(client, "poison")
    assert letter["kind"] == b"request"
    assert b"/tree/60/3/7" in letter["payload"]
    assert "died" in letter["reason"].decode()


def test_seed_of_a_killed_worker_is_crawled_by_another(project, site, redis_server):
    project.spider(SEEDED)
    first = project.crawl("seeded", settings=TTL)
    with redis_server.client() as client:
        wait_for_workers(client, "seeded", 1)
        seeds = [f"{site.url}/gate/all/page/{n}" for n in range(5)]
        client.lpush("seeded:start_urls", *seeds)
        wait_until(lambda: site.hits().total() == 5, "all seeds in work")
        second = project.crawl("seeded", settings=TTL)
        wait_for_workers(client, "seeded", 2)
        first.kill()
        site.open_gate("all")
        expected = {f"/gate/all/page/{n}": 1 for n in range(5)}
        wait_until(lambda: len(project.records()) == 5, "all pages")
        second.interrupt()
        assert second.wait() == 0
        assert Counter(project.recorded("path")) == expected
        assert failed(client, "seeded") == []


def test_seed_of_a_killed_worker_is_made_into_its_request_again(
    project, site, redis_server
):
    """Also where that was redirected, was not started yet, and cannot be stored."""
    project.spider("""
    from urllib.parse import urlsplit
    from scrapy_dist.spiders import RedisSpider

    class Made(RedisSpider):
        name = "made"

        def make_request_from_data(self, data):
            path = data.decode()
            return Request(
                self.url + path,
                callback=lambda response: self.note(path, response),
                dont_filter="filtered" not in path,
            )

        def note(self, path, response):
            record(self, path=path, end=urlsplit(response.url).path)
    """)
    settings = {**TTL, "CONCURRENT_REQUESTS": 5}
    first = project.crawl("made", settings=settings, args={"url": site.url})
    seeds = [
        "/gate/all/plain",
        "/redirect/302/gate/all/redirected",
        "/redirect/302/gate/all/filtered",
    ]
    more = [f"/gate/all/{n}" for n in range(10)]
    with redis_server.client() as client:
        wait_for_workers(client, "made", 1)
        client.rpush("made:start_urls", *seeds)
        wait_until(lambda: site.hits()["/gate/all/filtered"], "the redirects followed")
        client.rpush("made:start_urls", *more)
        wait_until(lambda: count_leased(client, "made") > 5, "one that is not started")
        [dead] = client.zrange("made:workers", 0, -1)
        first.kill()
        second = project.crawl("made", settings=settings, args={"url": site.url})
        wait_until(  # the second may take over as soon as it is there
            lambda: (
                count_workers(client, "made") == 1
                and client.zscore("made:workers", dead) is None
            ),
            "the dead one gone",
        )
        site.open_gate("all")
        seeds += more
        wait_until(lambda: len(project.records()) == len(seeds), "all pages")
        wait_until(lambda: not count_leased(client, "made"), "all acks")
        second.interrupt()
        assert second.wait() == 0
        assert sorted(project.recorded("path")) == sorted(seeds)
        assert failed(client, "made") == []
        assert client.hget("made:state", "pages") == str(len(seeds)).encode()


def test_seed_that_kills_its_workers_is_a_dead_letter_of_its_own(
    project, site, redis_server
):
    project.spider("""
    import os
    from urllib.parse import urlsplit
    from scrapy_dist.spiders import RedisSpider

    class Deadly(RedisSpider):
        name = "deadly"
        max_idle_time = 4

        def parse(self, response):
            path = urlsplit(response.url).path
            if path.endswith("poison"):
                os._exit(1)
            record(self, path=path)
    """)
    pages = [f"/page/{n}" for n in range(30)]
    paths = [*pages[:15], "/page/poison", *pages[15:]]
    site.delay(50)
    with redis_server.client() as client:
        client.rpush("deadly:start_urls", *[site.url + path for path in paths])
        workers = start_together(
            project,
            site,
            3,
            "deadly",
            settings={**TTL, "FRONTIER_MAX_DELIVERIES": 2, "SCHEDULER_PERSIST": True},
        )
        assert sorted(worker.wait() for worker in workers) == [0, 1, 1]
        [letter] = failed(client, "deadly")

    assert letter["kind"] == b"seed"
    assert letter["payload"] == f"{site.url}/page/poison".encode()
    assert "died" in letter["reason"].decode()
    assert set(project.recorded("path")) == set(pages)


def test_login_of_a_killed_worker_is_done_again(project, site):
    project.spider("""
    from urllib.parse import urlsplit

    class Login(Spider):
        name = "login"
        handle_httpstatus_list = [403]

        async def start(self):
            form = {"user": "u", "password": "p"}
            yield FormRequest(f"{self.url}/login", self.logged_in, formdata=form)

        def logged_in(self, response):
            self.member(response)
            yield from response.follow_all(
                css="a::attr(href)", callback=self.member, meta={"frontier_local": True}
            )

        def member(self, response):
            record(self, path=urlsplit(response.url).path, status=response.status)
    """)
    workers = start_together(
        project,
        site,
        2,
        "login",
        answers=12,  # the form, its redirect, and ten members
        args={"url": site.url},
        settings={**TTL, "CONCURRENT_REQUESTS": 2},
    )
    wait_until(lambda: len(project.records()) >= 5, "some members' pages")
    holder = project.recorded("worker")[0]
    [dead] = [worker for worker in workers if worker.agent == holder]
    dead.kill()
    site.resume()
    assert_finished([worker for worker in workers if worker is not dead])

    assert set(project.recorded("path")) == {f"/members/{n}" for n in range(21)}
    assert set(project.recorded("status")) == {200}
    assert site.hits()["/login"] == 2


def test_redirect_of_a_killed_worker_is_followed_again(project, site):
    """Also by a worker that has itself met the target, as a duplicate."""
    project.spider(FOLLOW)
    site.delay(50)
    target = "/gate/g/page/x"
    redirect = f"/redirect/302{target}"
    other = f"/gate/second{target}"
    links = ",".join(path[1:].replace("/", "~") for path in (redirect, other))
    first, second = start_together(
        project,
        site,
        2,
        "follow",
        args={"url": f"{site.url}/links/{links}"},
        settings={**TTL, "CONCURRENT_REQUESTS": 1},
    )
    wait_until(lambda: {target, other} <= set(site.hits()), "one at each gate")
    holder = site.first(target).agent
    assert site.first(other).agent != holder
    dead, alive = (first, second) if first.agent == holder else (second, first)
    site.open_gate("second")
    wait_until(lambda: other in project.recorded("path"), "the duplicate is met")
    time.sleep(0.5)  # and sent
    dead.kill()
    site.open_gate("g")
    assert_finished([alive])

    expected = {f"/links/{links}": 1, other: 1, target: 1, "/page/x": 1}
    assert Counter(project.recorded("path")) == expected
    assert site.hits()[redirect] == 2
    assert site.hits()[target] == 2
