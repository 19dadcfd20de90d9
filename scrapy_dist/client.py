"""``Client``: feed a crawl, steer it, ask how it stands and take its items, from any
program.

No crawl and no reactor runs here. What this package does with Redis is asynchronous; a
client runs it in one thread of its own, so that it works the same in a script, in a
notebook and inside another event loop.
"""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from scrapy.settings import BaseSettings, Settings

from scrapy_dist.admin.arguments import ids_of
from scrapy_dist.admin.crawl import Crawl
from scrapy_dist.admin.items import Items, leave_all
from scrapy_dist.admin.seeding import BATCH
from scrapy_dist.base.blocking import LoopThread
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from scrapy_dist.redis_client.masking import shown_value

if TYPE_CHECKING:
    from typing_extensions import Self

    from scrapy_dist.admin.arguments import Ids, Workers
    from scrapy_dist.core.crawl import Cleared, Paused
    from scrapy_dist.core.dead_letters import DeadLetter, Forgotten, Retried
    from scrapy_dist.core.hosts import Hosts
    from scrapy_dist.core.inspection import Explained, Recrawled, Shown
    from scrapy_dist.core.status import Finished, Status

__all__ = ["Client", "Items"]

T = TypeVar("T")
Seeds = Iterable["str | bytes | Mapping[str, Any]"]

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
    raise RedisUnavailable when it does not answer, ConfigurationError for a setting, an
    argument or a key that cannot be used, RuntimeError after `close`. The project is not
    known here: callbacks are not checked, and `explain` and `recrawl` name requests by
    REQUEST_FINGERPRINTER_CLASS and DUPEFILTER_CLASS of *settings*.
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
        self._crawl = Crawl(own, spider)
        self.spider = spider
        self.job = self._crawl.job
        self._readers: dict[str, Items] = {}
        self._check_at = 0.0
        self._thread = LoopThread()
        self._thread.at_end = self._crawl.close
        self._finalizer = weakref.finalize(self, self._thread.stop)
        try:
            self._thread.run(self._crawl.open)
        except BaseException:
            self._finalizer()
            raise
        #: Where Redis is, without user name and password.
        self.redis = self._crawl.where

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
        seeds: Seeds,
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
        self, seeds: Seeds, meta: Mapping[str, Any] | None, priority: int | None
    ) -> int:
        sower = self._crawl.sower(self._crawl.seed_maker(meta, priority))
        if time.monotonic() > self._check_at:
            self._run(self._crawl.check_format)
            self._check_at = time.monotonic() + _CHECK_AGAIN
        # The caller's iterable is read in the caller's thread.
        rest = iter(seeds)
        while batch := list(itertools.islice(rest, BATCH)):
            self._run(partial(sower.push_all, batch))
        return sower.pushed

    # How it stands

    def status(self) -> Status:
        """How the crawl stands, in one round trip.

        status = client.status()
        print(status.pending, status.leased, status.pages_per_second)
        """
        return self._run(self._crawl.status)

    def history(self) -> list[Finished]:
        """The crawls that have finished within a day, the newest first.

        for crawl in client.history():
            print(crawl.end, crawl.pages, crawl.reason)
        """
        return self._run(self._crawl.port.history)

    def wait_drained(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do for anybody; false after *timeout* seconds.

            client.seed("https://example.org/")
            if not client.wait_drained(timeout=3600):
                print("still at work:", client.status())

        Drained: nothing pending, suspect or leased, and no seed waits. So is a crawl
        that has not begun. One whose workers are all gone may never be.
        """
        return self._run(partial(self._crawl.wait_drained, timeout))

    # Control

    def pause(self) -> Paused:
        """Let the workers take no more requests and no seeds, within a second.

            print(client.pause().alive, "workers finish what they hold")

        Nothing is lost, and workers that start meanwhile wait, too. In the result
        *before* tells whether it was paused already, *alive* how many workers there are.
        Raises ConfigurationError if Redis has nothing of such a crawl.
        """
        return self._run(self._crawl.pause)

    def resume(self) -> Paused:
        """Let the workers go on after `pause`; result and errors are as there."""
        return self._run(partial(self._crawl.pause, False))

    def stop(self, workers: Workers) -> int:
        """Ask workers to close, and return at once; how many were there to be asked.

            client.stop("all")
            client.stop(["web1:4711", "web2:4712"])

        *workers*: a name (``host:pid``), a number, or a worker of `status`; several of
        these; or "all". They finish what they have begun and give the rest back; the
        crawl goes on with the others. Raises ConfigurationError for one that is not there.
        """
        return self._run(partial(self._crawl.stop, workers)).asked

    def clear(self, *parts: str, force: bool = False) -> Cleared:
        """Delete the frontier, or only *parts* of the crawl, in one moment, for good.

            client.clear()
            client.clear("dupefilter", "requests")

        Without *parts*: requests, fingerprints, stats and what is known of workers, so
        that the next worker begins a new crawl. Parts: requests (pending, leased and
        suspect), dupefilter (fingerprints), failed (dead letters), items, stats, seeds,
        history (records of finished crawls), tasks (with their results). In the result *deleted* tells how much there
        was, by name. Raises ConfigurationError while workers are alive: stop them, or say
        *force*; then they go on with what they hold, and with its links.
        """
        return self._run(partial(self._crawl.clear, *parts, force=force))

    # Requests

    def peek(self, limit: int = 10) -> list[Shown]:
        """The next *limit* requests, in the order in which they will be handed out.

            for request in client.peek(20):
                print(request.url, request.fields)

        It only reads, and loads no pickle.
        """
        return self._run(lambda: self._peek(limit))

    async def _peek(self, limit: int) -> list[Shown]:
        return [shown async for some in self._crawl.peek(limit) for shown in some]

    def hosts(self, limit: int = 20, sort: str = "pending") -> Hosts:
        """The *limit* largest hosts (or what else FRONTIER_SLOT says) by *sort*.

            for host in client.hosts(5).hosts:
                print(host.name, host.pending, host.owners, host.wait)

        *sort*: pending, delay or errors. Of very many hosts only some are looked at, those
        with the most requests among them.
        """
        return self._run(partial(self._crawl.hosts, limit, sort))

    def explain(self, url: str) -> Explained:
        """What the frontier knows of *url*: whether it was seen, where it is, why it failed.

            print(client.explain("https://example.org/page/7").place)

        The place is pending, suspect, leased, failed, done or unknown. It is found by
        looking through the requests, about a second for 80,000 pending ones.
        """
        return self._run(partial(self._crawl.explain, url))

    def recrawl(
        self,
        urls: str | Iterable[str],
        *,
        callback: str | None = None,
        priority: int = 0,
        force: bool = False,
    ) -> list[Recrawled]:
        """Crawl *urls*, one or several, once more, though they were seen.

            client.recrawl("https://example.org/page/7", priority=10)

        Each is pending at once. *callback* is the name of a method of the spider, which is
        not checked here; None: parse. One that is pending, suspect or leased is left alone
        (in the result *queued* is false), unless *force*. Raises ConfigurationError for
        what is no URL, and if Redis has nothing of such a crawl.
        """
        given: dict[str, Any] = {"callback": callback, "priority": priority}
        return self._run(partial(self._crawl.recrawl, urls, force=force, **given))

    # Dead letters

    def failed(
        self, limit: int | None = 100, reason: str | None = None
    ) -> list[DeadLetter]:
        """The newest dead letters, at most *limit*, whose reason contains *reason*.

        for letter in client.failed(reason="timeout"):
            print(letter.url, letter.reason)
        """
        return self._run(lambda: self._crawl.newest_failed(limit, reason or ""))

    def retry(self, ids: Ids) -> Retried:
        """Put dead letters back, to be crawled again; *ids*, or letters themselves.

            client.retry(client.failed(reason="timeout"))

        What cannot be read stays, and is counted in the result.
        """
        return self._run(partial(self._crawl.retry, ids_of(ids)))

    def forget(self, ids: Ids) -> Forgotten:
        """Delete dead letters for good; *ids*, or letters themselves.

        client.forget(client.failed(reason="404"))
        """
        return self._run(partial(self._crawl.forget, ids_of(ids)))

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
        items = Items(
            self._run,
            self._crawl.port.items(consumer),
            follow=follow,
            timeout=timeout,
            acknowledge=acknowledge,
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
            self._thread.run(partial(leave_all, readers), last=True)
        finally:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
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
