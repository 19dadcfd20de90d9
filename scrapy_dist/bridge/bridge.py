"""The whole bridge: connections, tasks in, and what goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.base.escaping import quote
from scrapy_dist.base.waits import cancel, sleep_until, wait_for
from scrapy_dist.bridge.checks import (
    check_exchange,
    check_queues,
    check_source,
    check_writing,
)
from scrapy_dist.bridge.desk import Desk, Sinks
from scrapy_dist.bridge.intake import Intake
from scrapy_dist.bridge.items import PATIENCE, ItemSender, consumer_of
from scrapy_dist.bridge.letters import LetterSender
from scrapy_dist.bridge.link import LinkLost
from scrapy_dist.bridge.publisher import Publisher
from scrapy_dist.bridge.redis_side import RedisSide
from scrapy_dist.exceptions import ConfigurationError, FrontierError

if TYPE_CHECKING:
    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.bridge.address import Address
    from scrapy_dist.bridge.notices import Notices

#: Requests that each place of a worker may have waiting: one is done while one is fetched.
_EACH = 2
#: Seconds between two looks at how many workers live.
_LOOK = 2.0
#: Seconds that what is under way may take in the end.
_GRACE = 3.0


@dataclass(frozen=True)
class Plan:
    """What goes where: names of queues and of an exchange; '': not at all."""

    tasks: str = ""
    items: str = ""
    results: str = ""
    status: str = ""
    failed: str = ""
    is_stored_enough: bool = False
    prefetch: int = 2000

    def queues(self) -> dict[str, str]:
        """The queues, by their options."""
        names = ("tasks", "items", "status", "failed")
        return {f"--{n}": getattr(self, n) for n in names if getattr(self, n)}


class Bridge:
    """Between *crawl*, which is open, and RabbitMQ at *address*."""

    def __init__(
        self, crawl: Crawl, address: Address, plan: Plan, notices: Notices
    ) -> None:
        self._crawl = crawl
        self._address = address
        self._plan = plan
        self._notices = notices
        self._redis = RedisSide(crawl.where, notices)
        self._workers = 1
        self._desk: Desk | None = None
        self._items: ItemSender | None = None

    async def check(self) -> None:
        """Raise ConfigurationError for what RabbitMQ has not, or does not allow."""
        try:
            await check_queues(self._address, self._plan.queues())
            if self._plan.tasks:
                await check_source(self._address, "--tasks", self._plan.tasks)
            if self._plan.results:
                await check_exchange(self._address, "--results", self._plan.results)
                await check_writing(self._address, self._plan.results)
            # Replies go there, too.
            await check_writing(self._address, "")
        except LinkLost as e:
            raise ConfigurationError(
                f"RabbitMQ at {self._address.shown} cannot be reached: {e}"
            ) from None

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until *stopping*; what is not done then goes back to where it was."""
        plan = self._plan
        lines: list[Coroutine[Any, Any, None]] = []
        work: list[Coroutine[Any, Any, None]] = []
        publisher = self._publisher("takes messages", lines)
        if plan.tasks:
            to_results = publisher
            if plan.results:
                role = f"takes results for the exchange {quote(plan.results)}"
                to_results = self._publisher(role, lines)
            sinks = Sinks(plan.status, plan.results, publisher, to_results)
            work += self._task_work(sinks, lines, stopping)
        if plan.items:
            reader = self._crawl.port.items(consumer_of(plan.items), PATIENCE)
            # An item may be larger than RabbitMQ takes, which ends the connection.
            role = f"takes items for the queue {quote(plan.items)}"
            self._items = ItemSender(
                reader,
                plan.items,
                self._crawl.name,
                self._publisher(role, lines),
                self._redis,
                self._notices,
            )
            work.append(self._items.run(stopping))
        if plan.failed:
            letters = LetterSender(self._crawl, plan.failed, publisher, self._redis)
            work.append(letters.run(stopping))
        await self._run(lines, work, stopping)

    def _publisher(
        self, role: str, lines: list[Coroutine[Any, Any, None]]
    ) -> Publisher:
        publisher = Publisher(self._address, role, self._notices)
        lines.append(publisher.run())
        return publisher

    def _task_work(
        self,
        sinks: Sinks,
        lines: list[Coroutine[Any, Any, None]],
        stopping: asyncio.Event,
    ) -> list[Coroutine[Any, Any, None]]:
        self._desk = desk = Desk(
            self._crawl,
            Tasks(self._crawl),
            sinks,
            self._redis,
            self._notices,
            is_stored_enough=self._plan.is_stored_enough,
        )
        desk.intake = intake = Intake(
            self._address,
            self._plan.tasks,
            self._notices,
            self._limit,
            desk.lose,
            self._crawl.options.max_seed,
        )
        lines.append(intake.run_line())
        return [desk.run(stopping), intake.run(stopping), self._count_workers(stopping)]

    async def _run(
        self,
        lines: list[Coroutine[Any, Any, None]],
        work: list[Coroutine[Any, Any, None]],
        stopping: asyncio.Event,
    ) -> None:
        """Run *lines*, which never end, and *work*, which does with *stopping*."""
        kept: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(each) for each in (*lines, stopping.wait())
        ]
        done: list[asyncio.Future[Any]] = [asyncio.ensure_future(w) for w in work]
        try:
            await asyncio.wait([*kept, *done], return_when=asyncio.FIRST_COMPLETED)
            failed = [
                each for each in (*kept, *done) if each.done() and each.exception()
            ]
            if not failed:
                # What RabbitMQ has, and what has ended, is still said in Redis and there.
                await asyncio.wait(done, timeout=_GRACE)
                failed = [each for each in done if each.done() and each.exception()]
            for each in failed:
                each.result()
        finally:
            await cancel(done)
            await self._leave()
            await cancel(kept)

    async def _leave(self) -> None:
        if self._items is None:
            return
        # Else they stay in the reader's list, and the next bridge gets them first.
        with suppress(FrontierError, asyncio.TimeoutError):
            await wait_for(self._items.leave(), _GRACE)

    # How much

    def _limit(self) -> int:
        if (
            self._plan.is_stored_enough
            and self._desk is not None
            and self._desk.is_full
        ):
            return 0
        concurrency = self._crawl.options.concurrency
        return min(self._plan.prefetch, max(1, self._workers) * concurrency * _EACH)

    async def _count_workers(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            status = await self._redis.ask(self._crawl.status)
            self._workers = len(status.alive)
            await sleep_until(stopping, _LOOK)
