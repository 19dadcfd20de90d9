"""What this worker has in hand: requests to hand out, under way, and just finished."""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from contextlib import suppress
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import escape, get_logger
from scrapy_dist.brokers.redis.frontier import SEED, SUSPECTS, ChainLink, NewRequest
from scrapy_dist.codec.policy import POLICY
from scrapy_dist.exceptions import BadPayload, Unserializable
from scrapy_dist.worker.chain import Chain
from scrapy_dist.worker.doubts import Doubtful, Doubts, Verdict
from scrapy_dist.worker.leases import HeldLease, HeldLeases, Leases
from scrapy_dist.worker.outbox import Outbox, RecentFingerprints
from scrapy_dist.worker.outputs import Outputs
from scrapy_dist.worker.prefetch import Prefetch
from scrapy_dist.worker.progress import Progress
from scrapy_dist.worker.provenance import Provenance
from scrapy_dist.worker.view import View

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

    from scrapy import Request

    from scrapy_dist.brokers.redis.frontier import Drained, Lease
    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.worker.asking import Asking
    from scrapy_dist.worker.outbox import Numbered
    from scrapy_dist.worker.view import EngineView

logger = get_logger(__name__)

#: Seconds between two log lines about requests that are set aside.
_SAY_REJECTED = 10.0
#: Seconds that a worker takes nothing of what the others found while its login goes on.
_LOGIN = 180.0
#: Bytes from which a request or seed counts as large; and bytes of what waits here above
#: which no more is leased, and of what is under way above which no large one follows.
_LARGE, _AHEAD_BYTES = 1 << 14, 8 << 20
#: Characters of the longest reason of a dead letter; it may quote what strangers wrote.
_REASON = 2000
#: Seconds that a worker that has given seeds back leaves what is pending to others.
_REST = 0.25


