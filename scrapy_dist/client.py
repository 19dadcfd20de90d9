"""``Client``: feed a crawl, ask how it stands and take its items, from any program.

No crawl and no reactor runs here. What this package does with Redis is asynchronous; a
client runs it in one thread of its own, so that it works the same in a script, in a
notebook and inside another event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import RedisError, ResponseError
from scrapy.settings import BaseSettings, Settings

from scrapy_dist import connection, defaults
from scrapy_dist.admin.seeding import BATCH, SeedMaker, kind_of_new_key, push_seeds
from scrapy_dist.base.blocking import LoopThread
from scrapy_dist.base.escaping import get_logger
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import (
    Keys,
    fill_template,
    job_from_settings,
    tagged,
)
from scrapy_dist.brokers.redis.tools import dead_letters
from scrapy_dist.brokers.redis.tools.items import ItemReader, Items
from scrapy_dist.brokers.redis.version import check_format
from scrapy_dist.brokers.redis.views.history import read_history
from scrapy_dist.brokers.redis.views.status import read_status
from scrapy_dist.codec.seal import Seal
from scrapy_dist.core.settings import Options
from scrapy_dist.exceptions import ConfigurationError, FrontierError, RedisUnavailable
from scrapy_dist.redis_client.masking import shown_value

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from scrapy_dist.brokers.redis.tools.dead_letters import (
        DeadLetter,
        Forgotten,
        Retried,
    )
    from scrapy_dist.brokers.redis.views.history import Finished
    from scrapy_dist.brokers.redis.views.status import Status

__all__ = ["Client", "Items"]

logger = get_logger(__name__)

T = TypeVar("T")

#: Seconds between two looks whether the crawl is drained, at first and at the most.
_SHORTEST, _LONGEST = 0.05, 1.0
#: Seconds that a Redis which does not answer can hold up the closing of a client.
_CLOSE_TIMEOUT = 5.0
#: Seconds after which it is asked again whether this version may push seeds.
_CHECK_AGAIN = 5.0


class Client:
    """The crawl *spider* in the Redis at *url*, without a crawl running here.

        with Client("redis://localhost:6379/0", "myspider") as client:
            client.seed("https://example.org/")
            print(client.status().pending)

    *job* is the crawl of that name (FRONTIER_JOB). *settings* are those of the project
    that matter here, as a dict or Scrapy's object: templates of keys, REDIS_PARAMS,
    FRONTIER_SEED_…; for a spider with a ``redis_key`` of its own, that as
    REDIS_START_URLS_KEY. *url* None: they say where Redis is.

    Connects at once. All methods may be called from any thread, and wait for Redis; they
    raise RedisUnavailable when it does not answer, ConfigurationError for a setting or a
    key that cannot be used, RuntimeError after `close`.
    """

    def __init__(
        self,
        url: str | None,
        spider: str,
        job: str | None = None,
        settings: Mapping[str, Any] | BaseSettings | None = None,
    ) -> None:
        if not isinstance(spider, str) or not spider:
            raise ConfigurationError(f"spider = {spider!r} is no name of a spider.")
        if url is not None and (not isinstance(url, str) or not url):
            raise ConfigurationError(
                f"url = {shown_value('url', url)} is no address of Redis. Write e.g."
                " redis://:password@host:6379/0, or None where settings say it."
            )
        own = Settings()
        if isinstance(settings, BaseSettings):
            own.update(settings)
        else:
            own.update(dict(settings or {}), priority="project")
        if url is not None:
            own.set("REDIS_URL", url, priority="cmdline")
        if job is not None:
            own.set("FRONTIER_JOB", job, priority="cmdline")
        self.spider = spider
        self.job = job_from_settings(own) or None
        self._settings = own
        self._options = Options.from_settings(own)
        self._keys = Keys.from_settings(own, spider)
        self._seed_keys = _seed_keys(own, spider)
        #: Where Redis is, without user name and password.
        self.redis = connection.describe(own)
        self._readers: dict[str, Items] = {}
        self._check_at = 0.0
        self._thread = LoopThread()
        self._finalizer = weakref.finalize(self, self._thread.stop)
        try:
            self._frontier = self._thread.run(self._open)
        except BaseException:
            self._finalizer()
            raise

    async def _open(self) -> Frontier:
        client = await connection.open_client(self._settings, self._keys.requests)
        self._thread.at_end = partial(connection.close_client, client)
        return Frontier(
            client,
            self._keys,
            ttl=self._options.worker_ttl,
            max_deliveries=self._options.max_deliveries,
            failed_limit=self._options.failed_limit,
            newest_first=self._options.discipline.newest_first,
            seed_keys=self._seed_keys,
            seal=Seal.from_settings(self._settings, self._keys.requests),
        )

    # Seeds

    def seed(
        self,
        *urls: str | Mapping[str, Any],
        meta: Mapping[str, Any] | None = None,
        priority: int | None = None,
    ) -> int:
        """Push seeds, URLs or objects as in a JSON seed; how many were pushed.

            client.seed("https://example.org/", meta={"shop": 7}, priority=10)

        All of them are checked as workers do: raises BadSeed (a ValueError) that names
        what is wrong, and then those in front of it are pushed. Callbacks are not
        checked: the spider is not known here.
        """
        return self._seed(urls, meta, priority)

    def seed_many(
        self,
        seeds: Iterable[str | bytes | Mapping[str, Any]],
        *,
        meta: Mapping[str, Any] | None = None,
        priority: int | None = None,
    ) -> int:
        """Like `seed`, for any number of them: *seeds* is read bit by bit.

        with open("urls.txt") as file:
            client.seed_many(line for line in file if line.strip())
        """
        if isinstance(seeds, (str, bytes, Mapping)):
            raise TypeError(f"seeds = {seeds!r} is one seed: use seed(), or a list.")
        return self._seed(seeds, meta, priority)

    def _seed(
        self,
        seeds: Iterable[str | bytes | Mapping[str, Any]],
        meta: Mapping[str, Any] | None,
        priority: int | None,
    ) -> int:
        maker = SeedMaker.from_settings(self._settings, meta=meta, priority=priority)
        key, kind = self._seed_keys[0], kind_of_new_key(self._settings)
        if time.monotonic() > self._check_at:
            check = partial(check_format, self._frontier.client, self._keys.state)
            self._run(check)
            self._check_at = time.monotonic() + _CHECK_AGAIN
        # The caller's iterable is read in the caller's thread.
        rest = iter(seeds)
        pushed = 0
        while batch := list(itertools.islice(rest, BATCH)):
            push = partial(push_seeds, self._frontier.client, key, batch)
            pushed += self._run(partial(push, maker=maker, kind=kind))
        return pushed

    # How it stands

    def status(self) -> Status:
        """How the crawl stands, in one round trip.

        status = client.status()
        print(status.pending, status.leased, status.pages_per_second)
        """
        return self._run(lambda: read_status(self._frontier, self.spider, self.job))

    def history(self) -> list[Finished]:
        """The crawls that have finished within a day, the newest first.

        for crawl in client.history():
            print(crawl.end, crawl.pages, crawl.reason)
        """
        return self._run(lambda: read_history(self._frontier))

    def wait_drained(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do for anybody; false after *timeout* seconds.

            client.seed("https://example.org/")
            if not client.wait_drained(timeout=3600):
                print("still at work:", client.status())

        Drained: nothing pending, suspect or leased, and no seed waits. So is a crawl
        that has not begun. One whose workers are all gone may never be.
        """
        return self._run(lambda: self._wait_drained(timeout))

    async def _wait_drained(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _SHORTEST
        while True:
            call = self._frontier.drained()
            await self._frontier.exchange([call])
            if call.reply().is_drained:
                return True
            if deadline is not None:
                pause = min(pause, deadline - time.monotonic())
                if pause <= 0:
                    return False
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST)

    # Dead letters

    def failed(
        self, limit: int | None = 100, reason: str | None = None
    ) -> list[DeadLetter]:
        """The newest dead letters, at most *limit*, whose reason contains *reason*.

        for letter in client.failed(reason="timeout"):
            print(letter.url, letter.reason)
        """
        return self._run(lambda: self._list_failed(limit, reason or ""))

    async def _list_failed(self, limit: int | None, reason: str) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        if limit is not None and limit <= 0:
            return found
        async for letter in dead_letters.list_failed(self._frontier, reason=reason):
            found.append(letter)
            if len(found) == limit:
                break
        return found

    def retry(self, ids: str | DeadLetter | Iterable[str | DeadLetter]) -> Retried:
        """Put dead letters back, to be crawled again; *ids*, or letters themselves.

            client.retry(client.failed(reason="timeout"))

        What cannot be read stays, and is counted in the result.
        """
        chosen = _ids(ids)
        return self._run(
            lambda: dead_letters.retry(
                self._frontier,
                ids=chosen,
                discipline=self._options.discipline,
                seeds_as=kind_of_new_key(self._settings),
            )
        )

    def forget(self, ids: str | DeadLetter | Iterable[str | DeadLetter]) -> Forgotten:
        """Delete dead letters for good; *ids*, or letters themselves.

        client.forget(client.failed(reason="404"))
        """
        chosen = _ids(ids)
        return self._run(lambda: dead_letters.forget(self._frontier, ids=chosen))

    # Items

    def items(
        self,
        *,
        follow: bool = False,
        timeout: float | None = None,
        acknowledge: bool = True,
        consumer: str = "default",
    ) -> Items:
        """Take the crawl's items out of Redis, each at least once.

            for item in client.items(follow=True):
                save(item)

        Items of RedisPipeline come as dicts; what is no JSON object comes as bytes. They
        end when there are none now; with *follow* when the crawl is drained and none is
        left, or when none has come for *timeout* seconds.

        An item is removed from Redis for good some time after the next one was asked
        for: at once if you work on each for a tenth of a second or longer, else with
        some others. A program that is killed gets those that were not removed again,
        first of all. With *acknowledge* false only `Items.ack` removes items.

        *consumer* is the name of this reader: of two with one name that run at the same
        time, the later gets the items, and the earlier a ConfigurationError.
        """
        reader = ItemReader(self._frontier, consumer)
        items = Items(
            self._run, reader, follow=follow, timeout=timeout, acknowledge=acknowledge
        )
        self._readers[consumer] = items
        return items

    # The end

    def close(self) -> None:
        """Give items that were not acknowledged back, and close the connection.

        Calls of other threads that still wait end with RuntimeError.
        """
        if not self._finalizer.alive:
            return
        readers = [items.detach() for items in self._readers.values()]
        try:
            self._thread.run(lambda: _leave(readers), last=True)
        finally:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        job = f", job={self.job!r}" if self.job else ""
        return f"<Client of {self.spider!r}{job} at {self.redis}>"

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of *work*, in the client's thread."""
        try:
            return self._thread.run(work)
        except RedisUnavailable as e:
            if self.redis in str(e):
                raise
            raise RedisUnavailable(f"Redis at {self.redis}: {e}") from e
        except ResponseError as e:
            if "WRONGTYPE" not in str(e):
                raise RedisUnavailable(f"Redis at {self.redis} refuses: {e}") from e
            raise ConfigurationError(
                f"A key of {self.spider!r} holds something else: scrapy frontier check"
                f" {self.spider} tells which."
            ) from e
        except (RedisError, OSError) as e:
            raise RedisUnavailable(
                f"Redis at {self.redis} does not answer: {type(e).__name__}: {e}"
            ) from e


async def _leave(readers: Iterable[ItemReader]) -> None:
    async def leave() -> None:
        for reader in readers:
            await reader.leave()

    try:
        await asyncio.wait_for(leave(), _CLOSE_TIMEOUT)
    except (FrontierError, asyncio.TimeoutError) as e:
        # They stay in the readers' lists, for the next ones of those names.
        logger.debug("Items were not given back: %s", e or "Redis does not answer")


def _ids(ids: str | DeadLetter | Iterable[str | DeadLetter]) -> list[str]:
    if isinstance(ids, (str, dead_letters.DeadLetter)):
        ids = [ids]
    return [each if isinstance(each, str) else each.id for each in ids]


def _seed_keys(settings: BaseSettings, spider: str) -> tuple[str, ...]:
    setting = "REDIS_START_URLS_KEY"
    key = settings.get(setting) or defaults.REDIS_START_URLS_KEY
    templates = key if isinstance(key, (list, tuple)) else [key]
    name = tagged(settings, spider)
    return tuple(fill_template(template, setting, name) for template in templates)
