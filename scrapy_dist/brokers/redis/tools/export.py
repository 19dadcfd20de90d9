"""A whole frontier as lines of JSON, in bounded memory.

See ``exportfile`` for the lines and ``snapshot`` for what makes a copy whole.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from scrapy_dist.base import times
from scrapy_dist.brokers.redis import fingerprints, layout
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import Entry, pages, scan_hash
from scrapy_dist.brokers.redis.tasks import of_task, parse_task
from scrapy_dist.brokers.redis.views.snapshot import Snapshot
from scrapy_dist.codec import dump_lines
from scrapy_dist.codec.envelope import SEED
from scrapy_dist.core.frontier import BATCH

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.codec.seal import Seal
    from scrapy_dist.core.crawl import Exported
    from scrapy_dist.redis_client.typed import Redis

Line = dict[str, Any]
T = TypeVar("T")

#: Elements of a list by which the place in it is found again.
_KNOWN = 20


async def export_lines(
    frontier: Frontier, exported: Exported, *, spider: str, items: bool = False
) -> AsyncIterator[list[Line]]:
    """Export, see `ports.Crawl.export`.

    Workers may be at work. The fingerprints come before the requests: see ``snapshot``.
    So do seeds: one that becomes a lease meanwhile is then in one place at least.
    """
    client = frontier.client
    k = frontier.keys
    with asking("the export is not complete"):
        sizes = [await client.zcard(key) for key in (k.requests, k.suspects, k.leases)]
        kind = await fingerprints.kind_of(frontier)
    yield [
        {
            "type": "frontier",
            "version": dump_lines.VERSION,
            "id": secrets.token_hex(8),
            "spider": spider,
            "time": times.iso(datetime.now(timezone.utc)),
            "fingerprints": kind,
            "requests": sum(sizes),
        }
    ]
    snapshot = Snapshot(frontier)
    parts = [
        _lines(fingerprints.scan(frontier), _fingerprint_line("seen")),
        _lines(fingerprints.scan_started(frontier), _fingerprint_line("started")),
        # Before seeds: one that begins to be a task meanwhile is not one twice.
        _tasks(frontier),
        _seeds(frontier),
        _lines(snapshot.read(), partial(_request_line, frontier.seal)),
        _lines(_failed(frontier), partial(_letter_line, frontier.seal)),
        _lines(
            scan_hash(client, k.stats), lambda s: _line("stat", name=s[0], value=s[1])
        ),
    ]
    if items:
        results = _lines(scan_hash(client, k.results), _result_line)
        found = _read_list(client, k.items)
        parts += (results, _lines(found, lambda item: _line("item", data=item[0])))
    with asking("the export is not complete"):
        for part in parts:
            async for lines in part:
                exported.counts.update(line["type"] for line in lines)
                yield lines
    exported.is_whole = snapshot.is_whole
    yield [{"type": "end", "whole": snapshot.is_whole, "counts": exported.counts}]


async def _lines(
    found: AsyncIterator[list[T]], line: Callable[[T], Line]
) -> AsyncIterator[list[Line]]:
    async for some in found:
        yield [line(each) for each in some]


def _line(kind: str, /, **data: bytes) -> Line:
    line: Line = {"type": kind}
    for name, value in data.items():
        line |= dump_lines.show_bytes(name, value)
    return line


def _fingerprint_line(kind: str) -> Callable[[str], Line]:
    return lambda name: {"type": kind, "fingerprint": name}


def _request_line(seal: Seal, stored: Entry) -> Line:
    score = stored.score
    number = int(score) if score.is_integer() else score
    line: Line = {
        "type": stored.kind,
        "score": number if math.isfinite(score) else repr(score),
    }
    if stored.task:
        line["task"] = stored.task
    if stored.deaths or stored.claims != "-":
        line |= {"deaths": stored.deaths, "claims": stored.claims}
    return line | dump_lines.show_payload(stored.payload, seal)


async def _tasks(frontier: Frontier) -> AsyncIterator[list[Line]]:
    client, key = frontier.client, frontier.keys.tasks
    async for values in scan_hash(client, key):
        found = [parse_task(name[2:].decode("latin-1"), text) for name, text in values]
        tasks = [task for task in found if task is not None]
        names = [f"i:{task.id}".encode() for task in tasks]
        newest = await client.hmget(key, names) if names else []
        yield [
            {"type": "task", "state": task.state.value, **of_task(task)}
            | {"newest": token == task.token.encode()}
            for task, token in zip(tasks, newest, strict=True)
        ]


async def _seeds(frontier: Frontier) -> AsyncIterator[list[Line]]:
    client = frontier.client
    for n, key in enumerate(frontier.seed_keys):
        kind = (await client.type(key)).decode()
        found: AsyncIterator[list[tuple[bytes, float]]]
        if kind == "zset":
            found = pages(client.zscan, key)
        elif kind == "set":
            members = pages(client.sscan, key)
            found = ([(member, 0.0) for member in page] async for page in members)
        elif kind == "list":
            found = _read_list(client, key)
        else:
            continue
        async for some in found:
            more = {"key": n, "kind": kind}
            yield [_line("seed", data=d) | more | {"score": score} for d, score in some]


def _result_line(result: tuple[bytes, bytes]) -> Line:
    token, _, number = result[0].partition(b" ")
    line = _line("result", data=result[1])
    return line | {"task": token.decode("latin-1"), "n": layout.whole(number)}


async def _read_list(
    client: Redis, key: str
) -> AsyncIterator[list[tuple[bytes, float]]]:
    """A list from its right end, while others push and take at both of its ends.

    What is done at the left end moves nothing; what is done at the right end does, so
    each look begins before what was read last and finds it again. Where that cannot be
    found, because much was taken, or all look the same, some may come twice.
    """
    at, grown = 0, 0
    last: list[bytes] = []
    length = await client.llen(key)
    while at < length:
        begin = max(0, at - BATCH)
        # More than could have come meanwhile, so that it ends.
        step = BATCH + 2 * grown
        async with client.pipeline(transaction=True) as pipeline:
            pipeline.llen(key)
            pipeline.lrange(key, -at - step, -begin - 1)
            now, some = await pipeline.execute()
        more, length = max(0, now - length), now
        some.reverse()
        behind = _find(last, some, at - begin, grown=more)
        if behind is None and more > step and not grown:
            grown = more
            continue
        grown = more
        new = some[behind or 0 :]
        yield [(data, 0) for data in new]
        last = [*last, *new][-_KNOWN:]
        at = begin + len(some)


def _find(last: list[bytes], some: list[bytes], at: int, *, grown: int) -> int | None:
    """The index in *some* behind *last*, which was *at*, and may have moved."""
    n = len(last)
    if not n:
        return 0
    found = [end for end in range(n, len(some) + 1) if some[end - n : end] == last]
    # First what the two simple cases say: it has grown at the right end, or the left.
    for end in (at + grown, at):
        if end in found:
            return end
    return min(found, key=lambda end: abs(end - at), default=None)


async def _failed(frontier: Frontier) -> AsyncIterator[list[dict[bytes, bytes]]]:
    client, key, after = frontier.client, frontier.keys.failed, "-"
    while found := await client.xrange(key, after, "+", count=BATCH):
        after = f"({found[-1][0].decode()}"
        yield [fields for _, fields in found]


def _letter_line(seal: Seal, fields: dict[bytes, bytes]) -> Line:
    named = {name: fields.get(name.encode(), b"") for name in dump_lines.LETTER}
    more = {name: fields.get(name.encode(), b"") for name in ("task", "claims")}
    line = _line("failed", **named, **{name: of for name, of in more.items() if of})
    payload = fields.get(b"payload", b"")
    if line.get("kind") == "seed":
        payload = SEED + payload
    return line | dump_lines.show_payload(payload, seal)
