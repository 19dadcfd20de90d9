"""The background task that talks to Redis: one exchange after another, never two at once.

Everything here runs between two turns of the event loop; nothing but the task itself
waits for Redis (I4).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.base.waits import cancel, first_try, wait_for
from scrapy_dist.base.words import count
from scrapy_dist.core.frontier import Ask, Outcome
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.worker.exchange import COMMITS, Exchange, Refused
from scrapy_dist.worker.neighbours import Neighbours
from scrapy_dist.worker.pacing import RETRY_FIRST
from scrapy_dist.worker.recovery import Listener, Recovery

if TYPE_CHECKING:
    from scrapy_dist.core.frontier_port import Frontier
    from scrapy_dist.core.settings import Options
    from scrapy_dist.worker.queues import Queues
    from scrapy_dist.worker.view import EngineView

#: Seconds that a worker whose process is being ended has to give back what it holds.
_GOODBYE = 2.0


@dataclass(eq=False)
class Loop:
    """Runs the exchanges of one worker, when its queues say that one is due.

    *name* tells people who it is; the listener is told if it has to close.
    """

    _engine: EngineView
    _frontier: Frontier
    _queues: Queues
    _options: Options
    _listener: Listener
    name: str
    _task: asyncio.Task[None] | None = None
    _arming: asyncio.Task[None] | None = None
    _stopping: bool = False

    def __post_init__(self) -> None:
        engine, frontier, queues = self._engine, self._frontier, self._queues
        self._logger = spider_logger(__name__, engine.spider)
        self._pacing = queues.pacing
        patience, persist = self._options.redis_patience, self._options.persist
        self.recovery = recovery = Recovery(
            queues.view, engine.spider, self._listener, patience
        )
        seen = frontier.process is not None
        self.neighbours = near = Neighbours(self._pacing.request, seen=seen)
        self.exchange = Exchange(
            frontier, queues, engine, recovery, near, self.name, persist
        )

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="frontier exchange")
        self._pacing.start(asyncio.get_running_loop(), self._start_arming)

    async def _run(self) -> None:
        try:
            await self._exchange_on()
        except asyncio.CancelledError:
            if not self._stopping:
                # The event loop ends, and nobody has closed this worker.
                await self.say_goodbye()
            raise

    async def _exchange_on(self) -> None:
        while True:
            await self._pacing.wait()
            if self._stopping:
                break
            try:
                await self.exchange.run_once()
            except Refused:
                self._failed(None)
            except RedisUnavailable as e:
                self._failed(e)
            except Exception as e:  # noqa: BLE001  logged there
                # A defect must not end the task in silence: the crawl would hang.
                self.recovery.defective(e)
                self._failed(None)
            else:
                self.recovery.answered()
                self._pacing.answered()

    def _failed(self, error: Exception | None) -> None:
        self.recovery.failed(error, len(self._queues.leases.records))
        self._pacing.failed()

    def _start_arming(self) -> None:
        self._arming = asyncio.get_running_loop().create_task(self._arm())

    async def _arm(self) -> None:
        watched = await self._frontier.watch(self._pacing.woken)
        self._pacing.armed(watched=watched)

    async def end_early(self) -> None:
        """The process is about to end, and nobody closes this worker: say goodbye."""
        if self._task is not None:
            await cancel([self._task])

    async def stop(self, timeout: float) -> None:
        """End the task after the exchange that is under way.

        *timeout*: what `finish` will have, in seconds. An exchange that takes longer than
        the first try there is given up; the next one finds out what came of it.
        """
        self._stopping = True
        self._pacing.stop()
        if self._arming is not None:
            self._arming.cancel()
        await self._frontier.close()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=first_try(timeout))
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_GOODBYE)
        self.neighbours.close()

    async def finish(self, timeout: float) -> bool:
        """Deliver everything that is left; false if Redis did not take it in time.

        *timeout* in seconds. A try may hang on a connection that is dead; its connection
        is closed then, and the next try makes a new one.
        """
        view, outbox = self._queues.view, self._queues.outbox
        deadline = time.monotonic() + timeout
        limit = first_try(timeout)
        tries = 0
        while not view.is_over:
            reason: object = "it is full"
            left = deadline - time.monotonic()
            tries += 1
            # Redis may be slow and well: the third try has all the time that is left.
            self._frontier.limit = limit if tries < 3 else max(limit, left)
            try:
                await self.exchange.run_once(take=False)
            except RedisUnavailable as e:
                reason = e
            else:
                tries = 0
                if not (len(outbox) or self.exchange.is_unsettled):
                    return True
                if not view.is_full:
                    continue
            if time.monotonic() > deadline:
                self._logger.warning(
                    "Redis does not take the last results (%s). Nothing is lost: the"
                    " pages of this worker will be crawled again.",
                    reason,
                )
                return False
            await asyncio.sleep(RETRY_FIRST)
        return False

    async def say_goodbye(self) -> None:
        """Give back at once all that this worker holds, for its process ends now.

        So the others need not wait until it counts as dead. What it has begun is crawled
        again by them: nothing is acknowledged that was not finished before. Takes two
        seconds at the most.
        """
        self._stopping = True
        self._frontier.limit = _GOODBYE
        try:
            given_back = await wait_for(self._give_up(), _GOODBYE)
        except (RedisUnavailable, OSError, asyncio.TimeoutError) as e:
            self._logger.warning(
                "This worker ends without a goodbye (%s): what it holds is crawled by the"
                " others after FRONTIER_WORKER_TTL.",
                e,
            )
        except Exception:
            self._logger.exception("This worker ends without a goodbye")
        else:
            self._logger.info(
                "This worker ends and gives %s back that it has not finished.",
                count(given_back, "request"),
            )
        finally:
            await self._frontier.close()

    async def _give_up(self) -> int:
        """Leave; returns how many leases went back."""
        if self._queues.view.is_over:
            return 0
        try:
            await self._commit_last()
        except Refused as e:
            if not self.recovery.defects:
                self._logger.error(
                    "The last results of this worker are not stored (%s): their pages"
                    " will be crawled again.",
                    e,
                )
        except (RedisUnavailable, OSError):
            raise
        except Exception:
            if not self.recovery.defects:
                self._logger.exception(
                    "The last results of this worker are not stored: their pages will be"
                    " crawled again."
                )
        held = sorted(await self._frontier.held())
        await self._frontier.exchange(Ask(releases=held))
        await self._frontier.leave(
            finished=None, persist=self._options.persist, reason="finished"
        )
        return len(held)

    async def _commit_last(self) -> None:
        outbox, whole = self._queues.outbox, True
        while whole and (commits := outbox.take(COMMITS)):
            ask = Ask(commits=[numbered.commit for numbered in commits])
            answer = await self._frontier.exchange(ask)
            for numbered, reply in zip(commits, answer.commits, strict=True):
                if reply.outcome is Outcome.REFUSED:
                    raise Refused(reply.reason)
                stored = reply.outcome in (Outcome.STORED, Outcome.REPEATED)
                whole = whole and stored
                if whole:
                    outbox.confirm(numbered)
