"""The dead letters in ``S:failed``, to be read.

A letter never changes, and its id never comes again; so what was decided about a letter
that was read holds when it is moved or deleted, by its id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import batches, whole
from scrapy_dist.core.dead_letters import DeadLetter, Forgotten, Retried
from scrapy_dist.core.frontier import BATCH

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.codec.seal import Seal

#: Letters asked for at first; then as many as STEP_BYTES hold, from 1 to BATCH.
_FIRST_STEP = 10
#: Bytes of payloads that one step reads, about.
_STEP_BYTES = 1 << 20


async def count_failed(frontier: Frontier) -> int:
    """How many dead letters there are."""
    with asking(key=frontier.keys.failed):
        return await frontier.client.xlen(frontier.keys.failed)


async def list_failed(
    frontier: Frontier, reason: str = "", *, before: str = "", newest_first: bool = True
) -> AsyncIterator[DeadLetter]:
    """See `ports.Crawl.failed`.

    Some are read at a time, about a megabyte; those that come meanwhile are left out.
    """
    async for letters in steps(frontier, newest_first=newest_first, before=before):
        for letter in letters:
            if matches(letter, reason):
                yield letter


def matches(letter: DeadLetter, reason: str) -> bool:
    return reason.casefold() in letter.reason.casefold()


async def steps(
    frontier: Frontier, *, newest_first: bool, before: str = ""
) -> AsyncIterator[list[DeadLetter]]:
    """All letters that are there now, some at a time.

    *before*: with *newest_first*, only those that are older than the one of that id.
    """
    client, key = frontier.client, frontier.keys.failed
    with asking(key=key):
        newest = await client.xrevrange(key, count=1)
    if not newest:
        return
    # Workers may set aside again what is put back: up to here and no further.
    end = text(newest[0][0])
    after, count = before, _FIRST_STEP
    while True:
        with asking(key=frontier.keys.failed):
            if newest_first:
                highest = f"({after}" if after else end
                found = await client.xrevrange(key, highest, "-", count)
            else:
                lowest = f"({after}" if after else "-"
                found = await client.xrange(key, lowest, end, count)
        if not found:
            return
        letters = [parse_letter(id_, fields, frontier.seal) for id_, fields in found]
        yield letters
        after = letters[-1].id
        size = sum(len(letter.payload) for letter in letters) // len(letters)
        count = max(1, min(BATCH, _STEP_BYTES // (size + 1)))


async def steps_of_ids(
    frontier: Frontier, ids: Sequence[str], done: Retried | Forgotten
) -> AsyncIterator[list[DeadLetter]]:
    for some in batches(ids, _FIRST_STEP):
        with asking(key=frontier.keys.failed):
            async with frontier.client.pipeline(transaction=False) as pipeline:
                for id_ in some:
                    pipeline.xrange(frontier.keys.failed, id_, id_)
                replies = await pipeline.execute()
        done.missing += sum(not found for found in replies)
        yield [
            parse_letter(id_, fields, frontier.seal)
            for found in replies
            for id_, fields in found
        ]


def parse_letter(
    id_: bytes | str, fields: dict[bytes, bytes], seal: Seal
) -> DeadLetter:
    return DeadLetter(
        id=text(id_),
        kind="seed" if fields.get(b"kind") == b"seed" else "request",
        time_ms=whole(fields.get(b"time")),
        deliveries=whole(fields.get(b"deliveries")),
        worker=text(fields.get(b"worker", b"")),
        reason=text(fields.get(b"reason", b"")),
        payload=fields.get(b"payload", b""),
        seal=seal,
    )


def text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
