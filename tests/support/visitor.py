"""A browser without scripts, for the pages of ``scrapy frontier web``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from parsel import Selector

from scrapy_dist.admin.crawl import Crawl
from scrapy_dist.brokers.redis.broker import RedisBroker
from scrapy_dist.web.app import make_app
from scrapy_dist.web.rendering import Templates
from scrapy_dist.web.security import Rules
from scrapy_dist.web.site import Site

if TYPE_CHECKING:
    from scrapy.settings import Settings


def site_of(client: Any, settings: Settings, *names: str, **options: Any) -> Site:
    """The crawls *names* in the Redis of *client*."""
    broker = RedisBroker(client)
    crawls: dict[str, Crawl] = {}

    async def find() -> list[Crawl]:
        for name in names:
            if name not in crawls:
                crawls[name] = Crawl(settings, name)
                await crawls[name].open(broker)
        return list(crawls.values())

    return Site(find, "redis://here:6379/0", Templates(), **options)


class Visitor:
    """One browser at *site*; *host* is how it calls it, *address* where it comes from."""

    def __init__(
        self,
        site: Site,
        *,
        rules: Rules | None = None,
        app: Any = None,
        host: str = "localhost:8765",
        address: str = "127.0.0.1",
        raises: bool = True,
        **options: Any,
    ) -> None:
        self.site = site
        self.app = app or make_app(site, rules or Rules(), **options)
        transport = httpx.ASGITransport(
            self.app, raise_app_exceptions=raises, client=(address, 4711)
        )
        self.http = httpx.AsyncClient(transport=transport, base_url=f"http://{host}")
        self.answer: httpx.Response | None = None

    async def get(self, path: str, **options: Any) -> str:
        """The text of the page, where redirects lead."""
        self.answer = await self.http.get(path, follow_redirects=True, **options)
        return self.answer.text

    @property
    def page(self) -> Selector:
        assert self.answer is not None
        return Selector(self.answer.text)

    @property
    def code(self) -> int:
        assert self.answer is not None
        return self.answer.status_code

    @property
    def note(self) -> str:
        """What the page says was done."""
        return self.page.css('p.note[role="status"]::text').get("")

    def text(self, css: str) -> str:
        """The text of all that *css* finds, in one line."""
        return " ".join(" ".join(self.page.css(f"{css} ::text").getall()).split())

    async def send(self, action: str, files: Any = None, **fields: Any) -> str:
        """Fill in the form of this page whose action begins with *action*, and send it.

        Redirects are followed.
        """
        [form, *_] = self.page.css(
            f'form[action^="{action}"], [formaction^="{action}"]'
        )
        target = form.attrib.get("action") or form.attrib["formaction"]
        if form.root.tag != "form":
            [form] = form.xpath("ancestor::form")
        data: dict[str, Any] = {}
        for hidden in form.css('input[type="hidden"]'):
            data.setdefault(hidden.attrib["name"], []).append(hidden.attrib["value"])
        data.update(fields)
        if form.attrib.get("enctype") == "multipart/form-data" and files is None:
            files = {"file": ("", b"")}
        self.answer = await self.http.post(
            target, data=data, files=files, follow_redirects=True
        )
        return self.answer.text

    async def close(self) -> None:
        await self.http.aclose()
        await self.site.close()
