"""What people and programs do with a crawl from outside; with its URLs: see there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from scrapy.settings import SETTINGS_PRIORITIES, Settings

from scrapy_dist import fingerprints
from scrapy_dist.admin import arguments
from scrapy_dist.admin.bulk import until
from scrapy_dist.admin.project import Naming, Project
from scrapy_dist.admin.seeding import Seed, SeedMaker, Sower, kind_of_new_key
from scrapy_dist.base.escaping import nearest, quote
from scrapy_dist.base.waits import wait_for
from scrapy_dist.base.words import clean, count
from scrapy_dist.brokers.opening import open_broker
from scrapy_dist.codec.seed_rules import SeedRules
from scrapy_dist.core.crawl import FRONTIER, Stopped, crawl_name, job_from_settings
from scrapy_dist.core.politeness_settings import PolitenessOptions
from scrapy_dist.core.settings import Options
from scrapy_dist.exceptions import ConfigurationError, FrontierError

if TYPE_CHECKING:
    from typing_extensions import Self

    from scrapy_dist.core import ports
    from scrapy_dist.core.crawl import Cleared, Paused, TakenOver
    from scrapy_dist.core.dead_letters import DeadLetter, Forgotten, Retried
    from scrapy_dist.core.findings import Report
    from scrapy_dist.core.hosts import Hosts
    from scrapy_dist.core.inspection import Shown
    from scrapy_dist.core.status import Finished, Status

#: Seconds to look for names of crawls in a Redis that may hold many other keys.
_SUGGEST_TIMEOUT = 3.0
#: Workers that are asked to close at once.
_STOP_STEP = 100
#: Hosts that are looked at all, and dead letters that are counted, without other words.
LOOK, LETTERS = 2000, 1000
#: What is counted of a part, if that is not called like it.
_COUNTED = {
    FRONTIER: ("pending", "leased", "suspect", "seen", "stats", "workers"),
    "requests": ("pending", "leased", "suspect"),
    "dupefilter": ("seen",),
}


class Crawl:
    """One crawl, which others work on.

        async with Crawl(settings, "myspider") as crawl:
            print((await crawl.status()).pending)

    *project* is the spider's, None if it is not known here: then any callback may be
    named, only the form of requests is checked, and they are named by
    REQUEST_FINGERPRINTER_CLASS and DUPEFILTER_CLASS of *settings*. *spiders*: the names
    of all that the project has; None outside a project. *redis_key*: that of the spider,
    () if it reads no seeds, None: as REDIS_START_URLS_KEY says.

    *port* is the opened crawl itself: what needs nothing checked or added is asked there.
    Methods raise RedisUnavailable when Redis does not answer or refuses, and
    ConfigurationError for an argument, a setting or a key that cannot be used. Those
    that change something do so for a frontier that another version has to change.
    """

    def __init__(
        self,
        settings: Settings,
        spider: str,
        *,
        project: Project | None = None,
        spiders: Collection[str] | None = None,
        redis_key: object = None,
    ) -> None:
        self.settings = settings
        self.spider = spider
        self.project = project
        self.options = Options.from_settings(settings)
        self.job = job_from_settings(settings) or None
        self._spiders = spiders
        self._redis_key = redis_key
        self._is_open = False

    @property
    def name(self) -> str:
        """What people call it: the spider's name, with a job ``spider:job``."""
        return crawl_name(self.spider, self.job or "")

    @property
    def words(self) -> str:
        """What names it on a command line."""
        return f"{self.spider} --job {self.job}" if self.job else self.spider

    # Opening

    async def open(
        self, broker: ports.Broker | None = None, *, timeout: float | None = None
    ) -> None:
        """Connect, within *timeout* seconds; or use *broker*, which stays open then."""
        if self._is_open:
            return
        found = broker or await open_broker(self.settings, self.spider, timeout=timeout)
        self._broker, self._is_shared = found, broker is not None
        self._is_open = True
        try:
            is_compact = fingerprints.are_compact(self.settings)
            self.port = found.crawl(
                self.settings, self.spider, self._redis_key, compact=is_compact
            )
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        was_open, self._is_open = self._is_open, False
        if was_open and not self._is_shared:
            await self._broker.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def reconnect(self) -> None:
        """Give up what waits for an answer; the next question makes a new connection."""
        await self._broker.drop()

    @property
    def where(self) -> str:
        """Where Redis is, without user name and password."""
        return self._broker.where

    async def check_format(self, *, older: bool = False) -> None:
        """Raise ConfigurationError if this version must not change it.

        *older*: see `ports.Crawl.reason_against`.
        """
        if reason := await self.port.reason_against(older=older):
            raise ConfigurationError(reason)

    # How it stands

    async def status(self, *, holds: int = 0) -> Status:
        """How it stands; with *holds* URLs of so many leases of each worker."""
        return await self.port.status(holds=holds)

    async def known_status(self, *, holds: int = 0) -> Status:
        """As `status`; raises ConfigurationError for a name that nobody knows.

        A spider of the project is known, also when nothing of it is in Redis; a job that
        was typed is not.
        """
        status = await self.status(holds=holds)
        if status.is_blank:
            priority = self.settings.getpriority("FRONTIER_JOB")
            is_typed = priority == SETTINGS_PRIORITIES["cmdline"]
            if self.project is None or (self.job and is_typed):
                raise await self.unknown()
        return status

    async def history(self) -> list[Finished]:
        """The crawls that have finished within a day, the newest first."""
        return await self.port.history()

    async def require_known(self) -> None:
        """Raise ConfigurationError if neither the project nor Redis knows it."""
        if self.project is None and (await self.status()).is_blank:
            raise await self.unknown()

    async def names(self) -> list[str]:
        """The crawls of all spiders, see `ports.Broker.names`."""
        return await self._broker.names(self.settings)

    async def unknown(self) -> ConfigurationError:
        """The error for a crawl that is not there; suggests the nearest name."""
        settings = Settings(self.settings)
        settings.set("FRONTIER_JOB", "", priority="cmdline")
        try:
            names = await wait_for(self._broker.names(settings), _SUGGEST_TIMEOUT)
        except (asyncio.TimeoutError, FrontierError):
            names = []
        text = f"There is no frontier of a spider {quote(self.name)} at {self.where}."
        if self._spiders is not None and self.project is None:
            names = [*names, *self._spiders]
            text = (
                f"There is no spider {quote(self.spider)} in this project, and no"
                f" frontier of {quote(self.name)} at {self.where}."
            )
        return ConfigurationError(text + nearest(self.name, {*names}))

    async def wait_drained(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do for anybody; false after *timeout* seconds."""
        return await until(self.port.is_drained, timeout)

    # Control

    async def pause(self, paused: bool = True) -> Paused:
        """Let no worker take more, or with *paused* false let them go on.

        Raises ConfigurationError where nobody knows the crawl: no key is left behind.
        """
        await self.check_format()
        await self.known_status()
        return await self.port.pause(paused)

    async def stop(self, workers: arguments.Workers) -> Stopped:
        """Ask *workers* to close: names (``host:pid``), numbers, or "all" of them.

        Raises ConfigurationError for a name that is not there.
        """
        await self.check_format()
        status = await self.known_status()
        chosen = arguments.chosen_workers(status, workers)
        asked = 0
        for at in range(0, len(chosen), _STOP_STEP):
            some = [worker.number for worker in chosen[at : at + _STOP_STEP]]
            asked += await self.port.stop(some)
        return Stopped(asked, tuple(chosen))

    async def counts(self, status: Status, parts: Iterable[str] = ()) -> dict[str, int]:
        """How much there is of *parts* of PARTS, by its name; none: of the frontier."""
        sizes = {**vars(status), **await self.port.sizes()}
        sizes["workers"] = len(status.workers)
        return {
            name: sizes[name]
            for part in [*parts] or [FRONTIER]
            for name in _COUNTED.get(part, (part,))
        }

    async def clear(self, *parts: str, force: bool = False) -> Cleared:
        """Delete *parts* of PARTS in one moment; none: what the next worker begins anew.

        What is not named stays. *force*: also while workers are alive; they go on with
        what they hold. Raises ConfigurationError for these.
        """
        chosen = arguments.checked_parts(parts) or [FRONTIER]
        await self.check_format(older=True)
        counts = await self.counts(await self.status(), parts)
        cleared = await self.port.clear(chosen, force=force)
        if not cleared.done:
            raise self.in_use(cleared.alive, "force=True")
        return replace(cleared, deleted=counts)

    def in_use(self, alive: int, force: str) -> ConfigurationError:
        """Why nothing is deleted while *alive* workers live; *force* is the way to."""
        return ConfigurationError(
            f"{count(alive, 'worker is', 'workers are')} alive, so nothing of"
            f" {clean(self.name)} was deleted. Stop them (scrapy frontier workers"
            f" {clean(self.words)} --stop all), or say {force}."
        )

    # Requests

    async def peek(self, limit: int) -> AsyncIterator[list[Shown]]:
        """The next *limit* requests in the order of their leases, some at a time."""
        async for some in self.port.peek(arguments.checked_limit(limit)):
            yield some

    async def hosts(
        self,
        limit: int = 20,
        sort: str = "pending",
        *,
        look: int = LOOK,
        letters: int = LETTERS,
    ) -> Hosts:
        """The first *limit* hosts (slots, see FRONTIER_SLOT) in the order of *sort*.

        *sort*: pending, delay or errors, the largest first. Of more than *look* hosts only
        some are looked at, those with the most requests among them; errors are those of
        the newest *letters* dead letters.
        """
        return await self.port.hosts(
            arguments.checked_limit(limit),
            sort=arguments.checked_sort(sort),
            look=look,
            letters=letters,
            delay_of=self.delay_of,
        )

    @cached_property
    def delay_of(self) -> Callable[[int], float | None]:
        """The delay of a slot that has none of its own in Redis; None: of each worker."""
        if not self.options.is_polite:
            return lambda _: None
        spider = self.project.spider if self.project else None
        politeness = PolitenessOptions.from_settings(
            self.settings, spider, self.options.discipline
        )
        return lambda slot: politeness.own.get(slot, politeness.rules).delay

    @cached_property
    def naming(self) -> Naming:
        """How the workers name requests."""
        if self.project is not None:
            return Naming.of_crawler(self.project.crawler)
        return Naming.from_settings(self.settings)

    # Dead letters

    async def failed(
        self, reason: str = "", *, before: str = ""
    ) -> AsyncIterator[DeadLetter]:
        """The dead letters whose reason contains *reason*, in any case, newest first.

        *before*: the id of one, which need not be there any more; only older ones.
        """
        if not isinstance(reason, str):
            raise ConfigurationError(f"reason = {quote(reason)} is no text.")
        async for letter in self.port.failed(
            reason, before=arguments.checked_id(before)
        ):
            yield letter

    async def newest_failed(
        self, limit: int | None, reason: str = ""
    ) -> list[DeadLetter]:
        """At most *limit* of `failed`; None: all."""
        found: list[DeadLetter] = []
        if limit is not None and not arguments.checked_limit(limit):
            return found
        async with aclosing(self.failed(reason)) as letters:  # type: ignore[type-var]
            async for letter in letters:
                found.append(letter)
                if len(found) == limit:
                    break
        return found

    async def retry(self, ids: arguments.Ids | None, reason: str = "") -> Retried:
        """Put dead letters back, to be crawled again: *ids*, or all; and with *reason*.

        What cannot be read stays, and is counted.
        """
        return await self.port.retry(
            None if ids is None else arguments.ids_of(ids),
            reason,
            decode=self.project.codec.decode if self.project else None,
            seeds_as=kind_of_new_key(self.settings),
        )

    async def forget(self, ids: arguments.Ids | None, reason: str = "") -> Forgotten:
        """Delete dead letters for good, chosen as in `retry`."""
        chosen = None if ids is None else arguments.ids_of(ids)
        return await self.port.forget(chosen, reason)

    # Seeds and items

    def seed_maker(
        self, meta: Mapping[str, Any] | None = None, priority: int | None = None
    ) -> SeedMaker:
        """What makes seeds by the rules of the workers, see `SeedMaker`."""
        spider = self.project.spider if self.project else None
        encoding = getattr(spider, "redis_encoding", None)
        rules = SeedRules.from_settings(self.settings, encoding)
        return SeedMaker(rules, spider=spider, meta=meta, priority=priority)

    def sower(self, maker: SeedMaker, key: str | None = None) -> Sower[Seed]:
        """What pushes seeds to *key*, or to the first that the workers read."""
        kind = kind_of_new_key(self.settings)
        pusher = self.port.seed_pusher(key or self.port.seed_keys[0], kind)
        return Sower(maker.make, pusher.push, lambda seed: len(seed.data))

    # The whole

    async def check(self, *, repair: bool = False) -> Report:
        """Whether the frontier is whole; with *repair*: make it so."""
        decode = self.project.codec.decode if self.project else None
        return await self.port.check(repair=repair, decode=decode)

    def take_over(self, prefix: str, taken: TakenOver) -> AsyncIterator[int]:
        """Move in what scrapy-redis keeps below *prefix*; yields the requests moved.

        Unpickles! Raises ConfigurationError where the project is not known.
        """
        if self.project is None:
            raise ConfigurationError(
                "Requests of scrapy-redis can only be read inside the project of their"
                " spider. Go there and say it again."
            )
        return self.port.take_over(
            prefix,
            taken,
            spider=self.project.spider,
            codec=self.project.codec,
            fingerprint=self.naming.fingerprint if self.naming.filters else None,
        )
