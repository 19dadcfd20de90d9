"""How a crawl stands, and how others have ended, as brokers tell it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scrapy_dist.base import times

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

#: Bytes of the longest text in which a worker tells of itself.
_MAX_INFO = 4096
#: Above all numbers that a worker tells of itself.
_MAX_NUMBER = 1e18


def told_number(info: bytes | None, name: str) -> float | None:
    """The number *name* in what a worker told of itself; None if it is none."""
    if not info or len(info) > _MAX_INFO:
        return None
    try:
        told = json.loads(info)
    except (ValueError, RecursionError):
        return None
    value: Any = told.get(name) if isinstance(told, dict) else None
    if type(value) not in (int, float) or not 0 <= value < _MAX_NUMBER:
        return None
    return float(value)


@dataclass(frozen=True)
class WorkerStatus:
    """One worker, as its last beat told.

    *worker* is its ``host:pid``, *number* what Redis knows it by. *since* is when it
    joined, *silent_for* the seconds since its last beat. *pages*, *failed* and
    *pages_per_second* (over the last minute) are its own, *memory* is in bytes or None
    if it has not told. *leased* requests are in its hands; *holds* are the URLs of some
    of them, if they were asked for. *stopping*: it was asked to close.
    """

    worker: str
    number: str
    alive: bool
    since: datetime | None
    silent_for: float
    pages: int
    pages_per_second: float
    failed: int
    leased: int
    memory: int | None
    stopping: bool
    holds: tuple[str, ...] = ()

    @classmethod
    def told(
        cls, info: bytes | None, *, since_ms: int | None, silent_ms: int, **known: Any
    ) -> WorkerStatus:
        """The rest of it as the worker has told in *info*."""
        memory = told_number(info, "memory")
        return cls(
            since=times.from_ms(since_ms),
            silent_for=silent_ms / 1000,
            pages=int(told_number(info, "pages") or 0),
            pages_per_second=told_number(info, "pages_per_second") or 0.0,
            failed=int(told_number(info, "failed") or 0),
            memory=None if memory is None else int(memory),
            **known,
        )

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it; times in ISO 8601."""
        return {**vars(self), "since": times.iso(self.since), "holds": list(self.holds)}


@dataclass(frozen=True)
class Status:
    """A frontier at one moment.

    *pages* were acknowledged by all workers of this crawl, *pages_per_second* is the sum
    of what the living workers did in the last minute. *exists* is false when no worker
    has been here since the frontier was last cleared. *tasks* are known, and *tasks_open*
    of them have not ended; *tasks_by_state* has how many are queued, running and so on.
    """

    spider: str
    job: str | None
    redis: str
    time: datetime
    pending: int
    leased: int
    suspect: int
    failed: int
    seen: int
    seeds: int
    items: int
    pages: int
    pages_per_second: float
    paused: bool
    workers: tuple[WorkerStatus, ...]
    exists: bool = True
    tasks: int = 0
    tasks_open: int = 0
    tasks_by_state: Mapping[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Requests and seeds that are known and not done."""
        return self.pending + self.leased + self.suspect + self.seeds

    @property
    def drained(self) -> bool:
        """Whether nothing is left to do for anybody."""
        return not self.left

    @property
    def seconds_left(self) -> float | None:
        """Time to do what is left at the rate of the last minute; None: unknown.

        What the pages will turn up is not counted, because nobody knows it.
        """
        if not self.left:
            return 0.0
        if self.paused or self.pages_per_second <= 0:
            return None
        return self.left / self.pages_per_second

    @property
    def is_blank(self) -> bool:
        """Whether Redis holds nothing at all of this crawl."""
        known = self.exists or self.left or self.failed or self.seen or self.items
        return not (known or self.tasks)

    @property
    def phase(self) -> str:
        """One word for people: none, done, paused, running, idle or stopped.

        *idle*: workers wait for seeds or for each other. *stopped*: something is left
        and nobody is there to do it.
        """
        if self.paused:
            return "paused"
        if self.alive:
            return "running" if self.left else "idle"
        if self.left:
            return "stopped"
        return "done" if self.exists else "none"

    @property
    def alive(self) -> list[WorkerStatus]:
        """The living workers."""
        return [worker for worker in self.workers if worker.alive]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it; times in ISO 8601."""
        seconds_left = self.seconds_left
        told = {name: value for name, value in vars(self).items() if name != "exists"}
        return told | {
            "time": times.iso(self.time),
            "state": self.phase,
            "tasks_by_state": dict(self.tasks_by_state),
            "pages_per_second": round(self.pages_per_second, 2),
            "seconds_left": None if seconds_left is None else round(seconds_left, 1),
            "workers": [worker.as_json() for worker in self.workers],
        }


@dataclass(frozen=True)
class Finished:
    """One finished crawl.

    *reason*: why its last worker closed. *items* went through ``RedisPipeline``, *failed*
    are the dead letters that it added, *workers* is how many have taken part.
    """

    crawl: str
    start: datetime | None
    end: datetime | None
    reason: str
    pages: int
    items: int
    failed: int
    workers: int

    @property
    def seconds(self) -> float | None:
        """How long it took, with the time in which it was stopped."""
        if self.start is None or self.end is None:
            return None
        return (self.end - self.start).total_seconds()

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it; times in ISO 8601."""
        return {
            **vars(self),
            "start": times.iso(self.start),
            "end": times.iso(self.end),
        }
