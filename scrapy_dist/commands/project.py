"""The crawls that commands are about, as a project and the environment name them."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from scrapy.crawler import Crawler
from scrapy.utils.misc import load_object
from scrapy.utils.project import inside_project

from scrapy_dist.admin.crawl import Crawl
from scrapy_dist.admin.crawls import Crawls
from scrapy_dist.admin.project import Project
from scrapy_dist.base.escaping import escape, quote
from scrapy_dist.brokers.memory.broker import is_in_memory
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from scrapy_dist.redis_client.embedded.settings import directory_from_settings
from scrapy_dist.redis_client.parameters import is_embedded
from scrapy_dist.spiders import RedisMixin

if TYPE_CHECKING:
    from scrapy.settings import Settings
    from scrapy.spiderloader import SpiderLoaderProtocol

__all__ = ["Chosen", "Crawl", "all_crawls", "find_crawl", "of_crawl", "opened"]

#: Priority of what the environment says: less than that of all settings of a project.
_ENVIRONMENT = 5


def find_crawl(settings: Settings, opts: argparse.Namespace) -> Crawl:
    """The crawl that ``options.common`` name; not opened.

    Inside a project its settings, and those of the spider, count. The spider may be one
    that only Redis knows: `Crawl.require_known` tells. Raises ConfigurationError.
    """
    _apply_options(settings, opts)
    crawl = _make_crawl(_spider_loader(settings), settings, opts.spider)
    _check(crawl.settings)
    return crawl


def all_crawls(settings: Settings, opts: argparse.Namespace) -> Crawls:
    """Those in the Redis that options and settings name. Raises ConfigurationError."""
    _apply_options(settings, opts)
    _check(settings)
    loader = _spider_loader(settings)
    names = loader.list() if loader else ()
    return Crawls(settings, partial(_make_crawl, loader), names)


def spider_names(settings: Settings) -> list[str]:
    """The spiders of the project; none outside one."""
    loader = _spider_loader(settings)
    return loader.list() if loader else []


def _check(settings: Settings) -> None:
    """Say where the workers of a project are if the commands look elsewhere.

    Raises ConfigurationError for a frontier that no command can see.
    """
    if inside_project() and settings.getpriority("REDIS_URL") == _ENVIRONMENT:
        _tell_once(
            "scrapy frontier: REDIS_URL of the environment says where Redis is. The"
            " settings do not, and workers read no environment: they use the embedded"
            f" Redis in {directory_from_settings(settings)}.\n"
        )
    if is_in_memory(settings):
        raise ConfigurationError(
            f"REDIS_URL = {quote(settings['REDIS_URL'])} is a frontier inside the process"
            " of its worker: no command sees it. Name the Redis of the crawl, for example"
            " --redis redis://localhost:6379/0."
        )


@cache
def _tell_once(text: str) -> None:
    sys.stderr.write(text)


class Chosen:
    """The crawls of ``opts.spiders``, or if there are none all; those of the project first.

    *project*: also its spiders of which there is nothing yet.
    """

    def __init__(
        self, settings: Settings, opts: argparse.Namespace, *, project: bool = False
    ) -> None:
        self._project = project
        # Of those who look at once, one opens the connections.
        self._finding = asyncio.Lock()
        self._all = None if opts.spiders else all_crawls(settings, opts)
        #: Those that were named.
        self.named = [
            find_crawl(
                settings.copy(), argparse.Namespace(**{**vars(opts), "spider": name})
            )
            for name in dict.fromkeys(opts.spiders)
        ]

    async def check(self) -> None:
        """Raise ConfigurationError for settings and names that are wrong.

        Redis may come and go.
        """
        with suppress(RedisUnavailable):
            await self.find()
            for crawl in self.named if inside_project() else ():
                await crawl.require_known()

    async def find(self) -> list[Crawl]:
        """Them, opened."""
        async with self._finding:
            if self._all is not None:
                crawls = await self._all.find(begun=True, project=self._project)
                # Whoever writes into Redis can make up others.
                return sorted(crawls, key=lambda crawl: crawl.project is None)
            for crawl in self.named:
                await crawl.open()
            return self.named

    async def close(self) -> None:
        for each in (self._all, *self.named):
            if each is not None:
                await each.close()


@asynccontextmanager
async def opened(
    crawl: Crawl,
    *,
    changes: bool = False,
    older: bool = False,
    timeout: float | None = None,
) -> AsyncIterator[Crawl]:
    """*crawl*, opened; says if it may be shown wrong, as another version has it.

    *changes*: raise ConfigurationError then, with *older* only if it is not an older one
    that a worker converts. *timeout*: seconds that connecting may take.
    """
    try:
        await crawl.open(timeout=timeout)
        if changes:
            await crawl.check_format(older=older)
        elif reason := await crawl.port.reason_against():
            sys.stderr.write(
                f"scrapy frontier: what is shown may be wrong. {escape(reason)}\n"
            )
        yield crawl
    finally:
        await crawl.close()


def of_crawl(
    run: Callable[[Crawl, argparse.Namespace], Awaitable[int]],
    *,
    changes: bool = False,
    older: bool = False,
    check: Callable[[argparse.Namespace], object] = bool,
) -> Callable[[Settings, argparse.Namespace], Coroutine[Any, Any, int]]:
    """*run* with the crawl that the options name, `opened`; first *check* sees them."""

    async def run_opened(settings: Settings, opts: argparse.Namespace) -> int:
        check(opts)
        crawl = find_crawl(settings, opts)
        async with opened(crawl, changes=changes, older=older):
            return await run(crawl, opts)

    return run_opened


def _make_crawl(
    loader: SpiderLoaderProtocol | None, settings: Settings, name: str
) -> Crawl:
    spiders = loader.list() if loader else None
    if loader is None or name not in loader.list():
        return Crawl(settings, name, spiders=spiders)
    spider_class = loader.load(name)
    crawler = Crawler(spider_class, settings)
    crawler.addons.load_settings(crawler.settings)
    _forget_environment(crawler.settings)
    redis_key: object = ()
    if issubclass(spider_class, RedisMixin):
        redis_key = spider_class.redis_key or None
    return Crawl(
        crawler.settings,
        name,
        project=Project(crawler),
        spiders=spiders,
        redis_key=redis_key,
    )


def _spider_loader(settings: Settings) -> SpiderLoaderProtocol | None:
    """What knows the project's spiders; None outside a project."""
    if not inside_project():
        return None
    loader_class = load_object(settings["SPIDER_LOADER_CLASS"])
    return cast(
        "SpiderLoaderProtocol", loader_class.from_settings(settings.frozencopy())
    )


