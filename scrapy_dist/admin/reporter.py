"""What a worker says of the whole crawl: beside Scrapy's LogStats, and at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.words import count, number, rate
from scrapy_dist.exceptions import FrontierError

if TYPE_CHECKING:
    from scrapy import Spider

    from scrapy_dist.core.status import Status
    from scrapy_dist.worker.progress import Progress

logger = get_logger(__name__)

_TOLD = ("pending", "leased", "suspect", "failed")


class Reporter:
    """Logs one line on all workers every *interval* seconds (LOGSTATS_INTERVAL).

    0: never. *read* tells how the crawl stands; where Redis does not answer it says
    nothing: the exchange does. *failed_key*: where people find the dead letters.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Status]],
        progress: Progress,
        spider: Spider,
        *,
        interval: float,
        job: str = "",
        failed_key: str = "",
    ) -> None:
        self._read = read
        self._failed_key = failed_key
        self._progress = progress
        self._spider = spider
        self._interval = interval
        self._command_name = f"{spider.name} --job {job}" if job else spider.name
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._interval > 0:
            self._task = asyncio.create_task(self._run(), name="frontier reporter")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            status = await self._status()
            if status is not None:
                logger.info(
                    "All %s: %s (at %s pages/s), %s%s",
                    count(len(status.alive), "worker"),
                    count(status.pages, "page"),
                    rate(status.pages_per_second),
                    ", ".join(f"{number(getattr(status, n))} {n}" for n in _TOLD),
                    "; paused" if status.paused else "",
                    extra={"spider": self._spider},
                )

    async def sum_up(self) -> None:
        """Say what this worker did of the whole; to be called before it leaves."""
        status = await self._status()
        if status is None:
            return
        progress = self._progress
        share = 100 * progress.pages / max(status.pages, progress.pages, 1)
        logger.info(
            "This worker crawled %s of %s (%d %%); %s left.",
            number(progress.pages),
            count(max(status.pages, progress.pages), "page"),
            round(share),
            count(status.left, "request is", "requests are"),
            extra={"spider": self._spider},
        )
        if progress.failed:
            logger.warning(
                "Of this worker %s failed for good, %s in all: scrapy frontier failed %s"
                " (the key %s).",
                count(progress.failed, "request or seed", "requests or seeds"),
                count(status.failed, "dead letter"),
                self._command_name,
                self._failed_key,
                extra={"spider": self._spider},
            )

    async def _status(self) -> Status | None:
        try:
            return await self._read()
        except FrontierError as e:
            logger.debug("No status of the crawl: %s", e)
        except Exception:
            # Not worth an end of the crawl, or of its orderly closing.
            logger.exception("No status of the crawl", extra={"spider": self._spider})
        return None
