"""``scrapy frontier web`` in a real browser, with a real Redis and a real worker.

``SCREENSHOT=tests/support/web.png python -m pytest -n 0 tests/integration/test_web_browser.py``
also takes README's picture, of a longer crawl.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack

import pytest
import redis.asyncio

pytest.importorskip("starlette", reason="the extra web is not installed")

from scrapy_dist.codec import compact
from scrapy_dist.codec.envelope import MSGPACK
from scrapy_dist.core.frontier import End, NewRequest, Settlement
from scrapy_dist.core.slots import slot_number
from tests.support.browser import Page, chromium, web
from tests.support.frontiers import KEYS, Worker, member
from tests.support.wait import wait_until

SPIDER = """
from scrapy_dist.spiders import RedisSpider

class Books(RedisSpider):
    name = "books"
    custom_settings = {"ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 300}}

    def parse(self, response):
        if response.url.endswith("/page/13"):
            raise ValueError("no price in the page")
        yield {"url": response.url}
        yield from response.follow_all(css="a::attr(href)")
"""
#: Pages of a crawl: its path, and what they are headed.
PAGES = {
    "": "Overview",
    "/failed": "Dead letters",
    "/next": "Next requests",
    "/explain": "Explain a URL",
    "/seeds": "Seeds",
    "/tasks": "Tasks",
    "/history": "History",
    "/settings": "Settings",
}
PENDING = 200_000
HACK = '<script>document.title="hacked"</script><img src=x onerror=document.title="hacked">'
HOST = "site.example"


def request(url):
    """A request as it is in Redis; its URL may be anything there."""
    return MSGPACK + compact.dumps({"url": url})


async def fill(url):
    """The crawl ``s``: many requests, and a hostile URL, reason and name of a worker."""
    slot = slot_number(HOST)
    urls = [f"http://{HOST}/{HACK}", f'javascript:document.title="hacked"//{HACK}']
    payloads = [request(each) for each in urls]
    async with redis.asyncio.Redis.from_url(url, protocol=2) as client:
        worker = await Worker(client, ttl=10_000).join(HACK)
        await worker.commit(
            [NewRequest(payload, -9.0, slot=slot) for payload in payloads]
        )
        for _ in payloads:
            lease = await worker.lease_one()
            page = Settlement(lease.id, end=End.FAILED, reason=f"{HACK}\u202e\x1b[2J")
            await worker.commit(pages=[page])
        await worker.commit(
            [NewRequest(payload, -9.0, slot=slot) for payload in payloads]
        )
        for first in range(0, PENDING, 10_000):
            pages = range(first, first + 10_000)
            requests = [request(f"http://{HOST}/{i}") for i in pages]
            found = {
                member(each, i + 1000): slot
                for i, each in zip(pages, requests, strict=True)
            }
            await client.zadd(KEYS.requests, found)


def test_pages_in_a_real_browser(own_redis, make_project, site, tmp_path, request):
    project = make_project(own_redis.url)
    project.spider(SPIDER)
    asyncio.run(fill(own_redis.url))
    with chromium(tmp_path) as browser, ExitStack() as served:
        address = served.enter_context(web(project.folder, own_redis.url))
        page = Page(browser, address)
        every_view(page)
        hostile_names_are_text(page)
        worker = project.crawl("books", frontier="addon")
        seeds_and_dead_letters(page, site, tmp_path)
        two_pages(page)
        if path := os.environ.get("SCREENSHOT"):
            picture(page, request.getfixturevalue("hosts"), project, path)
        page.open("/crawl?crawl=books")
        page.press("[data-part=workers] tbody button")
        assert page.text(".note") == "Asked 1 worker to close."
        assert worker.wait() == 0
        assert worker.reason() == "stopped"
        assert page.complaints() == []
        redis_goes_and_comes(page, own_redis)
        with_a_password(page, project, own_redis)
        port = address.rpartition(":")[2]
        page.open("/crawl?crawl=books")
        page.sees("[data-part=state]", "pending")
        served.close()
        page.sees("#connection", "is lost")
        with web(project.folder, own_redis.url, port=port):
            wait_until(lambda: page.text("#connection") == "", "the server again")


def every_view(page):
    """Each is there, on a telephone too, in two colour schemes, by keyboard."""
    assert page.open("/") == "All crawls"
    rows = page.text("tbody").splitlines()
    assert [row.split("\t")[0] for row in rows if row.strip()] == ["s", "books"]
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    for path, heading in PAGES.items():
        assert page.open(f"/crawl{path}?crawl=s") == heading
        wide = page.run("return document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path} is wider than a telephone"
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    colors = set()
    for scheme in ("dark", "light"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        colors.add(page.run("return getComputedStyle(document.body).backgroundColor"))
    assert len(colors) == 2
    page.open("/crawl?crawl=s")
    page.type("body", "\ue004")  # Tab
    assert page.run("return document.activeElement.innerText") == "To the content"


def hostile_names_are_text(page):
    page.open("/crawl?crawl=s")
    page.sees("[data-part=state]", "200,002")
    for path in PAGES:
        page.open(f"/crawl{path}?crawl=s")
        assert "hacked" not in page.run("return document.title")
        assert page.run("return document.scripts.length") == 1
    page.open("/crawl/failed?crawl=s")
    assert HACK in page.text("td.reason")
    assert "\\u202e\\x1b[2J" in page.text("td.reason")
    links = page.run("return [...document.querySelectorAll('td a')].map(a => a.href)")
    assert {each[:20] for each in links} == {f"http://{HOST}/"[:20]}
    page.open("/crawl/next?crawl=s")
    assert "javascript:" in page.text("tbody")
    page.open(f"/crawl/explain?crawl=s&url=http://{HOST}/{PENDING - 1}")
    assert "200,001 requests are before it" in page.text("table.facts")
    assert page.complaints() == []


def seeds_and_dead_letters(page, site, folder):
    page.open("/crawl/seeds?crawl=books")
    page.type("#seeds", f"{site.url}/page/1\n{site.url}/page/13\nnonsense")
    file = folder / "seeds.txt"
    file.write_text(f'{{"url": "{site.url}/page/2", "id": "t1", "batch": "b"}}\n')
    page.type("#file", str(file))
    page.press("form.stack button")
    assert "3 seeds pushed; 1 not pushed: line 3" in page.text(".note")
    page.open("/crawl?crawl=books")
    page.sees("[data-part=letters]", "no price in the page")
    page.sees("[data-part=workers]", "alive")
    page.open("/crawl/failed?crawl=books&reason=PRICE")
    page.run("document.querySelector('tbody input').click()")
    page.press("#letters button")
    assert page.text(".note") == "1 put back to the seeds."
    failed = "/crawl/failed?crawl=books"
    wait_until(
        lambda: page.open(failed) and page.text("td.reason"), "that it fails again"
    )
    page.run("document.querySelector('[value=all]').click()")
    page.press("#letters button[formaction]")
    assert "for good?" in page.text("main")
    page.press("main form button")
    assert page.text(".note") == "1 deleted."
    wait_until(
        lambda: page.open("/crawl/task?crawl=books&id=t1") and page.text(".done"),
        "the end of a task",
    )
    assert f'{{"url": "{site.url}/page/2"}}' in page.text(".items")
    page.open(f"/crawl/explain?crawl=books&url={site.url}/page/2")
    assert "never met it" in page.text("table.facts"), "a seed is not filtered"
    page.press("main form[method=post] button")
    assert page.text(".note") == "Queued once more."


def two_pages(page):
    """What is done on one is seen on the other by itself."""
    page.open("/crawl?crawl=books")
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("window")
    page.open("/crawl?crawl=books")
    other = page.browser.current_window_handle
    page.press("form[action*=pause] button")
    assert page.text(".note").startswith("Paused: 1 worker")
    page.browser.switch_to.window(first)
    page.sees("[data-part=state]", "paused")
    page.press("form[action*=resume] button")
    page.browser.switch_to.window(other)
    page.sees("[data-part=state]", "idle")
    page.browser.close()
    page.browser.switch_to.window(first)


def redis_goes_and_comes(page, own_redis):
    page.open("/crawl?crawl=books")
    own_redis.kill()
    page.sees("[data-part=trouble]", "Redis is away")
    page.open("/crawl/next?crawl=books")
    page.sees("h1", "Redis is away")
    own_redis.start()
    page.sees("h1", "Next requests")
    page.open("/crawl?crawl=books")
    wait_until(lambda: page.text("[data-part=trouble]") == "", "no trouble any more")
    page.complaints()


def with_a_password(page, project, own_redis):
    """And without scripts: a form that a browser sends has all that is asked of it."""
    password = {"FRONTIER_WEB_PASSWORD": "correct horse"}
    with web(project.folder, own_redis.url, "--read-only", **password) as address:
        locked = Page(page.browser, address)
        assert locked.open("/crawl?crawl=books") == "Log in"
        locked.type("#password", "wrong")
        locked.press("main form button")
        assert locked.text(".trouble") == "This is not the password."
        locked.type("#password", "correct horse")
        locked.press("main form button")
        assert locked.text("h1") == "Overview"
        assert locked.run("return document.cookie") == ""
        assert locked.run("return document.querySelector('form[id=stop]')") is None
        assert page.open("/") == "All crawls", "the other page has its own session"
        locked.open("/")
        locked.press("header form button")
        assert locked.text("h1") == "Log in"


def picture(page, hosts, project, path):
    """README's picture of a crawl of six slow hosts by three workers."""
    hosts.delay(200)
    workers = [project.crawl("books", frontier="addon") for _ in range(2)]
    page.open("/crawl/seeds?crawl=books")
    page.type("#seeds", f"{hosts.url}/hosts/6/600\n{hosts.url}/page/13\n")
    page.press("form.stack button")
    page.open("/crawl?crawl=books")

    def pages():
        return int(page.text(".figures dd").replace(",", ""))

    wait_until(lambda: pages() > 2500, "a chart", timeout=200, interval=1)
    page.browser.set_window_size(900, 960)
    page.browser.save_screenshot(str(path))
    for worker in workers:
        worker.terminate()
    hosts.delay(0)
