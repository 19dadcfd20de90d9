"""Cookies live in one worker, so what needs them stays there."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.project import assert_finished
from tests.support.site import tree_pages
from tests.support.together import start_together
from tests.support.wait import wait_until

LOGIN = """
from urllib.parse import urlsplit

class Login(Spider):
    name = "login"
    handle_httpstatus_list = [403]

    async def start(self):
        yield FormRequest(
            f"{self.url}/login", self.logged_in, formdata={"user": "u", "password": "p"}
        )
        yield Request(f"{self.url}/tree/150/3/0", self.follow)

    def logged_in(self, response):
        self.note(response)
        yield from response.follow_all(
            css="a::attr(href)", callback=self.member, meta={"frontier_local": True}
        )

    def member(self, response):
        self.note(response)

    def follow(self, response):
        self.note(response)
        yield from response.follow_all(css="a::attr(href)", callback=self.follow)

    def note(self, response):
        record(self, path=urlsplit(response.url).path, status=response.status)
"""

MEMBERS = Counter(f"/members/{n}" for n in range(21))


def test_login_works_with_three_workers(project, site):
    project.spider(LOGIN)
    site.delay(20)
    how = {"args": {"url": site.url}, "settings": {"CONCURRENT_REQUESTS": 4}}
    workers = start_together(project, site, 3, "login", 60, **how)
    wait_until(lambda: len(site.waiting()) == 3, "all at work")
    site.resume()
    assert_finished(workers)

    assert site.hits() == {**tree_pages(150, 3), **MEMBERS, "/login": 1}
    assert set(project.recorded("status")) == {200}
    assert set(site.hits_by_worker()) == {worker.agent for worker in workers}
    session = {h.agent for h in site.log() if h.path.startswith(("/members", "/login"))}
    assert len(session) == 1


def test_redirects_stay_in_the_worker_that_received_them(project, site):
    project.spider("""
    from urllib.parse import urlsplit

    class Redirects(Spider):
        name = "redirects"
        handle_httpstatus_list = [403]

        async def start(self):
            yield Request(f"{self.url}/page/start")

        def parse(self, response):
            for i in range(30):
                yield Request(
                    f"{self.url}/setcookie/c{i}/v/redirect/302/needcookie/c{i}/v/x",
                    self.note,
                )

        def note(self, response):
            record(self, path=urlsplit(response.url).path, status=response.status)
    """)
    site.delay(50)
    how = {"args": {"url": site.url}, "settings": {"CONCURRENT_REQUESTS": 4}}
    workers = start_together(project, site, 3, "redirects", 6, **how)
    wait_until(lambda: len(site.waiting()) > 1, "more than one at work")
    site.resume()
    assert_finished(workers)

    expected = Counter({"/page/start": 1})
    for i in range(30):
        needs = f"/needcookie/c{i}/v/x"
        expected.update([f"/setcookie/c{i}/v/redirect/302{needs}"])
        expected.update([f"/redirect/302{needs}", needs])
    assert site.hits() == expected
    assert project.recorded("status") == [200] * 30
    assert len(site.hits_by_worker()) > 1


@pytest.mark.parametrize("stop", ["interrupt", "pagecount"])
def test_local_requests_are_not_lost_by_a_stop(project, site, stop):
    """They are under the lease of the login, which is then done again."""
    project.spider(LOGIN)
    site.delay(50)
    settings = {"CONCURRENT_REQUESTS": 2}
    if stop == "pagecount":
        settings["CLOSESPIDER_PAGECOUNT"] = 8
    first = project.crawl("login", args={"url": site.url}, settings=settings)
    if stop == "interrupt":
        first.wait_for_log("Spider opened")
        wait_until(lambda: site.hits()["/members/3"], "some member pages")
        first.interrupt()
    assert first.wait() == 0
    site.delay(0)

    assert_finished([project.crawl("login", args={"url": site.url})])

    done = set(project.recorded("path"))
    assert done == {*tree_pages(150, 3), *MEMBERS}
    assert set(project.recorded("status")) == {200}


OWN = """
class Own(Spider):
    name = "own"
    handle_httpstatus_list = [403]

    async def start(self):
        yield Request(f"{self.url}/form?delay=1500", self.log_in,
                      meta={"frontier_local": True})

    def log_in(self, response):
        yield FormRequest.from_response(
            response, formdata={"user": "u", "password": "p"}, callback=self.parse,
            meta={"frontier_local": True},
        )

    def parse(self, response):
        record(self, url=response.url, status=response.status)
        yield from response.follow_all(css="a", callback=self.parse)
"""


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_each_worker_logs_in_and_they_share_what_comes_of_it(project, site, frontier):
    """The recipe of ``scrapy frontier help sessions``: two steps, a slow form, three workers."""
    project.spider(OWN)
    settings = {"CONCURRENT_REQUESTS": 2}
    workers = start_together(
        project,
        site,
        3,
        "own",
        answers=0,
        args={"url": site.url},
        settings=settings,
        frontier=frontier,
    )
    wait_until(lambda: site.hits()["/form"] == 3, "each is at its form")
    site.resume()
    assert_finished(workers)
    logins = {"/form": 3, "/login": 3, "/members/0": 3}
    assert site.hits() == {**MEMBERS, **logins}
    assert set(project.recorded("status")) == {200}
    for path in logins:
        assert len({h.agent for h in site.log() if h.path == path}) == 3
