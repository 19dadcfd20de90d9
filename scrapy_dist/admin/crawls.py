"""All crawls that there are in one place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from scrapy_dist.base.escaping import nearest
from scrapy_dist.brokers.opening import open_broker
from scrapy_dist.core.crawl import job_from_settings
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from scrapy_dist.redis_client.topology import uses_cluster

if TYPE_CHECKING:
    from scrapy.settings import Settings
    from typing_extensions import Self

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.core.ports import Broker
    from scrapy_dist.core.status import Status

T = TypeVar("T")

#: Crawls that are asked at the same time.
_AT_ONCE = 10


class Crawls:
    """The crawls in the Redis of *settings*; with FRONTIER_JOB only those of it.

    *make* gives the crawl of a spider, by settings that name its job. *spiders* are those
    of the project. Raises ConfigurationError where nobody knows all crawls.
    """

    def __init__(
        self,
        settings: Settings,
        make: Callable[[Settings, str], Crawl],
        spiders: Sequence[str] = (),
    ) -> None:
        if uses_cluster(settings):
            raise ConfigurationError(
                "In a Redis Cluster each crawl is on one of several servers, so they"
                " cannot all be listed. Name the spider, for example: scrapy frontier"
                f" status {spiders[0] if spiders else 'myspider'}.{nearest('', spiders)}"
            )
        self._settings = settings
        self._make = make
        self._spiders = spiders
        self._broker: Broker | None = None

    async def open(self) -> Broker:
        """Connect, once."""
        if self._broker is None:
            self._broker = await open_broker(self._settings)
        return self._broker

    async def close(self) -> None:
        if self._broker is not None:
            await self._broker.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def where(self) -> str:
        """Where Redis is, without user name and password."""
        assert self._broker is not None, "open() comes first"
        return self._broker.where

    async def find(
        self, *, finished: bool = False, begun: bool = False, project: bool = False
    ) -> list[Crawl]:
        """The crawls, opened, by their names; looks at every key of the Redis.

        *finished*: those of which there are records of finished crawls. *begun*: without
        what is only called like one. *project*: also the spiders of the project of which
        there is nothing yet.
        """
        broker = await self.open()
        try:
            names = await broker.names(self._settings, finished=finished, begun=begun)
        except RedisUnavailable as e:
            raise RedisUnavailable(
                f"Redis does not let us look for frontiers ({e}). Name the spider."
            ) from e
        crawls = []
        if project:
            names = sorted({*names, *self._spiders})
        for spider, job in map(self._parts, names):
            crawls.append(await self.of(spider, job))
        return crawls

    async def of(self, spider: str, job: str) -> Crawl:
        """The crawl of *spider*, opened; *job* '': it has none."""
        own = self._settings.copy()
        own.set("FRONTIER_JOB", job, priority="cmdline")
        crawl = self._make(own, spider)
        await crawl.open(await self.open())
        return crawl

    async def names(self) -> list[tuple[str, str]]:
        """Spider and job ('': none) of each crawl; looks at every key of the Redis."""
        broker = await self.open()
        return [*map(self._parts, await broker.names(self._settings))]

    def _parts(self, name: str) -> tuple[str, str]:
        given = job_from_settings(self._settings)
        if given or name in self._spiders:
            return name, given
        return _split_crawl_name(name)


async def read_statuses(
    crawls: Iterable[Crawl],
) -> tuple[list[Status], list[tuple[Crawl, ConfigurationError]]]:
    """How *crawls* stand; and those whose keys are no frontier's, and why."""
    return await read_each(crawls, lambda crawl: crawl.status())


async def read_each(
    crawls: Iterable[Crawl], read: Callable[[Crawl], Awaitable[T]]
) -> tuple[list[T], list[tuple[Crawl, ConfigurationError]]]:
    """What *read* gives of each of *crawls*; and those that it cannot read, and why."""
    limit = asyncio.Semaphore(_AT_ONCE)
    found: list[T] = []
    refused: list[tuple[Crawl, ConfigurationError]] = []

    async def one(crawl: Crawl) -> T | ConfigurationError:
        async with limit:
            try:
                return await read(crawl)
            except ConfigurationError as e:
                return e

    crawls = [*crawls]
    answers = await asyncio.gather(*map(one, crawls))
    for crawl, answer in zip(crawls, answers, strict=True):
        if isinstance(answer, ConfigurationError):
            refused.append((crawl, answer))
        else:
            found.append(answer)
    return found, refused


def _split_crawl_name(name: str) -> tuple[str, str]:
    """Spider and job of a name that `crawl_name` gave; a job holds no colon."""
    spider, _, job = name.rpartition(":")
    return (spider, job) if spider and re.fullmatch(r"[\w.-]+", job) else (name, "")
