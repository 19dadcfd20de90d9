"""Leases that are set aside as dead letters, and what the log says of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import escape, spider_logger
from scrapy_dist.core.frontier import Reject

if TYPE_CHECKING:
    from scrapy_dist.worker.leases import HeldLease
    from scrapy_dist.worker.outbox import Outbox
    from scrapy_dist.worker.pacing import Pacing
    from scrapy_dist.worker.progress import Progress
    from scrapy_dist.worker.view import EngineView

#: Seconds between two log lines about requests that are set aside.
_PAUSE = 10.0
#: Characters of the longest reason of a dead letter; it may quote what strangers wrote.
_LONGEST = 2000


class Rejects:
    """Puts rejects into *outbox*; *place* is the key of the dead letters."""

    def __init__(
        self,
        engine: EngineView,
        outbox: Outbox,
        pacing: Pacing,
        progress: Progress,
        place: str,
    ) -> None:
        self._engine = engine
        self._logger = spider_logger(__name__, engine.spider)
        self._pacing = pacing
        self._outbox = outbox
        self._progress = progress
        self._place = place
        self._unsaid = 0
        self._last = ("", "")
        self._say_at = 0.0

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
        self._logger.warning("Set %s: %s", what, reason)
        self._unsaid = 0
        self._say_at = time.monotonic() + _PAUSE
