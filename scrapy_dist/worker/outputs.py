"""What pages produce, until it is in the outbox: with the ack of its page, if it can be.

A page that is crawled again after a death should not have left a part of its outputs
behind. Requests that a filter knows again may travel ahead of the ack (I1 forbids only
the other order); items, and requests that no filter knows, wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.core.frontier import NewRequest
    from scrapy_dist.core.settings import Options
    from scrapy_dist.worker.leases import HeldLease, HeldLeases, Leases
    from scrapy_dist.worker.outbox import Outbox
    from scrapy_dist.worker.pacing import Pacing
    from scrapy_dist.worker.progress import Progress
    from scrapy_dist.worker.provenance import Provenance
    from scrapy_dist.worker.view import EngineView, View

#: Bytes of outputs that may wait for the ack of their page.
_PAGE_BYTES = 1 << 22
#: Seconds that a request may wait for the ack of its page.
_PAGE_SECONDS = 2.0
#: Seconds between two looks while Redis does not take items.
WAIT = 0.05


class ItemSink(Protocol):
    """Where the items of a pipeline go."""

    def add_item(
        self, item: object, key: str, data: bytes
    ) -> Callable[[], Awaitable[None]] | None:
        """Send *item*, serialized as *data*, to the list *key*.

        Returns what waits until there is room for more; None: there is.
        """

    def hold_item(
        self, item: object, work: asyncio.Future[Any]
    ) -> Callable[[], object]:
        """The page of *item* does not end before *work*; if that is cancelled, in vain.

        Returns what tells that a worker that closes is not to wait for *work*.
        """


@dataclass(eq=False)
class Outputs:
    """Sends outputs, or lets them wait in the records of their pages' leases."""

    _engine: EngineView
    _leases: Leases
    _provenance: Provenance
    _outbox: Outbox
    _view: View
    _pacing: Pacing
    _progress: Progress
    _options: Options
    #: What threads do for pages that do not wait for it.
    outside: set[asyncio.Future[Any]] = field(default_factory=set)
    #: Leases with requests that wait for the ack of their page.
    _holding: dict[HeldLease, None] = field(default_factory=dict)

    def add_request(
        self,
        new: NewRequest,
        request: Request,
        origin: HeldLeases | None,
        *,
        is_known: bool = False,
    ) -> None:
        """Send *request*; with the ack of its page if a filter would not know it again.

        *is_known*: a filter of the project's knows it.
        """
        task = origin and _task_of(origin)
        if task:
            new = replace(new, task=task)
        if is_known or new.fingerprint or origin is None or len(origin) != 1:
            self._mark_producers(origin)
            self._outbox.add_request(new, request)
            return
        (record,) = origin
        record.add_request(new)
        if record not in self._holding:
            self._holding[record] = None
            self._pacing.request(_PAGE_SECONDS)
        self._divide(record)

    def add_item(
        self, item: object, key: str, data: bytes
    ) -> Callable[[], Awaitable[None]] | None:
        """With the ack of its page, if that is known; see `ItemSink`."""
        origin = self._provenance.of_item(item)
        if origin is None or len(origin) != 1:
            self._mark_producers(origin)
            self._outbox.add_item(key, data)
            self._pacing.something_waits()
        else:
            (record,) = origin
            record.add_item(key, data)
            self._divide(record)
        return self._room if self.is_full else None

    async def _room(self) -> None:
        while self.is_full and not self._engine.closing():
            await asyncio.sleep(WAIT)

    @property
    def is_full(self) -> bool:
        """Whether so much is unsent that nothing new is to be begun."""
        return self._outbox.is_full(self._options.outbox_limit)

    def hold_item(
        self, item: object, work: asyncio.Future[Any]
    ) -> Callable[[], object]:
        """See `ItemSink`."""
        records = self.hold(self._provenance.of_item(item))
        self.outside.add(work)

        def done(_: object) -> None:
            self.outside.discard(work)
            if work.cancelled():
                for record in records:
                    record.invalidate()
            self.let_go(records)

        work.add_done_callback(done)
        return partial(self.outside.discard, work)

    def pages_of(self, origin: HeldLeases | None) -> HeldLeases:
        """*origin*; if None the leases whose pages are being processed by the spider now."""
        if origin is not None:
            return origin
        handed = self._leases.handed
        return _flat(handed[r] for r in self._engine.in_scraper() if r in handed)

    def hold(self, origin: HeldLeases | None) -> HeldLeases:
        """Keep the pages of *origin* from being finished, see ``pages_of``."""
        records = self.pages_of(origin)
        self._leases.hold(records)
        return records

    def let_go(self, records: HeldLeases) -> None:
        """Something under *records* is done: a request, or what was held."""
        for finished in self._leases.let_go(records):
            self.settle(finished)
            self._pacing.something_waits()

    def give_back(self, records: Iterable[HeldLease]) -> None:
        """As ``let_go``; their pages are for others."""
        for record in records:
            record.invalidated = True
            self.let_go((record,))

    def settle(self, record: HeldLease) -> None:
        """*record* is finished: its end goes to the outbox, with what waits for it."""
        self._provenance.forget(record)
        self._holding.pop(record, None)
        if record.id not in self._leases.records:
            return
        if record.invalidated:
            record.drop_outputs()
            self._outbox.releases.append(record.id)
            return
        failed = bool(record.failure) + sum(bool(link.reason) for link in record.chain)
        if failed:
            self._engine.stats.inc_value("frontier/failed", failed)
            self._progress.failed += failed
        self._outbox.add_settlement(record.settle())

    def has_room(self, record: HeldLease) -> bool:
        """Whether what *record* will have to wait for fits in one commit, as far as seen."""
        half_full = record.waiting > self._options.commit_chunk // 2
        return not half_full and record.size <= _PAGE_BYTES // 2

    def handed_out(self, records: HeldLeases) -> None:
        """A page of *records* begins."""
        if not self._knows_producers:
            for record in records:
                record.produced = True  # as far as we can tell

    def send_overdue(self) -> None:
        """Send requests that have waited too long: who waits may be this very page."""
        overdue = time.monotonic() - _PAGE_SECONDS
        for record in [r for r in self._holding if r.since <= overdue]:
            self._send_part(record, items=False)
        if self._holding:
            self._pacing.request(_PAGE_SECONDS)

    def redis_is_full(self) -> None:
        """Redis has no memory for what pages produce; the acks of others go on."""
        for request, records in self._leases.handed.items():
            if self._engine.downloading(request):
                for record in records:
                    if record.holders == 1:
                        record.produced = False

    def _divide(self, record: HeldLease) -> None:
        """Send a first part of a page that produces very much."""
        most = self._options.commit_chunk
        if record.waiting >= most or record.size >= _PAGE_BYTES:
            self._send_part(record, items=True)

    def _send_part(self, record: HeldLease, *, items: bool) -> None:
        self._holding.pop(record, None)
        if record.invalidated or record.settled:
            record.drop_outputs()
        else:
            self._outbox.add_settlement(record.take_part(items=items))
            self._pacing.something_waits()

    def _mark_producers(self, origin: HeldLeases | None) -> None:
        """Something of *origin* travels by itself: its ack may not overtake it."""
        if origin is None and self._knows_producers:
            # Of the pages that do not wait for their download any more.
            origin = _flat(
                records
                for request, records in self._leases.handed.items()
                if not self._engine.downloading(request)
            )
        for record in origin or ():
            record.produced = True

    @property
    def _knows_producers(self) -> bool:
        """Whether somebody notes which pages have produced something.

        The middleware does so always. Without it, it is done while it is needed.
        """
        return self._provenance.noting or self._view.is_full


def _flat(found: Iterable[HeldLeases]) -> HeldLeases:
    """All of *found*, each once."""
    return tuple(dict.fromkeys(record for records in found for record in records))


def _task_of(origin: HeldLeases) -> str:
    """The token of the task of all of *origin*; '': none, or it cannot be told."""
    task = origin[0].task
    if task and len(origin) > 1 and any(record.task != task for record in origin):
        return ""
    return task
