"""Requests as people read them, and what a frontier knows of a URL."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.hosts import Host


@dataclass(frozen=True)
class Shown:
    """A request as people read it. *kind*: pending, suspect or leased.

    *fields* are those of ``Request.to_dict()`` that differ from their defaults, JSON-safe;
    of a seed what it says of them, and itself as ``seed``; of what cannot be read only
    ``url``.
    """

    kind: str
    score: float
    fields: dict[str, Any]
    deaths: int = 0

    @property
    def depth(self) -> int | None:
        meta = self.fields.get("meta")
        depth = meta.get("depth") if isinstance(meta, dict) else None
        return depth if isinstance(depth, int) else None

    def as_json(self) -> dict[str, Any]:
        fields = self.fields
        return {
            "place": self.kind,
            # JSON knows no infinity: of a suspect that has failed, see lib/dead_letters.lua.
            "score": self.score if math.isfinite(self.score) else None,
            "priority": fields.get("priority", 0),
            "method": fields.get("method", "GET"),
            "url": fields.get("url"),
            "callback": fields.get("callback"),
            "depth": self.depth,
            "deaths": self.deaths,
            "request": fields,
        }


@dataclass(frozen=True)
class Found:
    """*url* as it was looked for, and where its request is.

    *rank*: how many are before it, of its *slot*; *among*: how many requests that has, None
    where slots take no turns.
    """

    url: str
    request: Shown
    id: str
    rank: int | None = None
    among: int | None = None
    slot: float = 0.0


@dataclass(frozen=True)
class Waiting:
    """What a request waits for that is pending or suspect.

    *before* it are so many pending requests of its *host*, and *turn* other hosts have their
    turn before that; None: not known, as where a worker has the host, or (*host*) where all
    requests are in one order. *slots*: how many hosts have requests; *ready* of them may be
    asked now, and no worker has them. *pages_per_second* of all *alive* workers.
    """

    paused: bool
    alive: int
    pages_per_second: float
    pending: int
    before: int
    host: Host | None
    slots: int = 1
    turn: int | None = None
    ready: int = 0

    @property
    def seconds(self) -> float | None:
        """About how long it will wait, if all goes on like this; None: not known.

        By the delay of its host, where that is what it waits for; else by the pages of the
        last minute: also where more hosts may be asked than the workers come to.
        """
        if self.paused or not self.alive:
            return None
        host = self.host
        rest = (host.wait or 0.0) if host else 0.0
        if host and host.delay:
            # Of those that its owner holds one is under way.
            before = self.before + (max(0, host.leased - 1) if host.owners else 0)
            by_delay = rest + before * host.delay
            return max(by_delay, self._by_rate(before, self.ready) or 0.0)
        in_hand = host.leased if host else 0
        by_rate = self._by_rate(self.before + in_hand, self.slots)
        return None if by_rate is None else rest + by_rate

    def _by_rate(self, before: int, slots: int) -> float | None:
        """Seconds until *slots* in turn have come to what has so many *before* it."""
        if self.pages_per_second <= 0:
            return None
        ahead = before * slots + (self.turn or 0)
        return min(ahead, self.pending) / self.pages_per_second

    def as_json(self) -> dict[str, Any]:
        seconds = self.seconds
        return {
            "paused": self.paused,
            "alive": self.alive,
            "host": self.host.as_json() if self.host else None,
            "turn": self.turn,
            "seconds": None if seconds is None else round(seconds, 1),
        }


@dataclass(frozen=True)
class Holder:
    """Who leases a request; *silent_for*: seconds since its last beat, None: unknown."""

    worker: str
    number: str
    silent_for: float | None


@dataclass(frozen=True)
class Explained:
    """All that the frontier knows of *url*; *found* is None if it is nowhere now.

    *seen*: its fingerprint is known. *start*: it is a start request of this crawl.
    """

    url: str
    fingerprint: str
    seen: bool
    start: bool
    found: Found | None
    holder: Holder | None
    failed: tuple[DeadLetter, ...]
    #: Why it is not fetched now, if it is pending or suspect.
    waiting: Waiting | None = None

    @property
    def place(self) -> str:
        """pending, suspect or leased; else failed, done (seen, and nowhere) or unknown."""
        if self.found is not None:
            return self.found.request.kind
        if self.failed:
            return "failed"
        return "done" if self.seen else "unknown"

    def as_json(self) -> dict[str, Any]:
        found, holder = self.found, self.holder
        return {
            "url": self.url,
            "fingerprint": self.fingerprint,
            "place": self.place,
            "seen": self.seen,
            "start": self.start,
            "before": found.rank if found else None,
            "among": found.among if found else None,
            "request": found.request.as_json() if found else None,
            "worker": asdict(holder) if holder else None,
            "waiting": self.waiting.as_json() if self.waiting else None,
            "failed": [
                {
                    "id": letter.id,
                    "time": letter.time_ms,
                    "kind": letter.kind,
                    "deliveries": letter.deliveries,
                    "worker": letter.worker,
                    "reason": letter.reason,
                }
                for letter in self.failed
            ],
        }


@dataclass(frozen=True)
class Recrawled:
    """What a recrawl did with *url*: it is queued once more, or was left alone.

    *place*: where its request is now: pending, suspect or leased. *before*: how many
    requests of its slot are before one that was pending already; None: it is not known.
    """

    url: str
    queued: bool
    place: str
    before: int | None
