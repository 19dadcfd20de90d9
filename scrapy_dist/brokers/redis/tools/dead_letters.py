"""Dead letters, put back to be crawled again or deleted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import quote
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import batches, encode_score
from scrapy_dist.brokers.redis.version import check_format, check_seal
from scrapy_dist.brokers.redis.views.dead_letters import (
    matches,
    steps,
    steps_of_ids,
    text,
)
from scrapy_dist.codec import compact
from scrapy_dist.codec.envelope import JSON, MSGPACK, OTHER, PICKLE
from scrapy_dist.codec.request import fields_of
from scrapy_dist.core.dead_letters import DeadLetter, Forgotten, Retried, is_letter_id
from scrapy_dist.core.slots import NO_SLOT, NO_SLOTS, Slots
from scrapy_dist.exceptions import BadPayload, ConfigurationError
from scrapy_dist.queue import Base, PriorityQueue

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.brokers.redis.frontier import Frontier

#: Letters that a trim without an exact end may look at.
_TRIM = 1000
#: Examples kept of the letters that cannot be put back.
_EXAMPLES = 3

#: Scrapy's default of the setting RETRY_PRIORITY_ADJUST.
_RETRY_PRIORITY_ADJUST = -1


async def retry(
    frontier: Frontier,
    ids: Iterable[str] | None = None,
    reason: str = "",
    *,
    decode: Callable[[bytes], Request] | None = None,
    discipline: type[Base] = PriorityQueue,
    slots: Slots = NO_SLOTS,
    seeds_as: str = "list",
) -> Retried:
    """Put back, see `ports.Crawl.retry`; *decode* is never asked about a pickle.

    A request is pending in its slot with the priority that it had before Scrapy's retries,
    behind equal ones, may be retried as often as a new one, and is crawled although its
    fingerprint is known. RedisUnavailable: some may have been put back.
    """
    await check_format(frontier.client, frontier.keys)
    await check_seal(frontier.client, frontier.keys.state, frontier.seal, writes=True)
    done = Retried()
    async for letters in _chosen(frontier, ids, reason, done):
        readable: list[tuple[DeadLetter, float | bytes, int, bytes]] = []
        for letter in letters:
            try:
                _check_destination(letter, frontier)
                fresh = _without_retries(letter)
                rank = _rank(fresh, decode, discipline, slots)
                is_same = fresh.payload == letter.payload
                readable.append((fresh, *rank, b"" if is_same else fresh.payload))
            except BadPayload as e:
                done.unreadable += 1
                if len(done.examples) < _EXAMPLES:
                    done.examples.append((letter.id, str(e)))
        if readable:
            await _put_back(frontier, readable, seeds_as, done)
    return done


async def forget(
    frontier: Frontier, ids: Iterable[str] | None = None, reason: str = ""
) -> Forgotten:
    """Delete, see `ports.Crawl.forget`. RedisUnavailable: some may be gone."""
    await check_format(frontier.client, frontier.keys)
    done = Forgotten()
    if ids is None and not reason:
        await _trim(frontier, done)
    elif ids is not None and not reason:
        for some in batches(_checked(ids)):
            await _delete(frontier, some, done)
    else:
        async for letters in _chosen(frontier, ids, reason, done):
            await _delete(frontier, [letter.id for letter in letters], done)
    return done


# Choosing


async def _chosen(
    frontier: Frontier,
    ids: Iterable[str] | None,
    reason: str,
    done: Retried | Forgotten,
) -> AsyncIterator[list[DeadLetter]]:
    """Some letters at a time, the oldest first; ids without one are counted in *done*."""
    if ids is None:
        found = steps(frontier, newest_first=False)
    else:
        found = steps_of_ids(frontier, _checked(ids), done)
    async for letters in found:
        matching = [letter for letter in letters if matches(letter, reason)]
        if matching:
            yield matching


def _checked(ids: Iterable[str]) -> list[str]:
    """*ids* without repetitions. Raises ConfigurationError."""
    unique = list(dict.fromkeys(ids))
    for id_ in unique:
        if not is_letter_id(id_):
            raise ConfigurationError(
                f"{id_!r} is no ID of a dead letter, such as 1760000000000-0."
                " `scrapy frontier failed` shows the IDs."
            )
    return unique


# Moving and deleting


def _without_retries(letter: DeadLetter) -> DeadLetter:
    """*letter* as it was before Scrapy's RetryMiddleware counted and lowered it."""
    if letter.kind == "seed":
        return letter
    try:
        opened = letter.seal.open(letter.payload)
        fields = fields_of(opened)
    except BadPayload:
        return letter
    meta = fields.get("meta")
    if not isinstance(meta, dict) or type(meta.get("retry_times")) is not int:
        return letter
    times = meta.pop("retry_times")
    priority, adjust = fields.get("priority", 0), meta.get("priority_adjust")
    if type(priority) is int:
        adjust = adjust if type(adjust) is int else _RETRY_PRIORITY_ADJUST
        fields["priority"] = priority - times * adjust
    if opened[:1] == JSON:
        payload = json.dumps(fields).encode()
    else:
        payload = MSGPACK + compact.dumps(fields)
    return replace(letter, payload=letter.seal.sign(payload))


