"""One worker, as Scrapy's scheduler talks to it."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

from scrapy import Request
from twisted.python.failure import Failure

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.worker.engine import has_gate
from scrapy_dist.worker.gate import Gate
from scrapy_dist.worker.intake import Intake
from scrapy_dist.worker.loop import Loop
from scrapy_dist.worker.politeness import Politeness
from scrapy_dist.worker.provenance import note_outputs
from scrapy_dist.worker.queues import Queues
from scrapy_dist.worker.recovery import Ending
from scrapy_dist.worker.seed_feed import SeedFeed

if TYPE_CHECKING:
    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.core.frontier import Counts
    from scrapy_dist.core.frontier_port import Frontier
    from scrapy_dist.core.politeness_settings import PolitenessOptions
    from scrapy_dist.core.settings import Options
    from scrapy_dist.core.slots import Order
    from scrapy_dist.worker.filtering import Filter
    from scrapy_dist.worker.leases import HeldLeases
    from scrapy_dist.worker.outputs import ItemSink
    from scrapy_dist.worker.view import EngineView


class Worker:
    """One worker of the crawl in *frontier*, and the loop that keeps both in step.

    *feed* is that of a spider that reads seeds. *name* tells people who this worker is.
    """

    def __init__(
        self,
        engine: EngineView,
        frontier: Frontier,
        codec: PayloadCodec,
        options: Options,
        filter_: Filter,
        *,
        order: Order,
        politeness: PolitenessOptions | None,
    ) -> None:
        self.frontier = frontier
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        polite = None if politeness is None else _polite(engine, politeness, options)
        self.queues = queues = Queues(
            engine,
            codec,
            options,
            order=order,
            report_duplicate=filter_.log,
            failed_key=frontier.failed_key,
            politeness=polite,
        )
        #: Which page an output comes from, and where the items of pipelines go.
        self.provenance = queues.provenance
        self.items: ItemSink = queues.outputs
        self.filter = filter_
        filter_.begin(queues.recent, queues.leases, frontier.worker)
        seen, name = filter_.seen, filter_.name
        self.intake = Intake(engine, codec, queues, filter_, order, seen, name)
        self.options = options
        self.feed: SeedFeed | None = None
        #: When the frontier was joined (`time.monotonic`); 0: not yet.
        self.joined_at = 0.0
        self._engine = engine
        self.loop = Loop(engine, frontier, queues, options, self, name=self.name)
        queues.on_drained = self._look
        self.gate: Gate | None = None
        if polite is not None:
            pacing = queues.pacing
            self.gate = Gate(engine, polite, options.slots, queues.leases, pacing)
        spider = self.spider = engine.spider
        if hasattr(spider, "seed_idle_limit"):
            self.feed = SeedFeed(
                engine, spider, queues, lambda: not self.has_pending_requests()
            )

    def must_close(self, why: Ending) -> None:
        if why is Ending.STOPPED:
            self._engine.close(why.value)
        elif why is not Ending.MISSED:
            self._engine.end_with_error(why.value)
        else:
            self.miss_end()

    def miss_end(self) -> None:
        """The crawl has finished without this worker."""
        if not self._engine.closing():
            self._engine.close(Ending.MISSED.value)

    def next_request(self) -> Request | None:
        """The next request for this worker, or None for now."""
        # What the engine does next is of no page, in whatever context it was woken.
        self.provenance.work_for(None)
        queues = self.queues
        view = queues.view
        if view.is_over or queues.are_full:
            return None
        found = queues.next()
        request, shared = found or (None, False)
        if (view.pending or view.seeds_left) and queues.is_low:
            queues.pacing.request()
        elif queues.chain.may_have_finished(request):
            # The engine asks whenever something has.
            queues.pacing.something_waits()
        if request is None:
            if self.feed is not None:
                self.feed.hungry()
            return None
        self.provenance.work_for(request)
        queues.is_drained = False
        stats = self._engine.stats
        stats.inc_value("scheduler/dequeued")
        stats.inc_value(
            "scheduler/dequeued/redis" if shared else "scheduler/dequeued/memory"
        )
        return request

    def has_pending_requests(self) -> bool:
        """Whether anybody may still have work for this worker."""
        queues = self.queues
        waits = self.feed is not None and (len(queues) > 0 or len(queues.seeds) > 0)
        return waits or not queues.is_drained

    def __len__(self) -> int:
        """Pending requests: in this worker, and in Redis as last seen."""
        return len(self.queues) + self.queues.view.pending

    def leases_of(self, request: Request | None) -> HeldLeases | None:
        """The leases that *request* was handed out under."""
        return None if request is None else self.queues.leases.handed.get(request)

    def fail(self, request: Request, reason: str) -> None:
        """The page of *request* has failed for good."""
        self.queues.chain.fail(request, reason)

    def has_result(self, request: Request, result: object) -> None:
        """*result* has come of *request*, as `engine.watch_results` tells it."""
        self.provenance.work_for(request)
        if isinstance(result, Request):
            self.provenance.note_answer(result, request)
        elif isinstance(result, Failure) and request.errback is not None:
            records = self.leases_of(request) or ()
            if not self.provenance.by_context and any(r.task for r in records):
                note_outputs(request, lambda each: self.provenance.note(each, records))

    @property
    def has_waited_for_seeds(self) -> bool:
        return self.feed is not None and self.feed.has_waited

    @property
    def start_ended(self) -> bool:
        return self._engine.start_ended()

    def _look(self, state: Counts) -> float | None:
        """What is left for anybody; says after how many seconds to look again."""
        queues = self.queues
        was_drained, queues.is_drained = queues.is_drained, False
        if self.feed is not None and not state.is_drained:
            self.feed.busy(state.seeds)
        if not (state.is_drained or state.is_stuck):
            return None
        if len(queues.outbox) or not queues.is_empty():
            return None  # something came while the reply was on its way
        # A worker that has just come counts from then.
        idle = min(state.idle, time.monotonic() - self.joined_at)
        if self.feed is not None and state.is_drained:
            queues.is_drained = True
            return self.feed.nothing_left(idle, was_idle=was_drained)
        limit: float | None = self.options.idle_before_close
        if self.feed is not None:
            limit = self.spider.seed_idle_limit  # type: ignore[attr-defined]
        if limit is None:
            return None
        if idle < limit:
            return limit - idle
        if state.is_stuck:
            key, most = self.frontier.failed_key, self.options.failed_limit
            self.loop.recovery.stuck(state.waiting, key, most)
            return None
        queues.is_drained = True
        self._engine.wake()
        return None


def _polite(
    engine: EngineView, rules: PolitenessOptions, options: Options
) -> Politeness:
    is_gated = engine.spider.crawler in has_gate
    if not is_gated:
        get_logger(__name__).warning(
            "FRONTIER_POLITENESS: robots.txt, media and what redirects of them lead to"
            " are fetched without regard to other workers, as the gate is not there. Use"
            " ADDONS = {'scrapy_dist.Addon': 500}, or add"
            " 'scrapy_dist.middleware.FrontierGateMiddleware': 1_000_000 to"
            " DOWNLOADER_MIDDLEWARES."
        )
    slots, ttl = options.slots, options.worker_ttl
    return Politeness(engine, rules, slots, ttl=ttl, is_gated=is_gated)