def _apply_options(settings: Settings, opts: argparse.Namespace) -> None:
    if opts.redis:
        settings.set("REDIS_URL", opts.redis, priority="cmdline")
    if opts.job is not None:
        settings.set("FRONTIER_JOB", opts.job, priority="cmdline")
    # Unlike --redis it is not seen by all who list the processes of the machine. An empty
    # text is how a command line switches a setting off.
    url = os.environ.get("REDIS_URL")
    if url and settings.get("REDIS_URL") is None and is_embedded(settings):
        settings.set("REDIS_URL", url, priority=_ENVIRONMENT)
    if not inside_project():
        secret = os.environ.get("FRONTIER_SECRET")
        if secret and not settings.get("FRONTIER_SECRET"):
            settings.set("FRONTIER_SECRET", secret, priority="cmdline")
        if is_embedded(settings) and not directory_from_settings(settings).exists():
            raise ConfigurationError(
                "Which Redis? Outside a Scrapy project give --redis URL, for example"
                " --redis redis://localhost:6379/0, or set REDIS_URL in the environment."
            )


def _forget_environment(settings: Settings) -> None:
    """Let what a spider says of Redis by itself win over the environment."""
    if settings.getpriority("REDIS_URL") == _ENVIRONMENT:
        without = settings.copy()
        without.set("REDIS_URL", None, priority="cmdline")
        if not is_embedded(without):
            settings.set("REDIS_URL", None, priority="cmdline")
