"""The way of a request in: where it comes from, is it known, where it goes, what is stored.

It is a known duplicate, or it is crawled ahead of Redis, or it stays in this worker, or
it goes to the outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.core.slots import Order, drop_inherited_slot
from scrapy_dist.exceptions import Unserializable
from scrapy_dist.worker.filtering import Asked, Asking
from scrapy_dist.worker.seeds import SEED_MARK

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.worker.filtering import Filter
    from scrapy_dist.worker.leases import HeldLeases
    from scrapy_dist.worker.queues import Queues
    from scrapy_dist.worker.view import EngineView

#: ``meta`` keys of requests that are more than links.
_TELLING = frozenset(
    {SEED_MARK, "frontier_local", "is_start_request", "redirect_urls", "retry_times"}
)


@dataclass(eq=False)
class Intake:
    """Takes requests into the queues.

    *seen* is the answer of a filter that decides itself, and may wait for its store;
    *name* is its name. None: the broker decides.
    """

    _engine: EngineView
    _codec: PayloadCodec
    _queues: Queues
    _filter: Filter
    order: Order
    seen: Callable[[Request], object] | None
    name: str
    #: Whether a request of ``Spider.start()`` could not be taken.
    is_start_lost: bool = False
    asking: Asking | None = None
    #: What the warnings about requests that stay have named; None: there was none.
    _named: frozenset[str] | None = None

    def __post_init__(self) -> None:
        spider = self._engine.spider
        self._logger = spider_logger(__name__, spider)
        if self.seen is not None:
            self.asking = Asking(self.seen, self._answered, spider, self.name)
        self._queues.asking = self.asking

    def take(self, request: Request) -> bool:
        """Take *request*; false if it is known to be a duplicate."""
        if self.asking is not None and not request.dont_filter:
            drop_inherited_slot(request)
            return self._ask(request)
        if not request.meta.keys().isdisjoint(_TELLING):
            return self._take_special(request)
        # A link. Most links are known, and those are to cost next to nothing.
        queues = self._queues
        origin = queues.provenance.take(request)
        if origin is None and queues.provenance.noting:
            return self._take_marked(request, start=False)
        found = self._filter.fingerprint(request)
        if found is None:
            return False
        fingerprint, _ = found
        if queues.go_ahead(request, fingerprint, origin):
            queues.is_drained = False
            return True
        self._route(request, fingerprint, origin)
        return True

    def _take_special(self, request: Request) -> bool:
        """``take`` of what may be more than a link."""
        meta = request.meta
        drop_inherited_slot(request)
        seed = meta.pop(SEED_MARK, None)
        # Copies of a start request (retries, children with its meta) must not count as
        # start requests; Scrapy sets True, so an equal value that is not True tells.
        start = meta.get("is_start_request") is True
        if start:
            meta["is_start_request"] = 1
        try:
            if seed is not None:
                return self._take_of_seed(request, seed)
            return self._take_marked(request, start=start)
        except Exception:
            if start:  # Scrapy asks for no more; it ends as if asked to, or not at all
                self.is_start_lost = True
                self._engine.end_with_error("start_error")
            raise

    def _take_of_seed(self, request: Request, seed: str) -> bool:
        queues = self._queues
        if queues.keep_only(request, seed):
            queues.is_drained = False
            return True  # it goes out before there is anything to tell Redis
        origin = queues.seeds.origin(seed)
        own = request.meta.get("frontier_local")
        self._route(request, "", origin, origin if own else None)
        return True

    def _take_marked(self, request: Request, *, start: bool) -> bool:
        origin, other, stays = self._origin(request, start=start)
        own = bool(request.meta.get("frontier_local"))
        stays = stays or own
        records = self._queues.outputs.pages_of(origin) if stays else None
        found = self._filter.fingerprint(request, start=start, stays=stays, own=own)
        if found is None:
            return False
        fingerprint, count = found
        leaves = self._route(request, fingerprint, origin, records, count)
        if leaves and other is not None:
            self._goes_again(other)
        return True

    def _route(
        self,
        request: Request,
        fingerprint: str,
        origin: HeldLeases | None,
        records: HeldLeases | None = None,
        start: int = 0,
    ) -> bool:
        """Send *request*, or keep it under the leases of *records*; whether it leaves."""
        queues = self._queues
        queues.is_drained = False
        if records is not None:
            queues.pinned.keep(request, records, fingerprint, start=start)
        else:
            records = self._store(request, fingerprint, origin, start)
            if records is not None:
                queues.pinned.keep(
                    request, records, fingerprint, start=start, is_new=True
                )
        if len(queues) == 0 and queues.wanted() > 0:
            queues.pacing.request()
        else:
            queues.pacing.something_waits()
        return records is None

    def _store(
        self, request: Request, fingerprint: str, origin: HeldLeases | None, start: int
    ) -> HeldLeases | None:
        """Put *request* into the outbox; if it cannot leave, the leases it belongs to."""
        outputs = self._queues.outputs
        try:
            payload = self._codec.encode(request)
        except Unserializable as e:
            self._tell_that_it_stays(request, e)
            return outputs.pages_of(origin)
        new = self.order.new(request, payload, fingerprint, start)
        is_known = self.asking is not None and not request.dont_filter
        outputs.add_request(new, request, origin, is_known=is_known)
        return None

    def _tell_that_it_stays(self, request: Request, error: Unserializable) -> None:
        self._engine.stats.inc_value("scheduler/unserializable")
        # Once; and again for classes that the first one did not have.
        if self._named is None or not error.missing <= self._named:
            self._named = error.missing | (self._named or frozenset())
            self._logger.warning(
                "%s cannot be shared and stays in this worker: %s. No more of these"
                " are logged; see the stat scheduler/unserializable.",
                request,
                error,
            )

    # Where it comes from, if the spider middleware has not seen it

    def _origin(
        self, request: Request, *, start: bool
    ) -> tuple[HeldLeases | None, Request | None, bool]:
        """The pages of *request*, None if unknown; and what it replaces, see below."""
        provenance = self._queues.provenance
        origin = provenance.take(request)
        if origin is not None and not request.meta.get("retry_times"):
            return origin, None, False
        other, stays = self._replaced(request)
        if other is not None:
            origin = self._queues.leases.handed[other]
        elif origin is None:
            # No page yields what is of start().
            origin = () if start else provenance.of_context()
        return origin, other, stays

    def _replaced(self, request: Request) -> tuple[Request | None, bool]:
        """The request in place of whose page there is *request*, which may have to stay.

        A redirect belongs to the cookies of this worker, and so does the retry of a
        request that was kept here.
        """
        queues = self._queues
        other = queues.provenance.answered_by(request) or self._told(request)
        if other is None:
            return None, False
        # What was pushed is to be the dead letter if it fails in the end.
        records, meta = queues.leases.handed[other], other.meta
        of_seed = any(record.single and not record.chain for record in records)
        is_pinned = bool(meta.get("frontier_local") or meta.get("redirect_urls"))
        is_redirect = _redirected_from(request) == other.url
        return other, is_redirect or of_seed or is_pinned

    def _told(self, request: Request) -> Request | None:
        """The request that *request*, of whom nothing else is known, says it answers.

        Scrapy's redirect and retry middlewares say it in ``meta``, where nobody notes
        what they answer; a retry may come out of a callback, too.
        """
        is_noted = self._queues.provenance.noting
        times = request.meta.get("retry_times")
        redirected = None if is_noted else _redirected_from(request)
        if not (times or redirected):
            return None

        def left(other: Request) -> bool:
            return not is_noted and self._engine.left_downloader(other)

        for other in self._queues.leases.handed:
            if times and _tries_again(request, other):
                if left(other) or other in self._engine.in_scraper():
                    return other
            elif redirected == other.url and left(other):
                return other
        return None

    def _goes_again(self, other: Request) -> None:
        """There is a request, which others may get, in place of the page of *other*."""
        link = self._queues.chain.links.get(other)
        if link is not None:
            link.is_page = False
        elif len(records := self._queues.leases.handed[other]) == 1:
            records[0].retried = True

    # Where a filter of the project's decides

    def _ask(self, request: Request) -> bool:
        meta = request.meta
        if SEED_MARK in meta:
            return self._take_special(request)
        start = meta.get("is_start_request") is True
        if start:
            meta["is_start_request"] = 1
        origin, _, stays = self._origin(request, start=start)
        held = self._queues.outputs.hold(origin)
        self._queues.is_drained = False
        assert self.asking is not None
        kept = held if stays or meta.get("frontier_local") else None
        self.asking.add(Asked(request, start, held, kept))
        return True

    def _answered(self, asked: Asked, seen: bool | None) -> None:
        """The filter has decided about a request; None: it has failed."""
        try:
            self._decided(asked, seen)
        except Exception as e:
            # Nobody above would do anything about it.
            self._logger.exception("%s is not taken", asked.request)
            for record in asked.held:
                record.failure = f"a request of it is not taken: {e!r}"
        finally:
            self._queues.outputs.let_go(asked.held)

    def _decided(self, asked: Asked, seen: bool | None) -> None:
        request = asked.request
        # Whoever had this page before may have asked, and died before it told Redis.
        is_doubtful = seen is None or any(record.suspect for record in asked.held)
        if seen and not is_doubtful:
            self._queues.drop(request)
            return
        fingerprint, count = "", 0
        if asked.start and asked.kept is None:
            fingerprint, count = self._filter.start(request)
        elif is_doubtful:
            fingerprint = self._filter.undecided(request)
        self._route(request, fingerprint, asked.held, asked.kept, count)


def _redirected_from(request: Request) -> object:
    """The URL that has led to *request*, as its ``meta`` says; None: none."""
    urls = request.meta.get("redirect_urls")
    return urls[-1] if urls else None


def _tries_again(request: Request, other: Request) -> bool:
    return (
        other.url == request.url
        and other.meta.get("retry_times", 0) != request.meta["retry_times"]
        and other.method == request.method
        and other.body == request.body
    )
