"""How a worker joins a crawl, and how it leaves it."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scrapy import signals

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.base.words import count, number, span
from scrapy_dist.core.crawl import job_from_settings
from scrapy_dist.core.frontier import BATCH, Ask, JoinOutcome, LeaveOutcome
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from scrapy_dist.worker import engine
from scrapy_dist.worker.command import runs_by_command
from scrapy_dist.worker.neighbours import process_age

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from scrapy_dist.core.frontier import Answer, Joined
    from scrapy_dist.worker.neighbours import Neighbours
    from scrapy_dist.worker.worker import Worker

#: Seconds that each last word to Redis may take, after the results are delivered.
_LAST_WORDS = 5.0
#: Why a worker closes that people, or a system, have told to close.
_FROM_OUTSIDE = ("shutdown", "stopped")
#: Keys of the frontiers that this process has joined.
_begun: set[str] = set()


@dataclass(eq=False)
class Session:
    """The time of a worker with its frontier."""

    _worker: Worker
    _sweeping: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._frontier = self._worker.frontier
        self._crawler = self._worker.spider.crawler
        self._logger = spider_logger(__name__, self._worker.spider)

    async def join(self) -> None:
        """Register; or close soon, if the crawl has finished while this worker started.

        Raises ConfigurationError or RedisUnavailable.
        """
        near = self._worker.loop.neighbours
        if near.seen:
            await self._meet(near)
        joined = await self._frontier.join(
            self._worker.name,
            commit=0,
            flush=self._worker.options.flush_on_start,
            persist=self._worker.options.persist,
            age=self._age(),
        )
        if joined.refusal:
            raise ConfigurationError(joined.refusal)
        self._worker.joined_at = time.monotonic()
        queues = self._worker.queues
        if joined.outcome is JoinOutcome.LATE:
            self._worker.loop.recovery.came_late()
            queues.is_drained = True
            self._logger.info(
                "This crawl has finished while this worker was starting, and nothing is"
                " left for it: see scrapy frontier history. Start it once more for a new"
                " crawl."
            )
            missed = self._worker.miss_end
            self._crawler.signals.connect(missed, signal=signals.spider_opened)
            return
        if near.seen:
            await self._meet(near)
        queues.view.alone = joined.blank and not joined.others
        if joined.outcome is JoinOutcome.FLUSHED:
            await self._clear()
        self._tell(joined)

    def _tell(self, joined: Joined) -> None:
        if joined.outcome is JoinOutcome.NOT_FLUSHED:
            self._logger.warning(
                "SCHEDULER_FLUSH_ON_START deletes nothing: %s the"
                " frontier. Only the first worker of a crawl flushes.",
                count(joined.others, "other worker uses", "other workers use"),
            )
        self._logger.info(
            "Frontier at %s, key %s: %s pending, %s",
            self._frontier.where,
            self._frontier.key,
            number(joined.pending),
            count(joined.others, "other worker"),
        )

    def _age(self) -> float:
        """Seconds since this worker was started, for it may come too late for its crawl.

        Workers that are started together are of one crawl, however quick the first of
        them is. 0: it begins a new crawl whenever the last one ended, as a program may
        crawl once more, and a spider that reads seeds waits for new ones.
        """
        key = self._frontier.key
        is_first = key not in _begun
        _begun.add(key)
        may_begin = self._worker.feed is not None or self._worker.options.flush_on_start
        if may_begin or not is_first or not runs_by_command():
            return 0.0
        return process_age()

    async def _meet(self, near: Neighbours) -> None:
        """See who is on this machine, and which of them were killed: they keep nothing.

        Before it has registered, this worker only looks; it tells of itself later.
        """
        met = (await self._ask(Ask(meet=True))).met
        assert met is not None
        near.see(*met)
        gone = list(near.gone)[:BATCH]
        if gone:
            await self._ask(Ask(gone=gone))
            near.told(gone)

    async def _ask(self, ask: Ask) -> Answer:
        answer = await self._frontier.exchange(ask)
        if answer.refused:
            raise RedisUnavailable(answer.refused)
        return answer

    def begin(self, start_failed: Callable[[], bool]) -> None:
        """The crawl begins here. *start_failed*: whether an error has ended ``start()``."""
        self._start_failed = start_failed
        self._crawler.signals.connect(self.say_goodbye, signal=signals.spider_closed)
        # What a worker that cleared an earlier crawl did not come to.
        self._sweeping = asyncio.create_task(self._sweep())

    async def _clear(self) -> None:
        """The frontier was deleted: so are the filter's store, and buckets if it began."""
        await self._worker.filter.clear()
        if self._sweeping is not None:
            await self._sweep()

    async def _sweep(self) -> None:
        """Delete the buckets of cleared crawls (CompactDupeFilter)."""
        if not self._worker.filter.is_compact:
            return
        try:
            await self._frontier.sweep()
        except RedisUnavailable as e:
            self._logger.info(
                "Fingerprints of a cleared crawl are left in Redis (%s); the next worker"
                " deletes them.",
                e,
            )

    async def end(self, reason: str, sum_up: Callable[[], Awaitable[None]]) -> None:
        """Deliver what is left, give back what was not started, leave.

        *sum_up* is called in between.
        """
        loop = self._worker.loop
        if self._start_broke_off:
            engine.exit_with_error(self._crawler)
        try:
            all_done = await self._deliver()
            if all_done is not None:
                await sum_up()
                await self._leave(reason, all_done=all_done)
            assert self._sweeping is not None
            await asyncio.wait([self._sweeping], timeout=_LAST_WORDS)
            self._sweeping.cancel()  # the next worker goes on with it
        except asyncio.CancelledError:
            # The process is about to end, without waiting for this.
            await loop.say_goodbye()
            raise
        except Exception:
            self._logger.exception(
                "The orderly end of this worker has failed. What it holds goes back."
            )
            engine.exit_with_error(self._crawler)
            await loop.say_goodbye()

    async def _deliver(self) -> bool | None:
        """Send what is left, and give back what was not started.

        Returns whether all that this worker had is done, or is others' now; None: what
        is left was not delivered, or the crawl is over.
        """
        timeout = self._worker.options.close_timeout
        deadline = time.monotonic() + timeout
        worker = self._worker
        await self._wait_for_threads()
        if worker.feed is not None and worker.feed.thread is not None:
            await worker.feed.thread.finish()
        await worker.loop.stop(timeout)
        dropped = worker.queues.give_back()
        delivered = await worker.loop.finish(max(0.0, deadline - time.monotonic()))
        self._frontier.limit = _LAST_WORDS
        if not delivered or worker.queues.view.is_over:
            return None
        return not dropped

    async def _wait_for_threads(self) -> None:
        """Wait for what threads do, for FRONTIER_CLOSE_TIMEOUT seconds at the most."""
        limit = self._worker.options.close_timeout
        if self._worker.intake.asking is not None:
            await self._worker.intake.asking.finish(limit)
        outside = self._worker.queues.outputs.outside
        if not outside:
            return
        _, running = await asyncio.wait(outside, timeout=limit)
        if running:
            self._logger.warning(
                "%s with pipelines that have not ended in %s (FRONTIER_CLOSE_TIMEOUT). The"
                " pages will be crawled again.",
                count(len(running), "item is", "items are"),
                span(limit),
            )

    @property
    def _start_broke_off(self) -> bool:
        """Whether an error has ended ``start()``, with requests that did not come.

        One that has come to its seeds has no others, and those are still read.
        """
        waited = self._worker.has_waited_for_seeds
        return self._worker.intake.is_start_lost or (
            self._start_failed() and not waited
        )

    def _may_be_end(self, reason: str) -> bool:
        """Whether the crawl is over if nothing is left when this worker closes.

        A spider that waits for seeds and is shut down is in the middle of its life.
        """
        if self._start_broke_off:
            return False  # what it did not come to is still to be crawled
        if reason == "finished":
            return True
        worker = self._worker
        if worker.feed is None:
            return worker.start_ended
        if reason in _FROM_OUTSIDE or engine.ends_with_error(self._crawler):
            return False
        return worker.has_waited_for_seeds or worker.start_ended

    async def _leave(self, reason: str, *, all_done: bool) -> None:
        """Leave because of *reason*. *all_done*: see ``_deliver``."""
        try:
            outcome, seen = await self._frontier.leave(
                finished=all_done and self._may_be_end(reason),
                persist=self._worker.options.persist,
                reason=reason,
            )
            if outcome is LeaveOutcome.DELETED:
                await self._clear()
            elif outcome is LeaveOutcome.KEPT and seen:
                self._say_kept(reason, seen)
        except RedisUnavailable as e:
            # Nothing is lost: it holds no lease, and will count as dead.
            self._logger.warning("Redis does not know that this worker has left: %s", e)

    def _say_kept(self, reason: str, seen: int) -> None:
        waits = self._worker.has_waited_for_seeds
        name, job = self._worker.spider.name, job_from_settings(self._crawler.settings)
        self._logger.log(
            logging.INFO if waits else logging.WARNING,
            "Nothing is left to crawl, and %s kept"
            " (%s): the next start does not crawl these requests again. To begin afresh:"
            " scrapy frontier clear %s.",
            count(
                seen, "fingerprint of this crawl is", "fingerprints of this crawl are"
            ),
            f"closed as {reason}, and it reads seeds"
            if waits
            else f"closed as {reason} before start() had come to its end",
            f"{name} --job {job}" if job else name,
        )

    async def say_goodbye(self) -> None:
        """Deliver the last stats, unless they were deleted with the frontier; disconnect."""
        # Other handlers of spider_closed set them first.
        await asyncio.sleep(0)
        changes = self._worker.loop.exchange.changes()
        try:
            if changes and not self._worker.queues.view.is_over:
                await self._frontier.tell_last(changes)
        except RedisUnavailable as e:
            self._logger.warning("The last stats did not reach Redis: %s", e)
        finally:
            await self._frontier.disconnect()
