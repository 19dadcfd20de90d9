"""How a crawl stands: what is left, what is done, and by whom; and how others ended.

Only reads. All times are those of Redis' clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from scrapy_dist.base import times
from scrapy_dist.base.escaping import quote
from scrapy_dist.brokers.redis import layout
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.tasks import parse_batch
from scrapy_dist.codec.envelope import JSON, KINDS, OTHER, PICKLE, SEED, SIGNED
from scrapy_dist.codec.request import fields_of
from scrapy_dist.core.status import Finished, Status, WorkerStatus
from scrapy_dist.exceptions import BadPayload
from scrapy_dist.redis_client.client import describe

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier

#: Workers that a status tells of at the most, those with the latest beats.
MAX_WORKERS = 1000

#: Fields of the reply of ``status.lua`` in front of the workers, and of each worker.
_HEAD, _EACH = 14, 8
#: Numbers in that head.
_NUMBERS = ("pending", "suspect", "leased", "failed", "seen", "seeds", "items")
#: Records that are read at the most.
_MOST = 100
#: Leases read beside those that are shown: the oldest may be done a moment later.
_SPARE = 10
#: Largest request that is decoded for its URL, in bytes.
_MAX_SHOWN = 65536


async def read_status(
    frontier: Frontier, spider: str = "", job: str | None = None, *, holds: int = 0
) -> Status:
    """How the crawl of *frontier* stands; one round trip, four with *holds*.

    *spider* and *job* are only passed on. Raises as the other reads.
    """
    with asking(spider=spider):
        raw = await frontier.run("status", most=MAX_WORKERS)
    workers = [_worker(raw[i : i + _EACH]) for i in range(_HEAD, len(raw), _EACH)]
    workers.sort(key=_by_name)
    if holds:
        urls = await _held(frontier, workers, holds)
        found = zip(workers, urls, strict=True)
        workers = [replace(worker, holds=of) for worker, of in found]
    now, exists, *numbers, pages, paused, tasks, tasks_open, by_state = raw[:_HEAD]
    return Status(
        spider=spider,
        job=job or None,
        redis=describe(frontier.client),
        time=times.from_ms(now) or datetime.now(timezone.utc),
        **dict(zip(_NUMBERS, numbers, strict=True)),
        pages=pages,
        pages_per_second=sum(w.pages_per_second for w in workers if w.alive),
        paused=paused is not None,
        tasks=tasks,
        tasks_open=tasks_open,
        tasks_by_state=parse_batch("", by_state).states,
        workers=tuple(workers),
        exists=bool(exists),
    )


def _worker(raw: Sequence[Any]) -> WorkerStatus:
    number, silent, alive, held, stopping, name, since, info = raw
    number = number.decode("utf-8", "replace")
    return WorkerStatus.told(
        info,
        worker=name.decode("utf-8", "replace") if name else number,
        number=number,
        alive=bool(alive),
        since_ms=layout.whole(since),
        silent_ms=silent,
        leased=held,
        stopping=bool(stopping),
    )


def _by_name(worker: WorkerStatus) -> tuple[str, int, str]:
    host, _, pid = worker.worker.rpartition(":")
    return host, int(pid) if re.fullmatch("[0-9]{1,18}", pid) else 0, worker.number


async def _held(
    frontier: Frontier, workers: Sequence[WorkerStatus], count: int
) -> list[tuple[str, ...]]:
    """URLs of at most *count* leased requests of each worker, the oldest first."""
    keys, client = frontier.keys, frontier.client
    numbers = [w.number if re.fullmatch("[0-9]+", w.number) else "-1" for w in workers]
    with asking():
        async with client.pipeline(transaction=False) as pipeline:
            for number in numbers:
                pipeline.zrangebyscore(keys.leases, number, number, 0, count + _SPARE)
            ids = await pipeline.execute()
        async with client.pipeline(transaction=False) as pipeline:
            for id_ in (id_ for of in ids for id_ in of):
                pipeline.hstrlen(keys.leased, id_)
            sizes = iter(await pipeline.execute())
        small = [[i for i in of if next(sizes) <= _MAX_SHOWN] for of in ids]
        async with client.pipeline(transaction=False) as pipeline:
            for of in small:
                pipeline.hmget(keys.leased, of or [b""])
            values = await pipeline.execute()

    def url(id_: bytes, value: bytes) -> str:
        entry = layout.parse(layout.LEASED, id_, value)
        if entry.flaw:
            return f"({entry.flaw})"
        return url_of(frontier.seal.shown(entry.payload))

    return [
        tuple(url(*each) for each in zip(of, found, strict=False) if each[1])[:count]
        for of, found in zip(small, values, strict=True)
    ]


def url_of(payload: bytes) -> str:
    """The URL of a request or seed as the frontier keeps it, else what it is, in ().

    Runs nothing of what it reads: a pickle stays closed.
    """
    head = payload[:1]
    if head in (OTHER, PICKLE):
        return f"({KINDS[head]})"
    if head == SIGNED:
        return "(signed, and not with the FRONTIER_SECRET that is set here)"
    seed = payload[1:].lstrip() if head == SEED else b""
    if head == SEED and seed[:1] != JSON:
        return payload[1:].decode("utf-8", "replace")
    try:
        url = fields_of(seed or payload).get("url")
    except BadPayload:
        return f"(not readable: {quote(payload[:40])})"
    return url if isinstance(url, str) else "(without a URL)"


async def read_history(frontier: Frontier) -> list[Finished]:
    """The finished crawls, the newest first. Raises RedisUnavailable."""
    client = frontier.client
    with asking():
        found = await client.xrevrange(frontier.keys.history, count=_MOST)
    return [_record(fields) for _, fields in found]


def _record(fields: dict[bytes, bytes]) -> Finished:
    numbers = ("start", "end", "pages", "items", "failed", "workers")
    start, end, *counts = (layout.whole(fields.get(name.encode())) for name in numbers)
    return Finished(
        fields.get(b"crawl", b"").decode("utf-8", "replace"),
        times.from_ms(start),
        times.from_ms(end),
        fields.get(b"reason", b"").decode("utf-8", "replace"),
        *counts,
    )
