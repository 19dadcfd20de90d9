"""``Client`` and ``AsyncClient``: feed a crawl, steer it, ask how it stands and take its
items, from any program.

No crawl and no reactor runs here. What this package does with Redis is asynchronous; a
`Client` has an `AsyncClient` in one thread of its own, so that it works the same in a
script, in a notebook and inside another event loop.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from scrapy_dist.admin.arguments import Ids, TaskIds, Workers, several
from scrapy_dist.admin.async_client import AsyncBatch, AsyncClient, Seed
from scrapy_dist.admin.items import AsyncItems, Items
from scrapy_dist.admin.seeding import BATCH
from scrapy_dist.admin.tasks import telling
from scrapy_dist.base.blocking import LoopThread
from scrapy_dist.core.tasks import Batch, OnDuplicate, Task, TaskState

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

    from scrapy_dist.core.crawl import Cleared, Paused
    from scrapy_dist.core.dead_letters import DeadLetter, Forgotten, Retried
    from scrapy_dist.core.hosts import Hosts
    from scrapy_dist.core.inspection import Explained, Recrawled, Shown
    from scrapy_dist.core.status import Finished, Status

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncItems",
    "Batch",
    "Client",
    "ClientBatch",
    "Items",
    "OnDuplicate",
    "Task",
    "TaskState",
]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class ClientBatch(Batch):
    """How far a batch is, as `Client.batch` gives it.

    progress = client.batch("monday")
    print(progress.ended, "of", progress.total, "have ended")
    """

    client: Client | None = field(default=None, repr=False, compare=False)

    def wait(self, timeout: float | None = None) -> ClientBatch:
        """Wait until all of its tasks have ended, see `Client.wait_batch`.

        assert client.batch("monday").wait(timeout=3600).failed == 0
        """
        assert self.client is not None
        return self.client.wait_batch(self.name, timeout)


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
        self._client = AsyncClient(url, spider, job, settings)
        self.spider = spider
        self.job = self._client.job
        self._thread = LoopThread()
        self._thread.at_end = self._client.close
        self._finalizer = weakref.finalize(self, self._thread.stop)
        try:
            self._thread.run(self._client.open)
        except BaseException:
            self._finalizer()
            raise
        #: Where Redis is, without user name and password.
        self.redis = self._client.redis

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
        return self.seed_many(urls, meta=meta, priority=priority)

    def seed_many(
        self,
        seeds: Iterable[Seed],
        *,
        meta: Mapping[str, Any] | None = None,
        priority: int | None = None,
    ) -> int:
        """Like `seed`, for any number of them: *seeds* is read bit by bit.

        with open("urls.txt") as file:
            client.seed_many(line for line in file if line.strip())
        """
        push = partial(self._client.seed_many, meta=meta, priority=priority)
        # The caller's iterable is read in the caller's thread.
        chunks = _chunks(several(seeds, "seed"), BATCH)
        return sum(self._run(push, some) for some in chunks)

    # Tasks

    def submit(
        self,
        url: Seed,
        *,
        id: str | int | None = None,
        batch: str | None = None,
        meta: Mapping[str, Any] | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        on_duplicate: str | OnDuplicate = "refuse",
    ) -> Task:
        """Push a seed, a URL or an object as in a JSON seed, that is a task.

            task = client.submit("https://example.org/", id="t1", batch="monday")
            task = client.wait(task, timeout=60)
            print(task.state, task.done, client.results(task))

        All that comes of the seed belongs to the task. *id*: 1 to 255 characters; None:
        that of the seed, else a random one. *batch*: a name for tasks that belong
        together. *timeout*: seconds that the download of the seed may take;
        *max_retries*: how often it is tried again. *meta* and *priority* as in `seed`.

        *on_duplicate* says what becomes of it while a task with this id has not ended:
        "refuse" raises TaskExists (a ValueError), "join" pushes nothing and tells how the
        other one stands, "restart" cancels that; "reuse" joins it also when it has ended.
        Raises BadSeed as `seed`. Needs the add-on in the workers, and RedisPipeline for
        results.
        """
        submit = self._client.submit
        limits: dict[str, Any] = {"timeout": timeout, "max_retries": max_retries}
        more: dict[str, Any] = {"meta": meta, "priority": priority, **limits}
        return self._run(
            partial(submit, url, id=id, batch=batch, on_duplicate=on_duplicate, **more)
        )

    def submit_many(
        self,
        seeds: Iterable[Seed],
        *,
        batch: str | None = None,
        meta: Mapping[str, Any] | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        on_duplicate: str | OnDuplicate = "refuse",
    ) -> list[str]:
        """Like `submit`, for any number of them; *seeds* is read bit by bit. Their ids.

            urls = ("https://example.org/1", "https://example.org/2")
            client.submit_many(urls, batch="monday")
            print(client.batch("monday").wait(timeout=3600).done)

        An object may have an ``id`` and a ``batch`` of its own. Seeds are checked and
        pushed 500 at a time: if one of these is bad, none of them is pushed, and the
        rest is not read; if ids are refused, those beside them are pushed. The error
        says how many are submitted before these.
        """
        limits: dict[str, Any] = {"timeout": timeout, "max_retries": max_retries}
        more: dict[str, Any] = {"meta": meta, "priority": priority, **limits}
        push = partial(
            self._client.submit_many, batch=batch, on_duplicate=on_duplicate, **more
        )
        chunks = _chunks(several(seeds, "submit"), BATCH)
        ids: list[str] = []
        for some in chunks:
            with telling(ids):
                ids += self._run(push, some)
        return ids

    def task(self, id: str | int | Task) -> Task:
        """How the newest task of this id stands, or the run that a `Task` is.

            task = client.task("t1")
            if task.state == "failed":
                print(task.failed, "dead letters, the last:", task.reason)

        State: queued, running, done, failed or cancelled. Raises UnknownTask (a
        LookupError); a seed that was pushed by hand is a task once a worker has it.
        """
        return self._run(self._client.task, id)

    def tasks(
        self,
        batch: str | None = None,
        state: str | TaskState | None = None,
        limit: int | None = None,
    ) -> list[Task]:
        """All tasks, of *batch*, in *state*; the newest first, at most *limit* of them.

            for task in client.tasks(batch="monday", state="failed"):
                print(task.id, task.reason)

        Those that have ended are kept for FRONTIER_RESULT_TTL seconds, a day.
        """
        return self._run(self._client.tasks, batch, state, limit)

    def wait(self, id: str | int | Task, timeout: float | None = None) -> Task:
        """Wait until the task has ended, however it did; how it stands.

            task = client.wait("t1", timeout=60)
            print(task.state, task.done, task.items)

        A page that Scrapy leaves out, as robots.txt forbids it or it is off site, is no
        failure: a task of nothing else is done, without items.
        Raises TimeoutError after *timeout* seconds, and UnknownTask once nothing is left
        in the crawl that could become this task.
        """
        return self._run(self._client.wait, id, timeout)

    def wait_many(self, ids: TaskIds, timeout: float | None = None) -> list[Task]:
        """As `wait`, for all of *ids* (or tasks); one question to Redis asks for many.

        for task in client.wait_many(["t1", "t2"], timeout=60):
            print(task.id, task.state)
        """
        return self._run(self._client.wait_many, _read(ids), timeout)

    def results(
        self, id: str | int | Task, start: int = 0, limit: int | None = None
    ) -> list[dict[str, Any] | bytes]:
        """The items of a task, in the order in which they were stored.

            for item in client.results("t1"):
                print(item["title"])

        At most *limit* of them, from *start* on: ``results("t1", 100, 100)`` are the
        second hundred. Reading them takes nothing away; they are kept for
        FRONTIER_RESULT_TTL seconds after the end of the task. Raises UnknownTask.
        """
        return self._run(self._client.results, id, start, limit)

    def cancel(self, *ids: TaskIds) -> int:
        """Cancel tasks that have not ended; how many there were.

            client.cancel("t1", "t2")
            client.cancel(client.tasks(batch="monday", state="queued"))

        Of an id its newest run is meant, of a `Task` the run that it is, as with `wait`.
        What is pending of them is dropped. What runs is finished, and leads to nothing
        more.
        """
        return self._run(self._client.cancel, *map(_read, ids))

    def batch(self, name: str) -> ClientBatch:
        """How many tasks of a batch are in which state; all 0 if nobody knows it.

        progress = client.batch("monday")
        print(progress.ended, "of", progress.total, "have ended")
        progress.wait(timeout=3600)
        """
        return self._with_wait(self._run(self._client.batch, name))

    def batches(self) -> list[ClientBatch]:
        """All batches, by their names.

        for progress in client.batches():
            print(progress.name, progress.failed)
        """
        return [*map(self._with_wait, self._run(self._client.batches))]

    def wait_batch(self, name: str, timeout: float | None = None) -> ClientBatch:
        """Wait until all tasks of a batch have ended; how they did.

            print(client.wait_batch("monday", timeout=3600).failed, "have failed")

        Raises TimeoutError after *timeout* seconds, and UnknownTask where nobody knows
        such a batch and nothing is left in the crawl.
        """
        return self._with_wait(self._run(self._client.wait_batch, name, timeout))

    def _with_wait(self, batch: AsyncBatch) -> ClientBatch:
        return ClientBatch(**batch.counts(), client=self)

    # How it stands

    def status(self) -> Status:
        """How the crawl stands, in one round trip.

        status = client.status()
        print(status.pending, status.leased, status.pages_per_second)
        """
        return self._run(self._client.status)

    def history(self) -> list[Finished]:
        """The crawls that have finished within a day, the newest first.

        for crawl in client.history():
            print(crawl.end, crawl.pages, crawl.reason)
        """
        return self._run(self._client.history)

    def wait_drained(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do for anybody; false after *timeout* seconds.

            client.seed("https://example.org/")
            if not client.wait_drained(timeout=3600):
                print("still at work:", client.status())

        Drained: nothing pending, suspect or leased, and no seed waits. So is a crawl
        that has not begun. One whose workers are all gone may never be.
        """
        return self._run(self._client.wait_drained, timeout)

    # Control

    def pause(self) -> Paused:
        """Let the workers take no more requests and no seeds, within a second.

            print(client.pause().alive, "workers finish what they hold")

        Nothing is lost, and workers that start meanwhile wait, too. In the result
        *before* tells whether it was paused already, *alive* how many workers there are.
        Raises ConfigurationError if Redis has nothing of such a crawl.
        """
        return self._run(self._client.pause)

    def resume(self) -> Paused:
        """Let the workers go on after `pause`; result and errors are as there."""
        return self._run(self._client.resume)

    def stop(self, workers: Workers) -> int:
        """Ask workers to close, and return at once; how many were there to be asked.

            client.stop("all")
            client.stop(["web1:4711", "web2:4712"])

        *workers*: a name (``host:pid``), a number, or a worker of `status`; several of
        these; or "all". They finish what they have begun and give the rest back; the
        crawl goes on with the others. Raises ConfigurationError for one that is not there.
        """
        return self._run(self._client.stop, _read(workers))

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
        return self._run(self._client.clear, *parts, force=force)

    # Requests

    def peek(self, limit: int = 10) -> list[Shown]:
        """The next *limit* requests, in the order in which they will be handed out.

            for request in client.peek(20):
                print(request.url, request.fields)

        It only reads, and loads no pickle.
        """
        return self._run(self._client.peek, limit)

    def hosts(self, limit: int = 20, sort: str = "pending") -> Hosts:
        """The *limit* largest hosts (or what else FRONTIER_SLOT says) by *sort*.

            for host in client.hosts(5).hosts:
                print(host.name, host.pending, host.owners, host.wait)

        *sort*: pending, delay or errors. Of very many hosts only some are looked at, those
        with the most requests among them.
        """
        return self._run(self._client.hosts, limit, sort)

    def explain(self, url: str) -> Explained:
        """What the frontier knows of *url*: whether it was seen, where it is, why it failed.

            print(client.explain("https://example.org/page/7").place)

        The place is pending, suspect, leased, failed, done or unknown. It is found by
        looking through the requests, about a second for 80,000 pending ones.
        """
        return self._run(self._client.explain, url)

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
        recrawl = partial(self._client.recrawl, _read(urls), force=force, **given)
        return self._run(recrawl)

    # Dead letters

    def failed(
        self, limit: int | None = 100, reason: str | None = None
    ) -> list[DeadLetter]:
        """The newest dead letters, at most *limit*, whose reason contains *reason*.

        for letter in client.failed(reason="timeout"):
            print(letter.url, letter.reason)
        """
        return self._run(self._client.failed, limit, reason)

    def retry(self, ids: Ids) -> Retried:
        """Put dead letters back, to be crawled again; *ids*, or letters themselves.

            client.retry(client.failed(reason="timeout"))

        What cannot be read stays, and is counted in the result.
        """
        return self._run(self._client.retry, _read(ids))

    def forget(self, ids: Ids) -> Forgotten:
        """Delete dead letters for good; *ids*, or letters themselves.

        client.forget(client.failed(reason="404"))
        """
        return self._run(self._client.forget, _read(ids))

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
        return Items(
            self._run,
            self._client.items(
                follow=follow,
                timeout=timeout,
                acknowledge=acknowledge,
                consumer=consumer,
            ),
        )

    # The end

    def close(self) -> None:
        """Give items that were not acknowledged back, and close the connection.

        Calls of other threads that still wait end with RuntimeError.
        """
        if not self._finalizer.alive:
            return
        try:
            self._thread.run(self._client.close, last=True)
        finally:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        job = f", job={self.job!r}" if self.job else ""
        return f"<Client of {self.spider!r}{job} at {self.redis}>"

    def _run(
        self, work: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **more: P.kwargs
    ) -> T:
        """The result of *work*, in the client's thread."""
        return self._thread.run(partial(work, *args, **more))


def _read(values: Any) -> Any:
    """*values*; an iterator as a list, for it may call the client: not in its thread."""
    return list(values) if isinstance(values, Iterator) else values


def _chunks(seeds: Iterable[Seed], size: int) -> Iterator[list[Seed]]:
    """*seeds*, some at a time; at least one list, so that all arguments are checked."""
    rest = iter(seeds)
    yield list(itertools.islice(rest, size))
    while some := list(itertools.islice(rest, size)):
        yield some