def _check_destination(letter: DeadLetter, frontier: Frontier) -> None:
    if letter.kind == "seed" and not frontier.seed_keys:
        raise BadPayload("it is a seed, and this spider reads none")


def _rank(
    letter: DeadLetter,
    decode: Callable[[bytes], Request] | None,
    discipline: type[Base],
    slots: Slots,
) -> tuple[float | bytes, int]:
    """What retry.lua is told of its place: score and slot.

    Raises BadPayload for what no worker could read.
    """
    if letter.kind == "seed":
        return letter.priority, NO_SLOT
    opened = letter.seal.open(letter.payload)
    head = opened[:1]
    if head == PICKLE or (head == OTHER and decode is None):
        return encode_score(0), NO_SLOT  # nothing is unpickled only to know its place
    if decode is not None:
        request = decode(letter.payload)
        return encode_score(discipline.score(request)), slots.number(request)
    if not letter.url:
        raise BadPayload(f"it holds no request: {quote(letter.payload[:40])}")
    # Outside the project: its discipline, if it is a special one, is not known.
    score = -letter.priority if issubclass(discipline, PriorityQueue) else 0.0
    return encode_score(score), slots.number_of_fields(fields_of(opened))


async def _put_back(
    frontier: Frontier,
    letters: Sequence[tuple[DeadLetter, float | bytes, int, bytes]],
    seeds_as: str,
    done: Retried,
) -> None:
    args = [arg for letter, *given in letters for arg in (letter.id, *given)]
    with asking():
        replies = await frontier.run(
            "retry", seeds_as=seeds_as, seed_keys=frontier.seed_keys[:1], letters=args
        )
    for (letter, *_), back in zip(letters, replies, strict=True):
        if not back:
            done.missing += 1
        elif letter.kind == "seed":
            done.seeds += 1
        else:
            done.requests += 1


async def _delete(frontier: Frontier, ids: Sequence[str], done: Forgotten) -> None:
    with asking(key=frontier.keys.failed):
        deleted = await frontier.client.xdel(frontier.keys.failed, *ids)
    done.deleted += deleted
    done.missing += len(ids) - deleted


async def _trim(frontier: Frontier, done: Forgotten) -> None:
    """Delete all letters that are there now, without reading them."""
    client, key = frontier.client, frontier.keys.failed
    with asking(key=frontier.keys.failed):
        newest = await client.xrevrange(key, count=1)
        if not newest:
            return
        ms, sequence = map(int, text(newest[0][0]).split("-"))
        minid = f"{ms}-{sequence + 1}"
        while True:
            # Whole nodes of the stream at first, some at a time; then the rest.
            deleted = await client.xtrim(key, minid=minid, limit=_TRIM)
            done.deleted += deleted
            if not deleted:
                break
        done.deleted += await client.xtrim(key, minid=minid, approximate=False)
