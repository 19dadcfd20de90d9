"""All that a worker has in hand, as the loop fills and empties it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from scrapy_dist.core.frontier import ChainLink
from scrapy_dist.exceptions import Unserializable
from scrapy_dist.worker.beginnings import Beginnings
from scrapy_dist.worker.chain import Chain
from scrapy_dist.worker.inbox import AHEAD_BYTES, LARGE, Inbox, Rejects
from scrapy_dist.worker.leases import HeldLeases, Leases
from scrapy_dist.worker.lines import Lines
from scrapy_dist.worker.outbox import Outbox, RecentFingerprints
from scrapy_dist.worker.outputs import Outputs
from scrapy_dist.worker.pacing import Pacing
from scrapy_dist.worker.pinned import Pinned
from scrapy_dist.worker.prefetch import Prefetch
from scrapy_dist.worker.progress import Progress
from scrapy_dist.worker.provenance import Provenance
from scrapy_dist.worker.room import room_of
from scrapy_dist.worker.seeds import Seeds
from scrapy_dist.worker.stock import Stock
from scrapy_dist.worker.turns import Turns
from scrapy_dist.worker.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scrapy import Request

    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.core.frontier import CommitReply, Counts, Lease
    from scrapy_dist.core.settings import Options
    from scrapy_dist.core.slots import Order
    from scrapy_dist.worker.filtering import Asking
    from scrapy_dist.worker.leases import HeldLease
    from scrapy_dist.worker.outbox import Numbered
    from scrapy_dist.worker.politeness import Politeness
    from scrapy_dist.worker.view import EngineView


class Queues:
    """The buffers between Scrapy's synchronous scheduler and the exchanges.

    *failed_key* is where dead letters are, for the log; *report_duplicate* logs one.
    """

    def __init__(
        self,
        engine: EngineView,
        codec: PayloadCodec,
        options: Options,
        *,
        order: Order,
        report_duplicate: Callable[[Request], None],
        failed_key: str,
        politeness: Politeness | None = None,
    ) -> None:
        self.view, self.outbox = View(), Outbox()
        self.pacing = Pacing(self.view, self.outbox, options)
        self.leases = leases = Leases()
        self.progress = Progress()
        self.provenance = Provenance(leases.handed)
        self.recent = RecentFingerprints(options.local_fingerprints)
        self.chain = Chain(engine, codec, leases, self.recent, self.view, order)
        sides = (self.outbox, self.view, self.pacing, self.progress)
        self.outputs = Outputs(engine, leases, self.provenance, *sides, options)
        self.rejects = Rejects(
            engine, self.outbox, self.pacing, self.progress, failed_key
        )
        #: What can be handed out.
        self.lines = lines = Lines(order.slots)
        self.inbox = Inbox(engine, codec, leases, self.pacing, self.rejects, lines)
        self.pinned = Pinned(
            engine, leases, self.recent, self.chain, self.outputs, self.drop, lines
        )
        #: The slots of this worker, where the crawl is polite.
        self.politeness = politeness
        room = room_of(engine, lines, options.concurrency, politeness)
        self.turns = Turns(engine, lines, room, self.inbox.decode)
        self.prefetch = Prefetch(options.concurrency)
        self.stock = Stock(lines, self.turns.room, self.prefetch, self.view)
        self.seeds = Seeds(leases, self.outputs, self.rejects, self.view, self.pacing)
        self.beginnings = Beginnings(
            engine, self.seeds, self.inbox, self.outputs, self.provenance, self.pacing
        )
        self.on_drained: Callable[[Counts], float | None] = lambda _: None
        #: Requests that wait for a filter that decides itself.
        self.asking: Asking | None = None
        self._engine, self._codec = engine, codec
        self._options, self._order = options, order
        self._report_duplicate = report_duplicate
        #: Whether a request or seed that waits here may be large; and whether Redis had
        #: nothing of other slots when it was asked last.
        self._has_large = self._is_vain = False
        #: Whether nothing was left for anybody when Redis was asked last.
        self.is_drained = False

    def __len__(self) -> int:
        """Requests that could be handed out now."""
        return len(self.lines)

    # For the scheduler

    def next(self) -> tuple[Request, bool] | None:
        """Hand out the best request, and whether it came from Redis."""
        line = self.turns.next()
        if line is None:
            self.prefetch.missed()
            return None
        request, records, is_shared = self.lines.take(line)
        if self.lines.by_slot:
            self.turns.room.goes(line, request)
            self._is_vain = self._is_vain and len(line) > 0
        self.outputs.handed_out(records)
        self.leases.handed[request] = records
        self.prefetch.rate.add()
        return request, is_shared

    @property
    def is_low(self) -> bool:
        """Whether the inbox may run empty before an exchange could fill it."""
        if self._is_vain and len(self):
            return False  # there is nothing but what waits for the slots in hand
        reserve = self.prefetch.reserve(self.view.round_trip)
        return len(self) + self.seeds.in_hand() <= reserve

    def go_ahead(
        self, request: Request, fingerprint: str, origin: HeldLeases | None
    ) -> bool:
        """Crawl *request* next, before Redis hears of it, if that is safe."""
        if origin is None or len(origin) != 1:
            return False
        (record,) = origin
        if self._may_go_ahead(request, record):
            self.chain.begin(record, request, ChainLink(fingerprint))
            self.pinned.keep_at_once(request, origin)
            return True
        if record.chain:
            self.collect()  # those that are finished take no place any more
        return False

    def _may_go_ahead(self, request: Request, record: HeldLease) -> bool:
        if len(self):
            return False
        # What is claimed may be the same, and so may be what is handed out.
        if self.pinned.is_claiming or request in self.leases.handed:
            return False
        # The outputs of all hops are to fit in one commit.
        return self.outputs.has_room(record) and self.chain.may_go(record)

    def keep_only(self, request: Request, seed: str) -> bool:
        """Crawl *request* under the lease of its *seed*, if that became no other one."""
        origin = self.seeds.origin(seed)
        if not origin or not origin[0].single:
            return False
        self.pinned.keep_at_once(request, origin)
        self.seeds.done(origin[0])
        return True

    def drop(self, request: Request) -> None:
        """*request*, which was taken, has turned out to be a duplicate."""
        self._report_duplicate(request)
        self._engine.report_dropped(request)

    @property
    def are_full(self) -> bool:
        """Whether so much is unsent, or waits for threads, that no page is to begin."""
        limit = self._options.outbox_limit
        in_threads = len(self.outputs.outside)
        if self.asking is not None:
            in_threads += len(self.asking)
        return self.outbox.is_full(limit) or in_threads >= limit

    def give_back(self) -> int:
        """Release everything that was not handed out; the worker is closing.

        Returns how many requests are dropped that no lease brings back.
        """
        left = self.inbox.close() + self.seeds.close()
        self.rejects.say(now=True)
        for asked in self.asking.unanswered() if self.asking is not None else ():
            left += asked.held
        kept = self.pinned.close(self._hand_over)
        self.outputs.give_back([*left, *(each for records in kept for each in records)])
        return sum(not records for records in kept)

    def _hand_over(self, request: Request, records: HeldLeases) -> bool:
        """Give a request that is not to come again with its page to Redis.

        That is a hop that was not begun; false if it is no such request.
        """
        new = self.chain.give_back(request, records[0]) if records else None
        if new is None and self.asking is not None and not request.dont_filter:
            # The filter has seen it: its page would lead to it no more.
            with suppress(Unserializable):
                payload = self._codec.encode(request)
                new = self._order.new(request, payload)
        if new is None:
            return False
        self.outputs.add_request(new, request, records, is_known=True)
        self.outputs.let_go(records)
        return True

    # What the loop asks for

    def collect(self) -> None:
        """Move what is finished to the outbox, or to the releases."""
        for record in self.leases.sweep(self._engine.in_progress()):
            self.outputs.settle(record)
        self.outputs.send_overdue()
        self.rejects.say()
        self.seeds.return_unwanted()

    def lead_time(self) -> float:
        """Seconds that this worker may go on without Redis with what it has in hand."""
        if not (len(self) or self.leases.handed):
            return 0.0
        return self.chain.lead_time()

    def wanted(self) -> int:
        """How many requests to lease now."""
        want, stock = self._wanted(), self.stock
        if self.politeness is None:
            return min(want, stock.most)
        # A slot comes with as many as it starts in a while, and one of them starts now.
        room = self.prefetch.most_held - stock.held_back
        return max(want, min(want * self.politeness.portion, room))

    def _wanted(self) -> int:
        """How many requests and seeds are wanted."""
        if self.outputs.is_full or self.inbox.is_unreadable or self._engine.closing():
            return 0
        if self.pinned.logs_in():
            return 0  # what others found may need the cookies of this login
        if self.seeds.rests_until and time.monotonic() < self.seeds.rests_until:
            return 0
        if self.leases.is_alone or self._is_heavy():
            return 0
        view, stock = self.view, self.stock
        stock.look()
        in_hand = self.prefetch.in_hand(
            len(self.leases.handed), view.round_trip, view.pause
        )
        want = in_hand - (len(self) - stock.held_back) - self.seeds.in_hand()
        want += max(0, stock.later - self.prefetch.ahead(view.round_trip, view.pause))
        room = self.prefetch.most_held - stock.held_back
        return max(0, min(want, room) if stock.held_back else want)

    def enough(self) -> list[int]:
        """Numbers of the slots of which no more are to be leased."""
        return self.stock.enough

    def _is_heavy(self) -> bool:
        """Whether what waits here is large, so that no more should come for now."""
        if not self._has_large:
            return False
        waiting = self.inbox.size + self.seeds.size
        self._has_large = waiting > LARGE
        return waiting >= AHEAD_BYTES

    def seeds_wanted(self) -> int:
        """How many seeds to lease now."""
        return self.seeds.wanted(self._wanted()) if self.seeds.most else 0

    def is_empty(self) -> bool:
        """Whether this worker has nothing to do and nothing to tell.

        Asked after ``collect``; leases whose acks are in this exchange do not count.
        """
        return not (
            len(self) or self.pinned.is_claiming or self.seeds or self.asking
        ) and not any(not record.settled for record in self.leases.records.values())

    # What the loop brings

    def confirmed(self, numbered: Numbered, reply: CommitReply) -> None:
        """Redis has stored a commit."""
        commit = numbered.commit
        self.leases.close(commit.ended)
        self.progress.add(commit.crawled)
        with_pages = sum(len(settled.requests) for settled in commit.settlements)
        filtered = len(reply.duplicates) + len(reply.dropped)
        stored = len(numbered.requests) - filtered + with_pages
        if stored:
            self._engine.stats.inc_value("scheduler/enqueued", stored)
            self._engine.stats.inc_value("scheduler/enqueued/redis", stored)
        for at in reply.duplicates:
            self.drop(numbered.requests[at])
        for at in reply.dropped:
            # For another task it is new.
            self.recent.remove(commit.requests[at].fingerprint)
            self._engine.stats.inc_value("frontier/dropped")
            self._engine.report_dropped(numbered.requests[at])

    def accept(self, leases: Sequence[Lease], *, seeds: bool = False) -> bool:
        """Take *leases* in; false if one was in hand already, so that Redis went back.

        What that page had sent ahead of its ack may not have been taken: see `Recovery`.
        *seeds*: they were asked for as such.
        """
        known = self._is_vain = self.lines.has_new = False
        idle = not (seeds or len(self) or self._engine.in_progress())
        self.chain.arrived(len(leases), idle=idle)
        read_seeds = self.seeds.most or self.seeds.are_read
        for lease in leases:
            if lease.id in self.leases.records:
                known = True
                continue
            record = self.leases.open(lease)
            if lease.too_large and lease.is_seed:
                self.seeds.reject(
                    record,
                    f"the seed has {lease.too_large} bytes; FRONTIER_SEED_MAX_SIZE"
                    f" allows {self._options.max_seed}",
                )
                continue
            if lease.too_large:
                self.inbox.refuse_large(record, lease)
                continue
            self._has_large = self._has_large or len(lease.payload) > LARGE
            if seeds or (lease.is_seed and read_seeds):
                self.beginnings.add(record, lease.payload)
            else:
                self.lines.add(lease.slot, record, lease.payload)
        if not seeds:
            self._engine.wake()
        return not known

    def nothing_came(self) -> None:
        """Redis had no request for this worker, though it asked."""
        self._is_vain, self.lines.has_new = self.lines.by_slot, False
        # What this worker has may lead to more.
        if not (len(self) or self.leases.handed or self.view.paused):
            self.inbox.nothing_came()

    def lost(self, ids: Sequence[str]) -> None:
        """Redis does not hold these leases for this worker any more."""
        gone = set(ids)
        self._drop_unstarted(gone)
        for id_ in gone:
            record = self.leases.remove(id_)
            if record is not None:
                self.seeds.forget(record)
                record.settled = True
                record.invalidate()
                self.chain.forget(record)

    def rolled_back(self) -> list[str]:
        """Redis went back: forget what it may have forgotten, and invalidate the rest.

        Returns the ids of leases that can be released at once.
        """
        self.recent.forget()
        self.leases.invalidate()
        return self._drop_unstarted(set(self.leases.records))

    def _drop_unstarted(self, ids: set[str]) -> list[str]:
        """Remove unstarted leases with these ids from the buffers; returns theirs."""
        dropped = self.inbox.drop(ids) + self.seeds.drop(ids)
        for record in dropped:
            record.settled = True
        dropped += self.pinned.drop(ids)
        return [record.id for record in dropped]
