"""Plugins whose requests two workers share; they are in the extra ``plugins``.

The services that they talk to are played by a few lines here; the browser is a real one.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.project import Worker, assert_finished
from tests.support.together import start_together

WHY = "needs the extra plugins"
PAGES = 16


class Service(BaseHTTPRequestHandler):
    """Splash and Zyte API: the page that they are asked for, as they answer."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)  # type: ignore[attr-defined]
        time.sleep(0.05)  # as `share` delays the site: the other worker is to get some
        page = f"<html><title>{asked['url']}</title></html>"
        is_splash = self.path.startswith("/render.html")
        if not is_splash:
            page = json.dumps(
                {"url": asked["url"], "statusCode": 200, "browserHtml": page}
            )
        self.send_response(200)
        self.send_header(
            "Content-Type", "text/html" if is_splash else "application/json"
        )
        self.send_header("Content-Length", str(len(page)))
        # Without it, Twisted may ask again on a connection that is just being closed.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *args: Any) -> None:
        """Nothing: tests count what was asked."""


@pytest.fixture
def service() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.asked = []  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def share(project: Any, site: Any, name: str, **settings: Any) -> list[Worker]:
    """Two workers crawl all pages of the spider *name*, each some of them."""
    settings["CONCURRENT_REQUESTS"] = 2
    site.delay(50)
    workers = start_together(
        project, site, 2, name, args={"url": site.url}, settings=settings
    )
    assert_finished(workers)
    assert len(set(project.recorded())) == len(project.recorded()) == PAGES
    return workers


def workers_of(project: Any) -> set[str]:
    return {record["worker"] for record in project.records()}


PLAYWRIGHT = f"""
from scrapy_playwright.page import PageMethod

class Browsed(Spider):
    name = "browsed"

    async def start(self):
        yield Request(f"{{self.url}}/page/start")

    def parse(self, response):
        for n in range({PAGES}):
            step = PageMethod("evaluate", "n => document.title + n", arg=n)
            yield Request(
                f"{{self.url}}/page/{{n}}",
                self.page,
                meta={{"playwright": True, "playwright_page_methods": [step]}},
                cb_kwargs={{"n": n}},
            )

    def page(self, response, n):
        title = response.css("title::text").get("")
        (step,) = response.meta["playwright_page_methods"]
        record(self, url=response.url, same=step.result == f"{{title}}{{n}}")
"""


def test_scrapy_playwright(project, site):
    pytest.importorskip("scrapy_playwright", reason=WHY)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Debian's chromium")
    project.spider(PLAYWRIGHT)
    handler = "scrapy_playwright.handler.ScrapyPlaywrightDownloadHandler"

    share(
        project,
        site,
        "browsed",
        DOWNLOAD_HANDLERS={"http": handler},
        PLAYWRIGHT_LAUNCH_OPTIONS={
            "executable_path": chromium,
            "args": ["--no-sandbox"],
        },
        FRONTIER_SHARED_CLASSES=["scrapy_playwright.page.PageMethod"],
    )

    assert project.recorded("same") == [True] * PAGES
    assert len(workers_of(project)) == 2


def test_a_function_for_playwright_keeps_its_request_here(project, site):
    pytest.importorskip("scrapy_playwright", reason=WHY)
    project.spider(f"""
    async def prepare(page, request):
        pass

    class Prepared(Spider):
        name = "prepared"

        async def start(self):
            yield Request(f"{{self.url}}/page/start")

        def parse(self, response):
            for n in range({PAGES}):
                meta = {{"playwright_page_init_callback": prepare}}
                yield Request(f"{{self.url}}/page/{{n}}", self.page, meta=meta)

        def page(self, response):
            record(self, url=response.url)
    """)

    workers = share(project, site, "prepared")

    assert len(workers_of(project)) == 1
    logs = "".join(worker.log() for worker in workers)
    assert logs.count("cannot be shared") == 1
    assert (
        "meta['playwright_page_init_callback'] cannot be stored: 'the function"
        " shop.spiders.spiders_1.prepare; requests hold data, no code'" in logs
    )


