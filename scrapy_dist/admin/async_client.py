"""``AsyncClient``: all that programs do with a crawl, awaitable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from scrapy_dist.admin.arguments import (
    Ids,
    TaskIds,
    Workers,
    client_settings,
    ids_of,
    several,
)
from scrapy_dist.admin.crawl import Crawl
from scrapy_dist.admin.items import AsyncItems, leave_all
from scrapy_dist.admin.seeding import BATCH, chunks
from scrapy_dist.admin.tasks import Tasks, telling
from scrapy_dist.admin.urls import explain, recrawl
from scrapy_dist.base.waits import cancel
from scrapy_dist.core.tasks import Batch, OnDuplicate, Task, TaskState
from scrapy_dist.exceptions import RedisUnavailable

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

    from scrapy_dist.core.crawl import Cleared, Paused
    from scrapy_dist.core.dead_letters import DeadLetter, Forgotten, Retried
    from scrapy_dist.core.hosts import Hosts
    from scrapy_dist.core.inspection import Explained, Recrawled, Shown
    from scrapy_dist.core.status import Finished, Status

P = ParamSpec("P")
T = TypeVar("T")
Seed = str | bytes | Mapping[str, Any]
Seeds = Iterable[Seed]

#: Seconds after which it is asked again whether this version may push seeds.
_CHECK_AGAIN = 5.0


@dataclass(frozen=True)
class AsyncBatch(Batch):
    """How far a batch is, as `AsyncClient.batch` gives it."""

    client: AsyncClient | None = field(default=None, repr=False, compare=False)

    async def wait(self, timeout: float | None = None) -> AsyncBatch:
        """See `client.ClientBatch.wait`."""
        assert self.client is not None
        return await self.client.wait_batch(self.name, timeout)


class AsyncClient:
    """What `scrapy_dist.Client` is, for programs with an event loop of their own.

        async with AsyncClient("redis://localhost:6379/0", "myspider") as client:
            task = await client.submit("https://example.org/")
            print((await client.wait(task, timeout=60)).state)

    Arguments and methods are those of `Client`, where they are described; here all are
    to be awaited, but `items`, which gives an asynchronous iterator. Many of them may
    wait at the same time. It connects in ``async with``, or by `open`.
    """

    def __init__(
        self,
        url: str | None,
        spider: str,
        job: str | None = None,
        settings: Mapping[str, Any] | BaseSettings | None = None,
    ) -> None:
        self._crawl = Crawl(client_settings(url, spider, job, settings), spider)
        self._tasks = Tasks(self._crawl)
        self.spider = spider
        self.job = self._crawl.job
        #: Where Redis is, without user name and password; '' before `open`.
        self.redis = ""
        self._readers: dict[str, AsyncItems] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._check_at = 0.0
        self._is_closed = False

    # Beginning and end

    async def open(self) -> None:
        """Connect; once is enough. Raises RuntimeError after `close`."""
        if self._is_closed:
            raise RuntimeError("This client is closed.")
        if not self.redis:
            await self._crawl.open()
            self.redis = self._crawl.where

    async def close(self) -> None:
        """Give items that were not acknowledged back, and close the connection.

        Calls that still wait end with RuntimeError.
        """
        if self._is_closed:
            return
        self._is_closed = True
        await cancel(self._running)
        try:
            await leave_all([items.detach() for items in self._readers.values()])
        finally:
            await self._crawl.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        job = f", job={self.job!r}" if self.job else ""
        return f"<AsyncClient of {self.spider!r}{job} at {self.redis or '…'}>"

    def _require_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("This client is closed.")
        if not self.redis:
            raise RuntimeError(
                "Write `async with` for this client, or open() it first."
            )

    async def _ask(
        self,
        work: Callable[P, Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The result of *work*, which `close` ends."""
        self._require_open()
        task = asyncio.ensure_future(work(*args, **kwargs))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await task
        except asyncio.CancelledError:
            if self._is_closed:
                raise RuntimeError("This client was closed meanwhile.") from None
            raise
        except RedisUnavailable as e:
            if self.redis in str(e):
                raise
            raise RedisUnavailable(f"Redis at {self.redis}: {e}") from e

    # Seeds

    async def seed(
        self,
        *urls: str | Mapping[str, Any],
        meta: Mapping[str, Any] | None = None,
        priority: int | None = None,
    ) -> int:
        """See `Client.seed`."""
        return await self._seed(urls, meta, priority)

    async def seed_many(
        self,
        seeds: Seeds | AsyncIterable[Seed],
        *,
        meta: Mapping[str, Any] | None = None,
        priority: int | None = None,
    ) -> int:
        """See `Client.seed_many`; *seeds* may be an asynchronous iterable."""
        return await self._seed(several(seeds, "seed"), meta, priority)

    async def _seed(
        self,
        seeds: Seeds | AsyncIterable[Seed],
        meta: Mapping[str, Any] | None,
        priority: int | None,
    ) -> int:
        self._require_open()
        sower = self._crawl.sower(self._crawl.seed_maker(meta, priority))
        await self._check_format()
        async for some in chunks(seeds, BATCH):
            await self._ask(sower.push_all, some)
        return sower.pushed

    async def _check_format(self) -> None:
        if time.monotonic() > self._check_at:
            await self._ask(self._crawl.check_format)
            self._check_at = time.monotonic() + _CHECK_AGAIN

    # Tasks

    async def submit(
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
        """See `Client.submit`."""
        maker = self._tasks.maker(
            batch=batch,
            meta=meta,
            priority=priority,
            timeout=timeout,
            max_retries=max_retries,
        )
        task = maker.make(url, id)
        await self._check_format()
        return await self._ask(self._tasks.submit, task, on_duplicate)

    async def submit_many(
        self,
        seeds: Seeds | AsyncIterable[Seed],
        *,
        batch: str | None = None,
        meta: Mapping[str, Any] | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        on_duplicate: str | OnDuplicate = "refuse",
    ) -> list[str]:
        """See `Client.submit_many`; *seeds* may be an asynchronous iterable."""
        maker = self._tasks.maker(
            batch=batch,
            meta=meta,
            priority=priority,
            timeout=timeout,
            max_retries=max_retries,
        )
        await self._check_format()
        ids: list[str] = []
        async for some in chunks(several(seeds, "submit"), BATCH):
            with telling(ids):
                new = [maker.make(seed) for seed in some]
                await self._ask(self._tasks.submit_all, new, on_duplicate)
            ids += [task.id for task in new]
        return ids

    async def task(self, id: str | int | Task) -> Task:
        """See `Client.task`."""
        return await self._ask(self._tasks.task, id)

    async def tasks(
        self,
        batch: str | None = None,
        state: str | TaskState | None = None,
        limit: int | None = None,
    ) -> list[Task]:
        """See `Client.tasks`."""
        return await self._ask(self._tasks.tasks, batch, state, limit)

    async def wait(self, id: str | int | Task, timeout: float | None = None) -> Task:
        """See `Client.wait`."""
        return await self._ask(self._tasks.wait, id, timeout)

    async def wait_many(self, ids: TaskIds, timeout: float | None = None) -> list[Task]:
        """See `Client.wait_many`."""
        return await self._ask(self._tasks.wait_many, ids, timeout)

    async def results(
        self, id: str | int | Task, start: int = 0, limit: int | None = None
    ) -> list[dict[str, Any] | bytes]:
        """See `Client.results`."""
        return await self._ask(self._tasks.results, id, start, limit)

    async def cancel(self, *ids: TaskIds) -> int:
        """See `Client.cancel`."""
        await self._ask(self._crawl.check_format)
        found = await self._ask(self._tasks.cancel, *ids)
        return sum(task is not None and not task.state.is_end for task in found)

    async def batch(self, name: str) -> AsyncBatch:
        """See `Client.batch`."""
        return self._with_wait(await self._ask(self._tasks.batch, name))

    async def batches(self) -> list[AsyncBatch]:
        """See `Client.batches`."""
        return [*map(self._with_wait, await self._ask(self._tasks.batches))]

    async def wait_batch(self, name: str, timeout: float | None = None) -> AsyncBatch:
        """See `Client.wait_batch`."""
        found = await self._ask(self._tasks.wait_batch, name, timeout)
        return self._with_wait(found)

    def _with_wait(self, batch: Batch) -> AsyncBatch:
        return AsyncBatch(**batch.counts(), client=self)

    # How the crawl stands

    async def status(self) -> Status:
        """See `Client.status`."""
        return await self._ask(self._crawl.status)

    async def history(self) -> list[Finished]:
        """See `Client.history`."""
        return await self._ask(self._crawl.history)

    async def wait_drained(self, timeout: float | None = None) -> bool:
        """See `Client.wait_drained`."""
        return await self._ask(self._crawl.wait_drained, timeout)

    # Control

    async def pause(self) -> Paused:
        """See `Client.pause`."""
        return await self._ask(self._crawl.pause)

    async def resume(self) -> Paused:
        """See `Client.resume`."""
        return await self._ask(self._crawl.pause, False)

    async def stop(self, workers: Workers) -> int:
        """See `Client.stop`."""
        return (await self._ask(self._crawl.stop, workers)).asked

    async def clear(self, *parts: str, force: bool = False) -> Cleared:
        """See `Client.clear`."""
        return await self._ask(self._crawl.clear, *parts, force=force)

    # Requests

    async def peek(self, limit: int = 10) -> list[Shown]:
        """See `Client.peek`."""

        async def read() -> list[Shown]:
            return [shown async for some in self._crawl.peek(limit) for shown in some]

        return await self._ask(read)

    async def hosts(self, limit: int = 20, sort: str = "pending") -> Hosts:
        """See `Client.hosts`."""
        return await self._ask(self._crawl.hosts, limit, sort)

    async def explain(self, url: str) -> Explained:
        """See `Client.explain`."""
        return await self._ask(explain, self._crawl, url)

    async def recrawl(
        self,
        urls: str | Iterable[str],
        *,
        callback: str | None = None,
        priority: int = 0,
        force: bool = False,
    ) -> list[Recrawled]:
        """See `Client.recrawl`."""
        given: dict[str, Any] = {"callback": callback, "priority": priority}
        return await self._ask(recrawl, self._crawl, urls, force=force, **given)

    # Dead letters

    async def failed(
        self, limit: int | None = 100, reason: str | None = None
    ) -> list[DeadLetter]:
        """See `Client.failed`."""
        return await self._ask(self._crawl.newest_failed, limit, reason or "")

    async def retry(self, ids: Ids) -> Retried:
        """See `Client.retry`."""
        return await self._ask(self._crawl.retry, ids_of(ids))

    async def forget(self, ids: Ids) -> Forgotten:
        """See `Client.forget`."""
        return await self._ask(self._crawl.forget, ids_of(ids))

    # Items

    def items(
        self,
        *,
        follow: bool = False,
        timeout: float | None = None,
        acknowledge: bool = True,
        consumer: str = "default",
    ) -> AsyncItems:
        """See `Client.items`: ``async for item in client.items(follow=True)``."""
        self._require_open()
        items = AsyncItems(
            self._ask,
            self._crawl.port.items(consumer),
            follow=follow,
            timeout=timeout,
            acknowledge=acknowledge,
        )
        self._readers[consumer] = items
        return items