class Desk:
    """The buffers between Scrapy's synchronous scheduler and the exchanges.

    *inbox*: leased, not handed out. *kept*: requests that stay in this worker.
    *seeds*: leased seeds that the spider has not turned into requests; *sowing*: those
    that it is turning into requests now. *doubts*: leased requests that cannot be read,
    until it is told whether they or the code are wrong.
    """

    def __init__(
        self,
        engine: EngineView,
        codec: PayloadCodec,
        *,
        concurrency: int,
        local_fingerprints: int,
        outbox_limit: int,
        commit_chunk: int,
        report_duplicate: Callable[[Request], None],
        score: Callable[[Request], float],
        failed_key: str = "",
        max_seed: int = 0,
    ) -> None:
        self.view = View()
        self.outbox = Outbox()
        self.leases = Leases()
        self.progress = Progress()
        self.provenance = Provenance()
        self.recent = RecentFingerprints(local_fingerprints)
        self.chain = Chain(engine, codec, self.leases, self.recent, self.view, score)
        self.outputs = Outputs(
            engine,
            self.leases,
            self.provenance,
            self.outbox,
            self.view,
            commit_chunk=commit_chunk,
        )
        self.seeds: deque[tuple[HeldLease, bytes]] = deque()
        self._sowing: dict[HeldLease, None] = {}
        self._broken_off: set[str] = set()
        #: Most seeds taken at once; 0: this spider reads none.
        self.most_seeds = 0
        #: Whether the spider can take seeds that came back from another worker.
        self.reads_seeds = False
        #: Whether somebody waits for seeds.
        self.seeds_awaited: Callable[[], bool] = lambda: True
        self._rests_until = 0.0
        self.on_seeds: Callable[[], None] = lambda: None
        self.on_drained: Callable[[Drained], float | None] = lambda _: None
        #: Requests that wait for a filter that decides itself.
        self.asking: Asking | None = None
        #: What threads do for pages that do not wait for it.
        self.outside: set[asyncio.Future[Any]] = set()
        #: Called when most of what this worker reads cannot be decoded.
        self.on_unreadable: Callable[[], None] = lambda: None
        self._engine = engine
        self._codec = codec
        self._score = score
        self._prefetch = Prefetch(concurrency)
        self._outbox_limit = outbox_limit
        self._failed_key = failed_key
        self._max_seed = max_seed
        self._report_duplicate = report_duplicate
        self._inbox: deque[tuple[HeldLease, bytes]] = deque()
        self._head: tuple[HeldLease, Request] | None = None
        self._kept: list[tuple[int, int, Request, HeldLeases]] = []
        self._kept_count = 0
        #: Since when such are in hand (`time.monotonic`), and whether that was said.
        self._busy_since, self._said_busy = 0.0, False
        #: Whether there may be a request in hand that no lease stands for.
        self._had_own = False
        self._unclaimed: list[tuple[str, Request, HeldLeases]] = []
        self._claiming: list[tuple[str, Request, HeldLeases]] = []
        self._doubts = Doubts()
        self._is_unreadable = False
        #: Whether a request or seed that waits here may be large.
        self._has_large = False
        self._unsaid = 0
        self._last_reason = ("", "")
        self._say_at = 0.0

    # For the scheduler

    def __len__(self) -> int:
        """Requests that could be handed out now."""
        return len(self._inbox) + (self._head is not None) + len(self._kept)

    def keep(
        self,
        request: Request,
        records: HeldLeases,
        fingerprint: str,
        *,
        is_new: bool = False,
    ) -> None:
        """*request* stays in this worker; first filtered, if it has a fingerprint.

        *is_new*: it has passed the filter of this worker already.
        """
        if request in self.leases.handed:
            request = request.copy()  # a page may yield its own request again
        self._had_own = self._had_own or not records
        self.leases.hold(records)
        ahead = next((record for record in records if record.chain), None)
        if ahead is not None:
            new = self.chain.follow(ahead, request, fingerprint, is_new=is_new)
            self._filtered(request, records, new=new)
        elif not fingerprint:
            self._push_kept(request, records)
        elif any(fingerprint in record.seen for record in records):
            # Redis would let the same leases have it again, as after a death.
            self._filtered(request, records, new=False)
        else:
            for record in records:
                record.seen.add(fingerprint)
            self._unclaimed.append((fingerprint, request, records))

    def go_ahead(
        self, request: Request, fingerprint: str, origin: HeldLeases | None
    ) -> bool:
        """Crawl *request* next, before Redis hears of it, if that is safe."""
        if origin is None or len(origin) != 1:
            return False
        (record,) = origin
        if self._may_go_ahead(request, record):
            self.leases.hold(origin)
            self.chain.begin(record, request, ChainLink(fingerprint))
            self._push_kept(request, origin)
            return True
        if record.chain:
            self.collect()  # those that are finished take no place any more
        return False

    def _may_go_ahead(self, request: Request, record: HeldLease) -> bool:
        if len(self):
            return False
        # What is claimed may be the same, and so may be what is handed out.
        if self._unclaimed or self._claiming or request in self.leases.handed:
            return False
        # The outputs of all hops are to fit in one commit.
        return self.outputs.has_room(record) and self.chain.may_go(record)

    def encode(self, request: Request) -> bytes:
        """*request* as the frontier stores it. Raises Unserializable."""
        return self._codec.encode(request)

    def next(self) -> tuple[Request, bool] | None:
        """Hand out the best request, and whether it came from Redis."""
        head = self._head or self._decode_head()
        if self._kept and (head is None or -self._kept[0][0] >= head[1].priority):
            _, _, request, records = heapq.heappop(self._kept)
        elif head is not None:
            record, request = head
            records = (record,)
            self._head = None
        else:
            self._prefetch.missed()
            return None
        self.outputs.handed_out(records)
        self.leases.handed[request] = records
        self._prefetch.used()
        return request, head is not None and request is head[1]

    def leases_of(self, request: Request | None) -> HeldLeases | None:
        """The leases that *request* was handed out under."""
        return None if request is None else self.leases.handed.get(request)

    def fail(self, request: Request, reason: str) -> None:
        """The page of *request* has failed for good: its lease ends as a dead letter."""
        link = self.chain.chain.get(request)
        if link is not None and self.chain.set_aside(link, request, reason):
            return
        for record in self.leases.handed.get(request, ()):
            record.failure = reason
            if link is not None:
                # The page that leads to it, and all that was on the way.
                self.chain.forget(record)

    @property
    def is_low(self) -> bool:
        """Whether the inbox may run empty before an exchange could fill it."""
        reserve = self._prefetch.reserve(self.view.round_trip)
        return len(self) + self._seeds_in_hand() <= reserve

    def scraping(self) -> HeldLeases:
        """The leases whose pages are being processed by the spider now."""
        active = self._engine.in_scraper()
        found = [
            self.leases.handed[request]
            for request in active
            if request in self.leases.handed
        ]
        return tuple(dict.fromkeys(record for records in found for record in records))

    def replaced(self, request: Request) -> tuple[HeldLeases | None, bool]:
        """The leases of the request that *request* replaces, and whether it must stay.

        A redirect belongs to the cookies of this worker, and so does the retry of a
        request that was kept here. Scrapy's redirect and retry middlewares say in
        ``meta`` which request they answer.
        """
        other = self._retried(request)
        if other is not None:
            records = self.leases.handed[other]
            # What was pushed is to be the dead letter if it fails in the end.
            return records, _is_kept(other) or any(map(_is_seed, records))
        redirected = request.meta.get("redirect_urls")
        if redirected:
            for other, records in self.leases.handed.items():
                if other.url == redirected[-1] and self._engine.left_downloader(other):
                    return records, True
        return None, False

    def _retried(self, request: Request) -> Request | None:
        """The request that *request* tries again, on the way back or in its callback."""
        times = request.meta.get("retry_times")
        if not times:
            return None
        for other in self.leases.handed:
            if (
                other.url == request.url
                and other.meta.get("retry_times", 0) != times
                and other.method == request.method
                and other.body == request.body
                and (
                    self._engine.left_downloader(other)
                    or other in self._engine.in_scraper()
                )
            ):
                return other
        return None

    def goes_again(self, request: Request) -> None:
        """The page that *request*, which others may get, tries again counts then."""
        other = self._retried(request)
        if other is None:
            return
        link = self.chain.chain.get(other)
        if link is not None:
            link.is_page = False
        elif len(records := self.leases.handed[other]) == 1:
            records[0].retried = True

    def origin(self, request: Request, seed: str | None) -> HeldLeases | None:
        """The leases that *request* comes from; *seed*: the lease of its seed."""
        if seed is None:
            return self.provenance.take(request)
        record = self.leases.records.get(seed)
        return () if record is None or record.settled else (record,)

    def keep_only(self, request: Request, seed: str) -> bool:
        """Crawl *request* under the lease of its *seed*, if that became no other one."""
        record = self.leases.records.get(seed)
        if record is None or record.settled or not record.single:
            return False
        self.keep(request, (record,), "")
        self.done(record)
        return True

    def hold_for(self, item: object, work: asyncio.Future[Any]) -> None:
        """The page of *item* is not finished before *work* is done."""
        records = self.hold(self.provenance.of_item(item))
        self.outside.add(work)

        def done(_: object) -> None:
            self.outside.discard(work)
            self.let_go(records)

        work.add_done_callback(done)

    def waits_for(self, most: int) -> bool:
        """Whether *most* items or requests wait for threads."""
        asking = 0 if self.asking is None else len(self.asking)
        return len(self.outside) + asking >= most

    def hold(self, origin: HeldLeases | None) -> HeldLeases:
        """Keep the pages of *origin* from being finished; those that may be it if None."""
        records = self.scraping() if origin is None else origin
        self.leases.hold(records)
        return records

    def undo(self, item: object) -> None:
        """The page of *item* is not done: its lease is given back when it ends."""
        records = self.provenance.of_item(item)
        for record in self.scraping() if records is None else records:
            record.invalidated = True
            record.drop_outputs()

    def take_seeds(self) -> Iterator[tuple[HeldLease, bytes]]:
        """Leased seeds, without the mark in front."""
        while self.seeds:
            record, payload = self.seeds.popleft()
            self._sowing[record] = None
            yield record, payload[len(SEED) :]

    def broken_off(self, record: HeldLease, left: int) -> None:
        """Nobody asks for what comes behind a request of a seed; *left* of its own do.

        If they were wanted, whoever gets the seed makes them again.
        """
        if record not in self._sowing or not (left or record.single):
            self.done(record)
        elif record.id in self._broken_off:
            self.reject(
                record,
                "its requests were not taken twice: next_requests(), start() or what"
                " reads them ended early",
                "seed",
            )
        else:
            self._broken_off.add(record.id)
            record.invalidated = True
            self.done(record)

    def done(self, record: HeldLease) -> None:
        """All requests made of a seed have come here, or were dropped on the way."""
        if record in self._sowing:
            del self._sowing[record]
            self.let_go((record,))

    def let_go(self, records: HeldLeases) -> None:
        """Something under *records* is done: a request, or what was held."""
        for finished in self.leases.let_go(records):
            self._settle(finished)
            self.outbox.something_waits()

    def reject(self, record: HeldLease, reason: str, kind: str = "request") -> None:
        """Set *record* aside as a dead letter; *kind* 'seed' or 'request'."""
        self._sowing.pop(record, None)
        record.settled = True
        reason = escape(reason, _REASON)
        self.outbox.rejects.append((record.id, kind, reason))
        self._engine.stats.inc_value("frontier/rejected")
        self.progress.failed += 1
        self._unsaid += 1
        self._last_reason = kind, reason
        self._say_rejected()
        self.outbox.something_waits()

    def _say_rejected(self, *, now: bool = False) -> None:
        """Log what was set aside: the first at once, the others together."""
        if not self._unsaid or not (now or time.monotonic() >= self._say_at):
            return
        kind, reason = self._last_reason
        if self._unsaid == 1:
            what = f"a {kind} aside ({self._failed_key})"
        else:
            what = f"{self._unsaid} more aside ({self._failed_key}), last a {kind}"
        logger.warning(
            "Set %s: %s", what, reason, extra={"spider": self._engine.spider}
        )
        self._unsaid = 0
        self._say_at = time.monotonic() + _SAY_REJECTED

    def give_back(self) -> int:
        """Release everything that was not handed out; the worker is closing.

        Returns how many requests are dropped that no lease brings back.
        """
        unstarted = [record for record, _ in self._inbox]
        if self._head is not None:
            unstarted.append(self._head[0])
        unstarted += [record for record, _ in self.seeds]
        unstarted += self._sowing
        unstarted += [doubtful.record for doubtful in self._doubts.take()]
        self._say_rejected(now=True)
        for asked in self.asking.unanswered() if self.asking is not None else ():
            unstarted += asked.held
        self._kept = [entry for entry in self._kept if not self._hand_over(*entry[2:])]
        kept = [records for *_, records in self._kept]
        kept += [records for *_, records in self._unclaimed]
        self._inbox.clear()
        self.seeds.clear()
        self._sowing.clear()
        self._kept.clear()
        self._unclaimed.clear()
        self._head = None
        for record in unstarted + [record for records in kept for record in records]:
            record.invalidated = True
            self.let_go((record,))
        return sum(not records for records in kept)

    def _hand_over(self, request: Request, records: HeldLeases) -> bool:
        """Give a request that is not to come again with its page to Redis.

        That is a hop that was not begun; false if it is no such request.
        """
        new = self.chain.give_back(request, records[0]) if records else None
        if new is None and self.asking is not None and not request.dont_filter:
            # The filter has seen it: its page would lead to it no more.
            with suppress(Unserializable):
                new = NewRequest(self.encode(request), self._score(request), "")
        if new is None:
            return False
        self.outputs.add_request(new, request, records, is_known=True)
        self.let_go(records)
        return True

    # For the exchange

    def collect(self) -> None:
        """Move what is finished to the outbox, or to the releases."""
        for record in self.leases.sweep(self._engine.in_progress()):
            self._settle(record)
        self.outputs.send_overdue()
        self._say_rejected()
        self._return_seeds()

    def _return_seeds(self) -> None:
        """Give back seeds that nobody here waits for, if another worker may."""
        now = time.monotonic()
        if self.seeds and self.view.alive > 1 and not self.seeds_awaited():
            returned = [record for record, _ in self.seeds]
            self.seeds.clear()
            for record in returned:
                record.invalidated = True
                self.let_go((record,))
            self._rests_until = now + _REST
        if now < self._rests_until:
            self.view.request(self._rests_until - now)

    def _seeds_in_hand(self) -> int:
        """Seeds that will be requests at once; others wait for ``start()``."""
        return len(self.seeds) if self.seeds and self.seeds_awaited() else 0

    def lead_time(self) -> float:
        """Seconds that this worker may go on without Redis with what it has in hand."""
        if not (len(self) or self.leases.handed):
            return 0.0
        return self.chain.lead_time()

    def wanted(self) -> int:
        """How many requests to lease now."""
        if self.outbox.is_full(self._outbox_limit):
            return 0
        if self._is_unreadable or self._engine.closing():
            return 0
        if self._logs_in():
            return 0  # what others found may need the cookies of this login
        if self._rests_until and time.monotonic() < self._rests_until:
            return 0
        if self.leases.is_alone or self._is_heavy():
            return 0
        in_hand = self._prefetch.in_hand(
            len(self.leases.handed), self.view.round_trip, self.view.pause
        )
        return max(0, in_hand - len(self) - self._seeds_in_hand())

    def _logs_in(self) -> bool:
        """Whether its own requests come first; not for ever, as they may have no end."""
        if not self.is_busy:
            self._busy_since = 0.0
            return False
        now = time.monotonic()
        if not self._busy_since:
            self._busy_since, self._said_busy = now, False
        if now - self._busy_since < _LOGIN:
            return True
        if not self._said_busy:
            self._said_busy = True
            logger.info(
                "Requests of start() that stay in this worker have kept it busy for %g"
                " seconds: it takes others beside them now.",
                _LOGIN,
                extra={"spider": self._engine.spider},
            )
        return False

    def _is_heavy(self) -> bool:
        """Whether what waits here is large, so that no more should come for now."""
        if not self._has_large:
            return False
        waiting = sum(len(payload) for _, payload in (*self._inbox, *self.seeds))
        self._has_large = waiting > _LARGE
        return waiting >= _AHEAD_BYTES

    def _is_crowded(self) -> bool:
        """Whether the next request is to wait until large ones under way are done.

        What is read out of one may be many times as large.
        """
        size = len(self._inbox[0][1])
        if size <= _LARGE:
            return False
        handed = self.leases.handed.values()
        under_way = sum(record.payload_size for each in handed for record in each)
        return under_way > _LARGE and under_way + size > _AHEAD_BYTES

    def suspects_wanted(self) -> int:
        """How many suspects to lease now."""
        return max(0, SUSPECTS - self.leases.suspects)

    def seeds_wanted(self) -> int:
        """Seeds yield to pending requests, as start requests do in Scrapy.

        They fill the places that this worker's share of the pending requests leaves
        free: as a rule a seed becomes one request, and that one stays here. Suspects
        come some at a time, and nobody waits for them.
        """
        if not self.most_seeds or not self.seeds_awaited():
            return 0
        if self.view.to_be_alone:
            return 0
        pending = self.view.pending - self.view.suspects
        share = math.ceil(pending / self.view.alive)
        return min(self.most_seeds, max(0, self.wanted() - share))

    def take_claims(self) -> list[tuple[str, list[str]]]:
        self._claiming, self._unclaimed = self._unclaimed, []
        return [
            (fingerprint, [record.id for record in records])
            for fingerprint, _, records in self._claiming
        ]

    def claim_again(self) -> None:
        """Nothing was done for the claims taken last."""
        self._unclaimed = self._claiming + self._unclaimed
        self._claiming = []
        self.outbox.something_waits()

    def claimed(self, verdicts: Sequence[bool]) -> None:
        """The verdicts on the claims taken last; none: no reply came."""
        claims, self._claiming = self._claiming, []
        if not verdicts:
            # A claim with a lease can be repeated. Without one nobody could tell it
            # from a duplicate: crawl it.
            self._unclaimed = [claim for claim in claims if claim[2]] + self._unclaimed
            for fingerprint, request, records in claims:
                if not records:
                    self.recent.add(fingerprint)
                    self._push_kept(request, records)
            return
        for (fingerprint, request, records), new in zip(claims, verdicts, strict=True):
            self.recent.add(fingerprint)
            self._filtered(request, records, new=new)
        self._engine.wake()

    def _filtered(self, request: Request, records: HeldLeases, *, new: bool) -> None:
        """Whether *request*, which stays here, is *new* is known now."""
        if new:
            self._push_kept(request, records)
            return
        self.drop(request)
        self.let_go(records)

    def drop(self, request: Request) -> None:
        """*request*, which was taken, has turned out to be a duplicate."""
        self._report_duplicate(request)
        self._engine.report_dropped(request)

    def confirmed(self, numbered: Numbered, filtered: Sequence[Request]) -> None:
        """Redis has stored a commit; *filtered* were duplicates."""
        commit = numbered.commit
        self.leases.close(commit.finished)
        self.progress.add(commit.crawled)
        with_pages = sum(len(page.requests) for page in commit.pages)
        self._count("redis", len(numbered.requests) - len(filtered) + with_pages)
        for request in filtered:
            self.drop(request)

    def released(self, ids: Sequence[str]) -> None:
        self.leases.close(ids)

    def answered(self) -> None:
        """An exchange that asked for leases is over; ``accept`` tells what it brought."""
        self._prefetch.answered()

    def accept(self, leases: Sequence[Lease]) -> bool:
        """Take *leases* in; false if one was in hand already, so that Redis went back.

        What that page had sent ahead of its ack may not have been taken: see ``Exchange``.
        """
        known = False
        idle = not (len(self) or self._engine.in_progress())
        self.chain.arrived(len(leases), idle=idle)
        for lease in leases:
            if lease.id in self.leases.records:
                known = True
                continue
            record = self.leases.open(lease)
            if lease.too_large:
                self._refuse_large(record, lease)
            elif lease.payload[:1] == SEED and (self.most_seeds or self.reads_seeds):
                self._accept_seed(record, lease.payload)
            else:
                self._inbox.append((record, lease.payload))
                self._has_large = self._has_large or len(lease.payload) > _LARGE
        self._engine.wake()
        return not known

    def accept_seeds(self, leases: Sequence[Lease]) -> bool:
        """As ``accept``."""
        self.chain.arrived(len(leases), idle=False)
        new = [lease for lease in leases if lease.id not in self.leases.records]
        for lease in new:
            record = self.leases.open(lease)
            if lease.too_large:
                self._refuse_large(record, lease)
            else:
                self._accept_seed(record, lease.payload)
        return len(new) == len(leases)

    def _refuse_large(self, record: HeldLease, lease: Lease) -> None:
        """Set aside what is too large to be taken out of Redis, inside Redis."""
        if lease.payload[:1] == SEED:
            self.reject(
                record,
                f"the seed has {lease.too_large} bytes; FRONTIER_SEED_MAX_SIZE allows"
                f" {self._max_seed}",
                "seed",
            )
            return
        self.leases.harmless(record)
        error = self._codec.too_large(lease.too_large)
        self._judged(self._doubts.hold(Doubtful(record, lease.payload, error)))
        self.outbox.something_waits()

    def _accept_seed(self, record: HeldLease, payload: bytes) -> None:
        self.seeds.append((record, payload))
        self._has_large = self._has_large or len(payload) > _LARGE
        self.on_seeds()

    def nothing_came(self) -> None:
        """Redis had no request for this worker, though it asked."""
        if self._inbox or self._head or self._kept or self.leases.handed:
            return  # what this worker has may lead to more
        if self._doubts.held and not self.view.paused:
            self._judged(self._doubts.judge_rest(), over=False)

    @property
    def is_busy(self) -> bool:
        """Whether it has a request in hand that no lease stands for.

        Only such a request of ``start()`` as stays in this worker has none.
        """
        if self._had_own:
            self._had_own = (
                not all(self.leases.handed.values())
                or not all(records for *_, records in self._kept)
                or not all(records for *_, records in self._unclaimed)
                or not all(records for *_, records in self._claiming)
            )
        return self._had_own

    def held(self) -> set[str]:
        """Order ids that Redis should hold for this worker."""
        return set(self.leases.records)

    def is_empty(self) -> bool:
        """Whether this worker has nothing to do and nothing to tell.

        Asked after ``collect``; leases whose acks are in this exchange do not count.
        """
        return not (
            len(self) or self._unclaimed or self._claiming or self.seeds or self.asking
        ) and not any(not record.settled for record in self.leases.records.values())

    def lost(self, ids: Sequence[str]) -> None:
        """Redis does not hold these leases for this worker any more."""
        gone = set(ids)
        self._drop_unstarted(gone)
        for id_ in gone:
            record = self.leases.remove(id_)
            if record is not None:
                self._sowing.pop(record, None)
                record.invalidated = record.settled = True
                record.drop_outputs()
                self.chain.forget(record)

    def rolled_back(self) -> list[str]:
        """Redis went back: forget what it may have forgotten, and taint the rest.

        Returns the ids of leases that can be released at once.
        """
        self.recent.forget()
        self.leases.invalidate()
        return self._drop_unstarted(set(self.leases.records))

    def drained(self, state: Drained) -> float | None:
        return self.on_drained(state)

    # Details

    def _push_kept(self, request: Request, records: HeldLeases) -> None:
        self._kept_count += 1
        self._count("memory", 1)
        heapq.heappush(
            self._kept, (-request.priority, self._kept_count, request, records)
        )

    def _count(self, queue: str, count: int) -> None:
        if count:
            stats = self._engine.stats
            stats.inc_value("scheduler/enqueued", count)
            stats.inc_value(f"scheduler/enqueued/{queue}", count)

    def _settle(self, record: HeldLease) -> None:
        self.provenance.forget(record)
        self.outputs.forget(record)
        if record.id not in self.leases.records:
            return
        if record.invalidated:
            record.drop_outputs()
            self.outbox.releases.append(record.id)
        else:
            failed = bool(record.failure) + sum(
                bool(link.reason) for link in record.chain
            )
            if failed:
                self._engine.stats.inc_value("frontier/failed", failed)
                self.progress.failed += failed
            self.outbox.add_page(record.take_page())

    def _decode_head(self) -> tuple[HeldLease, Request] | None:
        while self._inbox and not self._is_unreadable:
            if self._has_large and self._is_crowded():
                return None
            record, payload = self._inbox.popleft()
            try:
                request = self._decode(payload)
            except BadPayload as e:
                if e.cause == POLICY:
                    # What others wrote is no sign that the code is wrong.
                    self.reject(record, str(e))
                else:
                    self._doubt(record, payload, e)
                continue
            if self._doubts.counting:
                self._judged(self._doubts.readable())
            self._head = record, request
            return self._head
        return None

    def _decode(self, payload: bytes) -> Request:
        if payload[:1] == SEED:
            raise BadPayload(
                "a seed, and this spider reads none",
                cause="seed",
                remedy="Let the spider be a RedisSpider, as it was.",
            )
        return self._codec.decode(payload)

    def _doubt(self, record: HeldLease, payload: bytes, error: BadPayload) -> None:
        """*payload* cannot be read: hold it aside until the reason is clear."""
        # Without an order id, it was not the frontier that stored it: see lease.lua.
        made_up = sha1(payload, usedforsecurity=False).hexdigest()[:16]
        if payload[:1] == b"\x80" and record.id == made_up:
            name = getattr(self._engine.spider, "name", "SPIDER")
            error.remedy = (
                "They are of scrapy-redis. Stop the workers and import them: scrapy"
                f" frontier import {name} --from-scrapy-redis {name} --allow-pickle."
            )
        self.leases.harmless(record)
        shown = self._codec.shown(payload)
        self._judged(self._doubts.hold(Doubtful(record, shown, error)))
        self.outbox.something_waits()  # to see whether there is anything else

    def _judged(self, verdict: Verdict | None, *, over: bool = True) -> None:
        """Act on *verdict*; *over*: the count begins anew."""
        if verdict is Verdict.CODE:
            self._is_unreadable = True
            logger.error(
                "Nothing is set aside, as the code is wrong, not the data: %s This worker"
                " gives them all back as they were, and closes.",
                self._doubts.explain(),
                extra={"spider": self._engine.spider},
            )
            self.on_unreadable()
        elif verdict is Verdict.DATA:
            for doubtful in self._doubts.take():
                kind = "seed" if doubtful.payload[:1] == SEED else "request"
                self.reject(doubtful.record, str(doubtful.error), kind)
            if over:
                self._doubts.forget()

    def _drop_unstarted(self, ids: set[str]) -> list[str]:
        """Remove unstarted leases with these ids from the buffers; returns theirs."""
        dropped = [record for record, _ in self._inbox if record.id in ids]
        dropped += [record for record, _ in self.seeds if record.id in ids]
        self._inbox = deque(e for e in self._inbox if e[0].id not in ids)
        self.seeds = deque(e for e in self.seeds if e[0].id not in ids)
        dropped += self._doubts.drop(ids)
        if self._head is not None and self._head[0].id in ids:
            dropped.append(self._head[0])
            self._head = None
        for record in dropped:
            record.settled = True
        dropped += self._drop_kept(ids)
        return [record.id for record in dropped]

    def _drop_kept(self, ids: set[str]) -> list[HeldLease]:
        """Drop kept requests whose leases are all among *ids*; the leases to be released.

        Whoever gets these leases will make the requests again.
        """

        def is_dropped(records: HeldLeases) -> bool:
            return bool(records) and all(record.id in ids for record in records)

        dropped = [entry[-1] for entry in self._kept if is_dropped(entry[-1])]
        dropped += [claim[-1] for claim in self._unclaimed if is_dropped(claim[-1])]
        if not dropped:
            return []
        self._kept = [entry for entry in self._kept if not is_dropped(entry[-1])]
        heapq.heapify(self._kept)
        self._unclaimed = [c for c in self._unclaimed if not is_dropped(c[-1])]
        return [record for records in dropped for record in self.leases.let_go(records)]


def _is_kept(request: Request) -> bool:
    return bool(request.meta.get("frontier_local") or request.meta.get("redirect_urls"))


def _is_seed(record: HeldLease) -> bool:
    return record.single and not record.chain