def test_scrapy_splash(project, site, service):
    if importlib.util.find_spec("scrapy_splash") is None:
        pytest.skip(WHY)
    project.spider(f"""
    import scrapy.utils.url
    from w3lib.url import canonicalize_url

    # scrapy-splash 0.11.1 looks for it where older Scrapys have it. Its other slot
    # policies and its spider middleware do not work with Scrapy 2.19.
    scrapy.utils.url.canonicalize_url = canonicalize_url
    from scrapy_splash import SplashRequest

    class Rendered(Spider):
        name = "rendered"

        async def start(self):
            yield Request(f"{{self.url}}/page/start")

        def parse(self, response):
            for n in range({PAGES}):
                yield SplashRequest(
                    f"{{self.url}}/page/{{n}}",
                    self.page,
                    args={{"wait": n}},
                    slot_policy="scrapy_default",
                )

        def page(self, response):
            assert response.css("title::text").get() == response.url
            record(self, url=response.url)
    """)

    share(
        project,
        site,
        "rendered",
        SPLASH_URL=service.url,
        DOWNLOADER_MIDDLEWARES={
            "scrapy_splash.SplashCookiesMiddleware": 723,
            "scrapy_splash.SplashMiddleware": 725,
        },
        REQUEST_FINGERPRINTER_CLASS="scrapy_splash.SplashRequestFingerprinter",
        FRONTIER_REQUEST_CLASSES=["scrapy_splash.SplashRequest"],
    )

    assert sorted(asked["wait"] for asked in service.asked) == [*range(PAGES)]
    assert len(workers_of(project)) == 2


def test_scrapy_selenium(project, site):
    """Only its request: its middleware does not start a browser with Selenium 4."""
    pytest.importorskip("scrapy_selenium", reason=WHY)
    project.spider(f"""
    from scrapy_selenium import SeleniumRequest

    class Driven(Spider):
        name = "driven"

        async def start(self):
            yield Request(f"{{self.url}}/page/start")

        def parse(self, response):
            for n in range({PAGES}):
                yield SeleniumRequest(
                    url=f"{{self.url}}/page/{{n}}",
                    callback=self.page,
                    wait_time=n,
                    screenshot=True,
                    script="scroll()",
                )

        def page(self, response):
            made = response.request
            assert made.wait_until is None and made.screenshot
            record(self, url=response.url, wait=made.wait_time, script=made.script)
    """)

    share(
        project,
        site,
        "driven",
        FRONTIER_REQUEST_CLASSES=["scrapy_selenium.SeleniumRequest"],
    )

    assert sorted(project.recorded("wait")) == [*range(PAGES)]
    assert set(project.recorded("script")) == {"scroll()"}
    assert len(workers_of(project)) == 2


def test_scrapy_zyte_api(project, site, service):
    pytest.importorskip("scrapy_zyte_api", reason=WHY)
    project.spider(f"""
    class Bought(Spider):
        name = "bought"

        async def start(self):
            yield Request(f"{{self.url}}/page/start")

        def parse(self, response):
            for n in range({PAGES}):
                yield Request(
                    f"{{self.url}}/page/{{n}}",
                    self.page,
                    meta={{"zyte_api": {{"browserHtml": True, "jobId": str(n)}}}},
                )

        def page(self, response):
            assert response.raw_api_response["browserHtml"]
            record(self, url=response.url)
    """)

    share(
        project,
        site,
        "bought",
        ADDONS={"scrapy_dist.Addon": 500, "scrapy_zyte_api.Addon": 500},
        ZYTE_API_KEY="none",
        ZYTE_API_URL=f"{service.url}/v1/",
        ZYTE_API_TRANSPARENT_MODE=False,
    )

    jobs = sorted(int(asked["jobId"]) for asked in service.asked)
    assert jobs == [*range(PAGES)]
    assert len(workers_of(project)) == 2
