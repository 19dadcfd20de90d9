"""What the add-on puts into Scrapy's chains: whose output is it, and what has failed.

With them the items of a page, and its requests that no filter would recognize, are
stored together with the page's ack; and a page that failed for good is a dead letter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy import signals
from scrapy.exceptions import IgnoreRequest
from scrapy.spidermiddlewares.httperror import HttpError

from scrapy_dist import engine
from scrapy_dist.scheduler import shares

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from scrapy import Request, Spider
    from scrapy.crawler import Crawler
    from scrapy.http import Response
    from twisted.python.failure import Failure
    from typing_extensions import Self

    from scrapy_dist.desk import Desk

#: Longest reason of a dead letter, in characters.
_LONGEST = 1000


class _Component:
    """A component that does nothing beside another scheduler."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler
        self._known: Desk | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    @property
    def _desk(self) -> Desk | None:
        if self._known is None:
            scheduler = engine.scheduler(self.crawler)
            if shares(type(scheduler)):
                self._known = scheduler.desk
        return self._known

    def _fail(self, request: Request | None, reason: str) -> None:
        if self._desk is not None and request is not None:
            self._desk.fail(request, reason[:_LONGEST])


class FrontierSpiderMiddleware(_Component):
    """Notes which page each output comes from, and pages whose callbacks failed.

    Its place is just behind HttpErrorMiddleware (50): it sees the exceptions that no
    other middleware has handled, and the outputs as they leave.
    """

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        crawler.signals.connect(self._spider_opened, signal=signals.spider_opened)
        crawler.signals.connect(self._spider_error, signal=signals.spider_error)

    def _spider_opened(self) -> None:
        if self._desk is not None:
            self._desk.origins.noting = True

    def process_spider_output(
        self, response: Response, result: Iterable[Any], spider: Spider | None = None
    ) -> Iterator[Any]:
        desk = self._desk
        leases = None if desk is None else desk.leases_of(response.request)
        for output in result:
            if desk is not None and leases is not None:
                desk.origins.note(output, leases)
            yield output

    async def process_spider_output_async(
        self,
        response: Response,
        result: AsyncIterator[Any],
        spider: Spider | None = None,
    ) -> AsyncIterator[Any]:
        desk = self._desk
        leases = None if desk is None else desk.leases_of(response.request)
        async for output in result:
            if desk is not None and leases is not None:
                desk.origins.note(output, leases)
            yield output

    def process_spider_exception(
        self, response: Response, exception: Exception, spider: Spider | None = None
    ) -> None:
        # HttpErrorMiddleware ignores it next; an errback would have handled it before.
        if isinstance(exception, HttpError):
            self._fail(response.request, f"HTTP {response.status} is not handled")

    def _spider_error(self, failure: Failure, response: Response | Failure) -> None:
        self._fail(
            getattr(response, "request", None),
            f"the callback raised {_described(failure.value)}",
        )


class FrontierDownloaderMiddleware(_Component):
    """Notes downloads that failed for good: no retry, no other answer, no errback.

    Its place is next to the engine, behind RetryMiddleware and all others.
    """

    def process_exception(
        self, request: Request, exception: Exception, spider: Spider | None = None
    ) -> None:
        if request.errback is None and not isinstance(exception, IgnoreRequest):
            self._fail(request, f"the download failed: {_described(exception)}")


class FrontierPipeline(_Component):
    """The first pipeline: what the others make of an item keeps the item's origin."""

    def process_item(self, item: Any, spider: Spider | None = None) -> Any:
        if self._desk is not None and engine.PIPELINES_AWAIT:
            self._desk.origins.enter(item)
        return item


def _described(exception: BaseException | None) -> str:
    name = type(exception).__name__
    return f"{name}: {exception}" if str(exception) else name
