"""Leased requests that are not handed out; those that cannot be read wait for a verdict.

And what is set aside as dead letters.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from hashlib import sha1
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import escape, spider_logger
from scrapy_dist.codec.envelope import PICKLE
from scrapy_dist.codec.policy import POLICY
from scrapy_dist.core.frontier import Reject
from scrapy_dist.core.slots import NO_SLOT
from scrapy_dist.exceptions import BadPayload
from scrapy_dist.worker.doubts import Doubtful, Doubts, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy import Request

    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.core.frontier import Lease
    from scrapy_dist.worker.leases import HeldLease, Leases
    from scrapy_dist.worker.lines import Line, Lines
    from scrapy_dist.worker.outbox import Outbox
    from scrapy_dist.worker.pacing import Pacing
    from scrapy_dist.worker.progress import Progress
    from scrapy_dist.worker.view import EngineView

#: Bytes from which a request or seed counts as large; and bytes of what waits here above
#: which no more is leased, and of what is under way above which no large one follows.
LARGE, AHEAD_BYTES = 1 << 14, 8 << 20


#: Seconds between two log lines about requests that are set aside.
_PAUSE = 10.0
#: Characters of the longest reason of a dead letter; it may quote what strangers wrote.
_LONGEST = 2000


@dataclass(eq=False)
class Rejects:
    """Puts rejects into the outbox; *place* is the key of the dead letters."""

    _engine: EngineView
    _outbox: Outbox
    _pacing: Pacing
    _progress: Progress
    _place: str
    _unsaid: int = 0
    _last: tuple[str, str] = ("", "")
    _say_at: float = 0.0

    def add(self, record: HeldLease, reason: str, kind: str = "request") -> None:
        """Set *record* aside; *kind* 'seed' or 'request'."""
        record.settled = True
        reason = escape(reason, _LONGEST)
        self._outbox.rejects.append(Reject(record.id, kind, reason))
        self._engine.stats.inc_value("frontier/rejected")
        self._progress.failed += 1
        self._unsaid += 1
        self._last = kind, reason
        self.say()
        self._pacing.something_waits()

    def say(self, *, now: bool = False) -> None:
        """Log what was set aside: the first at once, the others together."""
        if not self._unsaid or not (now or time.monotonic() >= self._say_at):
            return
        kind, reason = self._last
        if self._unsaid == 1:
            what = f"a {kind} aside ({self._place})"
        else:
            what = f"{self._unsaid} more aside ({self._place}), last a {kind}"
        logger = spider_logger(__name__, self._engine.spider)
        logger.warning("Set %s: %s", what, reason)
        self._unsaid = 0
        self._say_at = time.monotonic() + _PAUSE


@dataclass(eq=False)
class Inbox:
    """Decodes the first one of each line; those of a line are in the order of their leases."""

    _engine: EngineView
    _codec: PayloadCodec
    _leases: Leases
    _pacing: Pacing
    _rejects: Rejects
    _lines: Lines
    #: Whether most of what this worker reads cannot be decoded.
    is_unreadable: bool = False
    #: Why nothing is to be crawled under a lease; ''.
    flaw_of: Callable[[HeldLease], str] = lambda _: ""
    _doubts: Doubts = field(default_factory=Doubts)

    @property
    def size(self) -> int:
        """Bytes of those that wait."""
        return sum(len(payload) for line in self._lines for _, payload in line.leases)

    def decode(self, line: Line) -> None:
        """Let *line* have a head, unless there is none for now."""
        waiting = line.leases
        while line.head is None and waiting and not self.is_unreadable:
            record, payload = waiting[0]
            if len(payload) > LARGE and self._is_crowded(len(payload)):
                return
            waiting.popleft()
            try:
                request = self._read(record, payload)
            except BadPayload as e:
                self._lines.removed(line)
                if e.cause == POLICY:
                    # What others wrote is no sign that the code is wrong.
                    self._rejects.add(record, str(e))
                else:
                    self._doubt(record, payload, e)
                continue
            if self._doubts.counting:
                self._judged(self._doubts.readable())
            if self._lines.by_slot and line.number == NO_SLOT:
                # It came in without a slot, as nobody knew it.
                self._lines.move(line, record, request)
                if len(payload) > LARGE:
                    return
                continue
            line.head = record, request

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
        if record.task and (flaw := self.flaw_of(record)):
            raise BadPayload(flaw, cause=POLICY)
        return self._codec.decode(payload)

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
            spider_logger(__name__, self._engine.spider).error(
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

    def drop(self, ids: set[str]) -> list[HeldLease]:
        """Those with these order ids are no longer this worker's; returns theirs."""
        dropped, _ = self._lines.keep(leased=lambda record: record.id not in ids)
        return dropped + self._doubts.drop(ids)

    def close(self) -> list[HeldLease]:
        """All of them, which this worker does not hand out any more."""
        left, _ = self._lines.keep(leased=lambda record: False)
        return left + [doubtful.record for doubtful in self._doubts.take()]
