"""What the add-on puts into Scrapy's chains: whose output is it, and what has failed.

With them the items of a page, and its requests that no filter would recognize, are
stored together with the page's ack; and a page that failed for good is a dead letter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from inspect import isawaitable, signature
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from scrapy import Request, Spider, signals
from scrapy.exceptions import IgnoreRequest, NotConfigured
from scrapy.http.request import NO_CALLBACK
from scrapy.spidermiddlewares.httperror import HttpError
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.error import DNSLookupError
from twisted.python.failure import Failure

from scrapy_dist.base.escaping import escape, quote
from scrapy_dist.base.settings import flag
from scrapy_dist.codec.reach import flaw_of_address, host_of, resolve
from scrapy_dist.codec.seed import FROM_SEED
from scrapy_dist.codec.seed_rules import SeedRules
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.worker import engine
from scrapy_dist.worker.provenance import each_noted

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.http import Response
    from typing_extensions import Self

    from scrapy_dist.worker.worker import Worker

#: Longest reason of a dead letter, in characters.
_LONGEST = 1000


class _Component:
    """A component that does nothing beside another scheduler."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler
        self._known: Worker | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    @property
    def _worker(self) -> Worker | None:
        if self._known is None:
            self._known = engine.worker_of(self.crawler)
        return self._known

    def _fail(self, request: Request | None, reason: str) -> None:
        if self._worker is not None and request is not None:
            self._worker.fail(request, escape(reason, _LONGEST))


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
        if self._worker is not None:
            self._worker.provenance.noting = True
            self._worker.provenance.by_context = engine.HAS_CONTEXTS
            engine.watch_results(self.crawler, self._worker.has_result)

    def _note_of(self, response: Response) -> Callable[[object], None]:
        """What notes an output of *response*."""
        worker = self._worker
        leases = None if worker is None else worker.leases_of(response.request)
        if worker is None or leases is None:
            return lambda _: None
        return partial(worker.provenance.note, records=leases)

    def process_spider_output(
        self, response: Response, result: Iterable[Any], spider: Spider | None = None
    ) -> Iterator[Any]:
        return each_noted(result, self._note_of(response))

    async def process_spider_output_async(
        self,
        response: Response,
        result: AsyncIterator[Any],
        spider: Spider | None = None,
    ) -> AsyncIterator[Any]:
        note = self._note_of(response)
        async for output in result:
            note(output)
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

    Its place is next to the engine, behind RetryMiddleware and all others. Where there are
    limits for the hosts of seeds, it is the one that keeps them.
    """

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        crawler.signals.connect(self._spider_opened, signal=signals.spider_opened)

    def _spider_opened(self) -> None:
        if self._worker is not None:
            engine.watch_results(self.crawler, self._has_result)

    def _has_result(self, request: Request, result: object) -> None:
        """*result* has passed all middlewares; a process_response() may have raised it."""
        if not isinstance(result, Failure) or request.errback is not None:
            return
        error = result.value
        if isinstance(error, Exception) and not isinstance(error, IgnoreRequest):
            self._fail(request, f"the download failed: {_described(error)}")

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        rules = getattr(getattr(crawler, "spider", None), "seed_rules", None)
        if isinstance(rules, SeedRules) and rules.is_limited:
            # Beside it, so that all others have no work for each page.
            return type(cls.__name__, (_Guard, cls), {})(crawler)  # type: ignore[no-any-return]
        return cls(crawler)


class FrontierGateMiddleware(_Component):
    """Lets each download start when the slots of a polite crawl allow it.

    Its place is next to the downloader, behind all others: what they answer by themselves,
    as from a cache, costs no delay. Without FRONTIER_POLITENESS it is not there.
    """

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        try:
            is_polite = flag(crawler.settings, "FRONTIER_POLITENESS")
        except ConfigurationError:
            is_polite = False  # the scheduler refuses it, in one sentence
        if not is_polite:
            raise NotConfigured
        engine.has_gate.add(crawler)
        return cls(crawler)

    async def process_request(
        self, request: Request, spider: Spider | None = None
    ) -> None:
        gate = None if self._worker is None else self._worker.gate
        if gate is not None:
            await gate.admit(request)


class _Guard(_Component):
    """Keeps seeds, and where they are redirected to, to the hosts that the rules allow.

    Links of their pages are the spider's. A proxy looks up names by itself: there only what
    this machine finds for them counts.
    """

    async def process_request(
        self, request: Request, spider: Spider | None = None
    ) -> Any:
        await self._check(request)
        own = getattr(super(), "process_request", None)  # of a project's subclass
        answer = None if own is None else _ask(own, request, spider)
        return await answer if isawaitable(answer) else answer

    async def _check(self, request: Request) -> None:
        of_seed = FROM_SEED in request.meta
        if not of_seed and not _leads_away(request):
            return
        rules: SeedRules = self.crawler.spider.seed_rules  # type: ignore[union-attr]
        if not of_seed:
            rules = replace(rules, domains=frozenset(), spiders_domains=False)
        if flaw := rules.flaw_of(request.url, self.crawler.spider):
            self._refuse(request, flaw)
        host = host_of(request.url)
        if rules.private or not host or isIPAddress(host) or isIPv6Address(host):
            return
        timeout = self.crawler.settings.getfloat("DNS_TIMEOUT")
        addresses = await resolve(_asked_host(request.url), timeout)
        for address in addresses:
            self._check_address(request, address)
        if not addresses and not (request.meta.get("proxy") or getproxies()):
            # The download might find one.
            raise DNSLookupError(f"no address of {host} was found")

    def process_response(
        self, request: Request, response: Response, spider: Spider | None = None
    ) -> Any:
        self._check_response(request, response)
        own = getattr(super(), "process_response", None)
        return response if own is None else _ask(own, request, response, spider)

    def _check_response(self, request: Request, response: Response) -> None:
        address = getattr(response, "ip_address", None)
        if address is None or request.meta.get("proxy"):
            return
        if FROM_SEED not in request.meta and not _leads_away(request):
            return
        if not self.crawler.spider.seed_rules.private:  # type: ignore[union-attr]
            # The name may have got another address since.
            self._check_address(request, str(address))

    def _check_address(self, request: Request, address: str) -> None:
        try:
            flaw = flaw_of_address(ip_address(address.partition("%")[0]))
        except ValueError:
            flaw = "is no address"
        if flaw:
            host = quote(host_of(request.url))
            self._refuse(
                request,
                f"the host {host} leads to {quote(address)}, which {flaw};"
                " FRONTIER_SEED_PRIVATE is False",
            )

    def _refuse(self, request: Request, reason: str) -> None:
        self._fail(request, reason)
        raise IgnoreRequest(reason)


def _ask(method: Callable[..., Any], *args: Any) -> Any:
    """What *method* says; its last argument, the spider, is one that it may not have."""
    return method(*args if "spider" in signature(method).parameters else args[:-1])


def _leads_away(request: Request) -> bool:
    """Whether *request* is a robots.txt that has been redirected to another host."""
    first = request.meta.get("redirect_urls")
    if not first or request.callback is not NO_CALLBACK:
        return False
    return host_of(first[0]) != host_of(request.url)


def _asked_host(url: str) -> str:
    """The host as the downloader asks for it, so that the answer is remembered for it.

    Scrapy's cache tells ``a.org`` from ``A.org``: its letters are as they are in *url*.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    at = parts.netloc.lower().rfind(host)
    return parts.netloc[at : at + len(host)] if at >= 0 else host


class FrontierPipeline(_Component):
    """The first pipeline: what the others make of an item keeps the item's origin."""

    def process_item(self, item: Any, spider: Spider | None = None) -> Any:
        if self._worker is not None and engine.HAS_CONTEXTS:
            self._worker.provenance.enter(item)
        return item


def _described(exception: BaseException | None) -> str:
    name = type(exception).__name__
    return f"{name}: {exception}" if str(exception) else name
