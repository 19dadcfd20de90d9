"""Leased requests that are not handed out; those that cannot be read wait for a verdict."""

from __future__ import annotations

from collections import deque
from hashlib import sha1
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.codec.envelope import PICKLE
from scrapy_dist.codec.policy import POLICY
from scrapy_dist.exceptions import BadPayload
from scrapy_dist.worker.doubts import Doubtful, Doubts, Verdict

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.core.frontier import Lease
    from scrapy_dist.worker.leases import HeldLease, Leases
    from scrapy_dist.worker.pacing import Pacing
    from scrapy_dist.worker.rejects import Rejects
    from scrapy_dist.worker.view import EngineView

#: Bytes from which a request or seed counts as large; and bytes of what waits here above
#: which no more is leased, and of what is under way above which no large one follows.
LARGE, AHEAD_BYTES = 1 << 14, 8 << 20


class Inbox:
    """Requests in the order of their leases; the first of them is decoded."""

    def __init__(
        self,
        engine: EngineView,
        codec: PayloadCodec,
        leases: Leases,
        pacing: Pacing,
        rejects: Rejects,
    ) -> None:
        self.waiting: deque[tuple[HeldLease, bytes]] = deque()
        #: The next one to hand out, if it is decoded.
        self.head: tuple[HeldLease, Request] | None = None
        #: Whether most of what this worker reads cannot be decoded.
        self.is_unreadable = False
        self._engine = engine
        self._logger = spider_logger(__name__, engine.spider)
        self._codec = codec
        self._leases = leases
        self._pacing = pacing
        self._rejects = rejects
        self._doubts = Doubts()

    @property
    def size(self) -> int:
        """Bytes of those that wait."""
        return sum(len(payload) for _, payload in self.waiting)

    def decode(self) -> tuple[HeldLease, Request] | None:
        """The next one, which is the head then; None: there is none for now."""
        while self.waiting and not self.is_unreadable:
            record, payload = self.waiting[0]
            if len(payload) > LARGE and self._is_crowded(len(payload)):
                return None
            self.waiting.popleft()
            try:
                request = self._read(record, payload)
            except BadPayload as e:
                if e.cause == POLICY:
                    # What others wrote is no sign that the code is wrong.
                    self._rejects.add(record, str(e))
                else:
                    self._doubt(record, payload, e)
                continue
            if self._doubts.counting:
                self._judged(self._doubts.readable())
            self.head = record, request
            return self.head
        return None

    def _is_crowded(self, size: int) -> bool:
        """Whether one of *size* bytes is to wait until large ones under way are done.

        What is read out of one may be many times as large.
        """
        handed = self._leases.handed.values()
        under_way = sum(record.payload_size for each in handed for record in each)
        return under_way > LARGE and under_way + size > AHEAD_BYTES

    def _read(self, record: HeldLease, payload: bytes) -> Request:
        if record.is_seed:
            raise BadPayload(
                "a seed, and this spider reads none",
                cause="seed",
                remedy="Let the spider be a RedisSpider, as it was.",
            )
        return self._codec.decode(payload)

    # Those that cannot be read

    def refuse_large(self, record: HeldLease, lease: Lease) -> None:
        """It is too large to be taken out of Redis."""
        error = self._codec.too_large(lease.too_large)
        self._hold(Doubtful(record, lease.payload, error))

    def _doubt(self, record: HeldLease, payload: bytes, error: BadPayload) -> None:
        # Without an order id, it was not the frontier that stored it: see lease.lua.
        made_up = sha1(payload, usedforsecurity=False).hexdigest()[:16]
        if payload[:1] == PICKLE and record.id == made_up:
            name = getattr(self._engine.spider, "name", "SPIDER")
            error.remedy = (
                "They are of scrapy-redis. Stop the workers and import them: scrapy"
                f" frontier import {name} --from-scrapy-redis {name} --allow-pickle."
            )
        shown = payload if record.is_seed else self._codec.shown(payload)
        self._hold(Doubtful(record, shown, error))

    def _hold(self, doubtful: Doubtful) -> None:
        """Hold it aside until the reason is clear."""
        self._leases.harmless(doubtful.record)
        self._judged(self._doubts.hold(doubtful))
        self._pacing.something_waits()  # to see whether there is anything else

    def nothing_came(self) -> None:
        """There is nothing else to read."""
        if self._doubts.held:
            self._judged(self._doubts.judge_rest(), over=False)

    def _judged(self, verdict: Verdict | None, *, over: bool = True) -> None:
        """Act on *verdict*; *over*: the count begins anew."""
        if verdict is Verdict.CODE:
            self.is_unreadable = True
            self._logger.error(
                "Nothing is set aside, as the code is wrong, not the data: %s This worker"
                " gives them all back as they were, and closes.",
                self._doubts.explain(),
            )
            self._engine.end_with_error("unreadable")
        elif verdict is Verdict.DATA:
            for doubtful in self._doubts.take():
                kind = "seed" if doubtful.record.is_seed else "request"
                self._rejects.add(doubtful.record, str(doubtful.error), kind)
            if over:
                self._doubts.forget()

    # Those that go

    def drop(self, ids: set[str]) -> list[HeldLease]:
        """Those with these order ids are no longer this worker's; returns theirs."""
        dropped = [record for record, _ in self.waiting if record.id in ids]
        self.waiting = deque(e for e in self.waiting if e[0].id not in ids)
        dropped += self._doubts.drop(ids)
        if self.head is not None and self.head[0].id in ids:
            dropped.append(self.head[0])
            self.head = None
        return dropped

    def close(self) -> list[HeldLease]:
        """All of them, which this worker does not hand out any more."""
        left = [record for record, _ in self.waiting]
        if self.head is not None:
            left.append(self.head[0])
        left += [doubtful.record for doubtful in self._doubts.take()]
        self.waiting.clear()
        self.head = None
        return left
