"""Requests that stay in this worker, and the claims that filter them among all workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.base.words import span
from scrapy_dist.core.frontier import Claim
from scrapy_dist.worker.lines import Lines, Own

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.worker.chain import Chain
    from scrapy_dist.worker.leases import HeldLease, HeldLeases, Leases
    from scrapy_dist.worker.outbox import RecentFingerprints
    from scrapy_dist.worker.outputs import Outputs
    from scrapy_dist.worker.view import EngineView

#: Seconds that a worker takes nothing of what the others found while its login goes on.
_LOGIN = 180.0


class _Claimed(NamedTuple):
    """A request that waits until Redis says whether it is new."""

    fingerprint: str
    start: int
    request: Request
    records: HeldLeases


@dataclass(eq=False)
class Pinned:
    """The pinned requests of one worker; *drop* is told of duplicates."""

    _engine: EngineView
    _leases: Leases
    _recent: RecentFingerprints
    _chain: Chain
    _outputs: Outputs
    _drop: Callable[[Request], None]
    _lines: Lines
    _number: int = 0
    _unclaimed: list[_Claimed] = field(default_factory=list)
    _claiming: list[_Claimed] = field(default_factory=list)
    #: Since when such without a lease are in hand (`time.monotonic`); and whether that
    #: was said.
    _busy_since: float = 0.0
    _said_busy: bool = False
    #: Whether there may be a request in hand that no lease stands for.
    _had_own: bool = False

    def keep(
        self,
        request: Request,
        records: HeldLeases,
        fingerprint: str,
        *,
        start: int = 0,
        is_new: bool = False,
    ) -> None:
        """Take *request*; first filtered, if it has a fingerprint.

        Without one it is first asked for whether its task goes on, if it is of one.

        *start*: see ``NewRequest``. *is_new*: it has passed the filter of this worker
        already.
        """
        if request in self._leases.handed:
            request = request.copy()  # a page may yield its own request again
        self._had_own = self._had_own or not records
        self._leases.hold(records)
        ahead = next((record for record in records if record.chain), None)
        if ahead is not None:
            new = self._chain.follow(ahead, request, fingerprint, is_new=is_new)
            self._filtered(request, records, new=new)
        elif not fingerprint and not any(record.task for record in records):
            self.push(request, records)
        elif any(fingerprint in record.seen for record in records):
            # Redis would let the same leases have it again, as after a death.
            self._filtered(request, records, new=False)
        else:
            for record in records if fingerprint else ():
                record.seen.add(fingerprint)
            self._unclaimed.append(_Claimed(fingerprint, start, request, records))

    def keep_at_once(self, request: Request, records: HeldLeases) -> None:
        """As ``keep``, of one that needs no filter."""
        self._leases.hold(records)
        self.push(request, records)

    def push(self, request: Request, records: HeldLeases) -> None:
        """*request* can be handed out, under *records*."""
        self._number += 1
        stats = self._engine.stats
        stats.inc_value("scheduler/enqueued")
        stats.inc_value("scheduler/enqueued/memory")
        self._lines.add_own(Own(-request.priority, self._number, request, records))

    @property
    def is_claiming(self) -> bool:
        return bool(self._unclaimed or self._claiming)

    def take_claims(self) -> list[Claim]:
        self._claiming, self._unclaimed = self._unclaimed, []
        return [
            Claim(claim.fingerprint, [r.id for r in claim.records], claim.start)
            for claim in self._claiming
        ]

    def claim_again(self) -> None:
        """Nothing was done for the claims taken last."""
        self._unclaimed = self._claiming + self._unclaimed
        self._claiming = []

    def claimed(self, verdicts: Sequence[bool | None]) -> None:
        """The verdicts on the claims taken last, see `Answer`; none: no reply came."""
        claims, self._claiming = self._claiming, []
        if not verdicts:
            # A claim with a lease can be repeated. Without one nobody could tell it
            # from a duplicate: crawl it.
            self._unclaimed[:0] = [claim for claim in claims if claim.records]
            for claim in claims:
                if not claim.records:
                    self._recent.add(claim.fingerprint)
                    self.push(claim.request, ())
            return
        for claim, new in zip(claims, verdicts, strict=True):
            if new is None:
                self._engine.stats.inc_value("frontier/dropped")
                self._engine.report_dropped(claim.request)
                self._outputs.let_go(claim.records)
                continue
            if claim.fingerprint:
                self._recent.add(claim.fingerprint)
            self._filtered(claim.request, claim.records, new=new)
        self._engine.wake()

    def _filtered(self, request: Request, records: HeldLeases, *, new: bool) -> None:
        """Whether *request* is *new* is known now."""
        if new:
            self.push(request, records)
            return
        self._drop(request)
        self._outputs.let_go(records)

    # Those that no lease stands for

    @property
    def is_busy(self) -> bool:
        """Whether this worker has a request in hand that no lease stands for.

        Only such a request of ``start()`` as stays in this worker has none.
        """
        if self._had_own:
            self._had_own = not (
                all(self._leases.handed.values())
                and all(own.records for line in self._lines for own in line.own)
                and all(claim.records for claim in self._unclaimed + self._claiming)
            )
        return self._had_own

    def logs_in(self) -> bool:
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
            spider_logger(__name__, self._engine.spider).info(
                "Requests of start() that stay in this worker have kept it busy for %s:"
                " it takes others beside them now.",
                span(_LOGIN),
            )
        return False

    def drop(self, ids: set[str]) -> list[HeldLease]:
        """Drop requests whose leases are all among *ids*; the leases to be released.

        Whoever gets these leases will make the requests again.
        """

        def is_dropped(entry: Own | _Claimed) -> bool:
            records = entry.records
            return bool(records) and all(record.id in ids for record in records)

        _, owns = self._lines.keep(own=lambda own: not is_dropped(own))
        dropped = [own.records for own in owns]
        dropped += [claim.records for claim in self._unclaimed if is_dropped(claim)]
        self._unclaimed = [e for e in self._unclaimed if not is_dropped(e)]
        return [
            record for records in dropped for record in self._leases.let_go(records)
        ]

    def close(
        self, hand_over: Callable[[Request, HeldLeases], bool]
    ) -> list[HeldLeases]:
        """The leases of all of them, which this worker does not crawl any more.

        Without those that *hand_over* gives to Redis.
        """
        _, owns = self._lines.keep(own=lambda own: False)
        left = [e.records for e in owns if not hand_over(e.request, e.records)]
        left += [claim.records for claim in self._unclaimed]
        self._unclaimed.clear()
        return left
