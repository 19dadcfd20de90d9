"""The whole bridge: connections, tasks in, and what goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import quote
from scrapy_dist.base.waits import cancel, sleep_until, wait_for
from scrapy_dist.bridge.checks import (
    check_exchange,
    check_queue,
    check_source,
    check_writing,
)
from scrapy_dist.bridge.desk import Desk, Sinks
from scrapy_dist.bridge.intake import Intake
from scrapy_dist.bridge.items import PATIENCE, ItemSender, consumer_of, send_letters
from scrapy_dist.bridge.line import RedisSide
from scrapy_dist.bridge.link import LinkLost
from scrapy_dist.bridge.publisher import Publisher
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
        #: What never ends, and what ends when the bridge is to stop.
        self._lines: list[Coroutine[Any, Any, None]] = []
        self._work: list[Coroutine[Any, Any, None]] = []

    async def check(self) -> None:
        """Raise ConfigurationError for what RabbitMQ has not, or does not allow."""
        address, plan = self._address, self._plan
        try:
            if plan.tasks:
                await check_source(address, "--tasks", plan.tasks)
            for name in ("items", "status", "failed"):
                if queue := getattr(plan, name):
                    await check_queue(address, f"--{name}", queue)
            if plan.results:
                await check_exchange(address, "--results", plan.results)
                await check_writing(address, plan.results)
            # Replies go there, too.
            await check_writing(address, "")
        except LinkLost as e:
            raise ConfigurationError(
                f"RabbitMQ at {address.shown} cannot be reached: {e}"
            ) from None

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until *stopping*; what is not done then goes back to where it was."""
        crawl, plan = self._crawl, self._plan
        publisher = self._publisher("takes messages")
        if plan.tasks:
            self._take_tasks(publisher, stopping)
        if plan.items:
            self._items = ItemSender(
                crawl.port.items(consumer_of(plan.items), PATIENCE),
                plan.items,
                crawl.name,
                # An item may be larger than RabbitMQ takes, which ends the connection.
                self._publisher(f"takes items for the queue {quote(plan.items)}"),
                self._redis,
                self._notices,
            )
            self._work.append(self._items.run(stopping))
        if plan.failed:
            self._work.append(
                send_letters(crawl, plan.failed, publisher, self._redis, stopping)
            )
        await self._run(stopping)

    def _publisher(self, role: str) -> Publisher:
        publisher = Publisher(self._address, role, self._notices)
        self._lines.append(publisher.line.run())
        return publisher

    def _take_tasks(self, publisher: Publisher, stopping: asyncio.Event) -> None:
        crawl, plan = self._crawl, self._plan
        to_results = publisher
        if plan.results:
            role = f"takes results for the exchange {quote(plan.results)}"
            to_results = self._publisher(role)
        sinks = Sinks(plan.status, plan.results, publisher, to_results)
        self._desk = desk = Desk(
            crawl,
            sinks,
            self._redis,
            self._notices,
            is_stored_enough=plan.is_stored_enough,
        )
        desk.intake = intake = Intake(
            self._address,
            plan.tasks,
            self._notices,
            self._limit,
            desk.lose,
            crawl.options.max_seed,
        )
        self._lines.append(intake.line.run())
        self._work += [
            desk.run(stopping),
            intake.run(stopping),
            self._count_workers(stopping),
        ]

    async def _run(self, stopping: asyncio.Event) -> None:
        kept = [*map(asyncio.ensure_future, (*self._lines, stopping.wait()))]
        done = [*map(asyncio.ensure_future, self._work)]
        try:
            await asyncio.wait([*kept, *done], return_when=asyncio.FIRST_COMPLETED)
            ended = [each for each in (*kept, *done) if each.done()]
            if not any(each.exception() for each in ended):
                # What RabbitMQ has, and what has ended, is still said in Redis and there.
                await asyncio.wait(done, timeout=_GRACE)
            for each in (*kept, *done):
                if each.done():
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
        assert self._desk is not None
        if self._plan.is_stored_enough and self._desk.is_full:
            return 0
        concurrency = self._crawl.options.concurrency
        return min(self._plan.prefetch, max(1, self._workers) * concurrency * _EACH)

    async def _count_workers(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            status = await self._redis.ask(self._crawl.status)
            self._workers = len(status.alive)
            await sleep_until(stopping, _LOOK)
