"""Dead letters: what was set aside in ``S:failed``, to list, put back or delete.

A letter never changes, and its id never comes again; so what was decided about a letter
that was read holds when it is moved or deleted, by its id.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.version import check_format, check_seal
from scrapy_dist.codec import compact
from scrapy_dist.codec.request import MAX_PRIORITY, fields_of, quote
from scrapy_dist.codec.seal import NO_SEAL, Seal
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.exceptions import BadPayload, ConfigurationError
from scrapy_dist.queue import PriorityQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scrapy import Request

    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.queue import Base

__all__ = [
    "DeadLetter",
    "Forgotten",
    "Retried",
    "count_failed",
    "forget",
    "list_failed",
    "retry",
]

#: Letters asked for at first; then as many as STEP_BYTES hold, from 1 to BATCH.
_FIRST_STEP = 10
#: Bytes of payloads that one step reads, about.
_STEP_BYTES = 1 << 20
#: Letters that a trim without an exact end may look at.
_TRIM = 1000
#: Examples kept of the letters that cannot be put back.
_EXAMPLES = 3

_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
#: Scrapy's default of the setting RETRY_PRIORITY_ADJUST.
_RETRY_PRIORITY_ADJUST = -1

_PICKLE, _OTHER = b"\x80", b"\x02"


@dataclass(frozen=True)
class DeadLetter:
    """A request or seed that was set aside. All of it is input from strangers."""

    id: str
    #: ``request`` or ``seed``.
    kind: str
    #: When, in ms of Redis' clock; 0: unknown.
    time_ms: int
    #: How often it had been handed out.
    deliveries: int
    #: ``host:pid`` of who set it aside.
    worker: str
    reason: str
    payload: bytes
    #: What requests of its frontier are signed with.
    seal: Seal = field(default=NO_SEAL, repr=False, compare=False)

    @property
    def opened(self) -> bytes:
        """The payload without signature, or what nobody can decode."""
        return self.payload if self.kind == "seed" else self.seal.shown(self.payload)

    @property
    def url(self) -> str:
        """Its URL; '' if only a project's own serializer, or a pickle, could tell."""
        found = self._read().get("url")
        if type(found) is str:
            return found.strip()
        if self.kind == "seed" and self.payload.lstrip()[:1] not in (b"{", b"["):
            return self.payload.decode("utf-8", "replace").strip()
        return ""

    @property
    def priority(self) -> int:
        """Its priority as far as `url` can be read, else 0."""
        found = self._read().get("priority")
        if type(found) is int and abs(found) <= MAX_PRIORITY:
            return found
        return 0

    def _read(self) -> dict[Any, Any]:
        is_seed = self.kind == "seed"
        try:
            return fields_of(self.payload.lstrip() if is_seed else self.opened)
        except BadPayload:
            return {}


@dataclass
class Retried:
    """What `retry` did."""

    #: Put back to the pending requests, and to the seeds.
    requests: int = 0
    seeds: int = 0
    #: Letters that cannot be put back, and stay.
    unreadable: int = 0
    #: Ids of which there is no letter, or not any more.
    missing: int = 0
    #: Some of the unreadable: id and why.
    examples: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Forgotten:
    """What `forget` did."""

    deleted: int = 0
    #: Ids of which there is no letter, or not any more.
    missing: int = 0


async def count_failed(frontier: Frontier) -> int:
    """How many dead letters there are. Raises RedisUnavailable, ConfigurationError."""
    with asking(key=frontier.keys.failed):
        return await frontier.client.xlen(frontier.keys.failed)


async def list_failed(
    frontier: Frontier, *, reason: str = "", newest_first: bool = True
) -> AsyncIterator[DeadLetter]:
    """The dead letters whose reason contains *reason*, in any case.

    Some are read at a time, about a megabyte; those that come meanwhile are left out.
    Raises RedisUnavailable, and ConfigurationError for a key of another type.
    """
    async for letters in _steps(frontier, newest_first=newest_first):
        for letter in letters:
            if _matches(letter, reason):
                yield letter


async def retry(
    frontier: Frontier,
    *,
    ids: Iterable[str] | None = None,
    reason: str = "",
    decode: Callable[[bytes], Request] | None = None,
    discipline: type[Base] = PriorityQueue,
    seeds_as: str = "list",
) -> Retried:
    """Put dead letters back: requests to pending, seeds to the first key of seeds.

    *ids* None: all that are there now. *reason*: of those, only letters whose reason
    contains it. *decode* raises BadPayload for requests that a worker could not read
    (PayloadCodec.decode); it is never asked about a pickle. *seeds_as*: the type of the
    key of seeds, if there is none yet.

    A request is pending with the priority that it had before Scrapy's retries, behind
    equal ones, may be retried as often as a new one, and is crawled although its
    fingerprint is known. What cannot be read stays. Raises
    RedisUnavailable: then some may have been put back; and ConfigurationError for an id
    that is none.
    """
    await check_format(frontier.client, frontier.keys.state)
    await check_seal(frontier.client, frontier.keys.state, frontier.seal, writes=True)
    done = Retried()
    async for letters in _chosen(frontier, ids, reason, done):
        readable: list[tuple[DeadLetter, float, bytes]] = []
        for letter in letters:
            try:
                _check_destination(letter, frontier)
                fresh = _without_retries(letter)
                score = _score(fresh, decode, discipline)
                is_same = fresh.payload == letter.payload
                readable.append((fresh, score, b"" if is_same else fresh.payload))
            except BadPayload as e:
                done.unreadable += 1
                if len(done.examples) < _EXAMPLES:
                    done.examples.append((letter.id, str(e)))
        if readable:
            await _put_back(frontier, readable, discipline, seeds_as, done)
    return done


async def forget(
    frontier: Frontier, *, ids: Iterable[str] | None = None, reason: str = ""
) -> Forgotten:
    """Delete dead letters, chosen as in `retry`; they are gone for good.

    Raises RedisUnavailable: then some may have been deleted; and ConfigurationError for
    an id that is none.
    """
    await check_format(frontier.client, frontier.keys.state)
    done = Forgotten()
    if ids is None and not reason:
        await _trim(frontier, done)
    elif ids is not None and not reason:
        for some in _batches(_checked(ids)):
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
        steps = _steps(frontier, newest_first=False)
    else:
        steps = _steps_of_ids(frontier, _checked(ids), done)
    async for letters in steps:
        matching = [letter for letter in letters if _matches(letter, reason)]
        if matching:
            yield matching


def _matches(letter: DeadLetter, reason: str) -> bool:
    return reason.casefold() in letter.reason.casefold()


def _checked(ids: Iterable[str]) -> list[str]:
    """*ids* without repetitions. Raises ConfigurationError."""
    unique = list(dict.fromkeys(ids))
    for id_ in unique:
        if not _ID.fullmatch(id_):
            raise ConfigurationError(
                f"{id_!r} is no ID of a dead letter, such as 1760000000000-0."
                " `scrapy frontier failed` shows the IDs."
            )
    return unique


async def _steps(
    frontier: Frontier, *, newest_first: bool
) -> AsyncIterator[list[DeadLetter]]:
    """All letters that are there now, some at a time."""
    client, key = frontier.client, frontier.keys.failed
    with asking(key=frontier.keys.failed):
        newest = await client.xrevrange(key, count=1)
    if not newest:
        return
    # Workers may set aside again what is put back: up to here and no further.
    end = _text(newest[0][0])
    after, count = "", _FIRST_STEP
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
        letters = [_parse(id_, fields, frontier.seal) for id_, fields in found]
        yield letters
        after = letters[-1].id
        size = sum(len(letter.payload) for letter in letters) // len(letters)
        count = max(1, min(BATCH, _STEP_BYTES // (size + 1)))


async def _steps_of_ids(
    frontier: Frontier, ids: Sequence[str], done: Retried | Forgotten
) -> AsyncIterator[list[DeadLetter]]:
    for some in _batches(ids, _FIRST_STEP):
        with asking(key=frontier.keys.failed):
            async with frontier.client.pipeline(transaction=False) as pipeline:
                for id_ in some:
                    pipeline.xrange(frontier.keys.failed, id_, id_)
                replies = await pipeline.execute()
        done.missing += sum(not found for found in replies)
        yield [
            _parse(id_, fields, frontier.seal)
            for found in replies
            for id_, fields in found
        ]


def _parse(id_: bytes | str, fields: dict[bytes, bytes], seal: Seal) -> DeadLetter:
    def number(name: bytes) -> int:
        value = fields.get(name, b"")
        return int(value) if re.fullmatch(rb"[0-9]{1,15}", value) else 0

    return DeadLetter(
        id=_text(id_),
        kind="seed" if fields.get(b"kind") == b"seed" else "request",
        time_ms=number(b"time"),
        deliveries=number(b"deliveries"),
        worker=_text(fields.get(b"worker", b"")),
        reason=_text(fields.get(b"reason", b"")),
        payload=fields.get(b"payload", b""),
        seal=seal,
    )


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _batches(ids: Sequence[str], size: int = BATCH) -> Iterator[Sequence[str]]:
    return (ids[i : i + size] for i in range(0, len(ids), size))


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
    if opened[:1] == b"{":
        payload = json.dumps(fields).encode()
    else:
        payload = b"\x01" + compact.dumps(fields)
    return replace(letter, payload=letter.seal.sign(payload))


def _check_destination(letter: DeadLetter, frontier: Frontier) -> None:
    if letter.kind == "seed" and not frontier.seed_keys:
        raise BadPayload("it is a seed, and this spider reads none")


def _score(
    letter: DeadLetter,
    decode: Callable[[bytes], Request] | None,
    discipline: type[Base],
) -> float:
    """The score to be pending with. Raises BadPayload for what no worker could read."""
    if letter.kind == "seed":
        return letter.priority
    head = letter.seal.open(letter.payload)[:1]
    if head == _PICKLE:
        return 0.0  # nothing is unpickled only to know a priority
    if decode is not None:
        return discipline.score(decode(letter.payload))
    if head == _OTHER:
        return 0.0
    if not letter.url:
        raise BadPayload(f"it holds no request: {quote(letter.payload[:40])}")
    # Outside the project: its discipline, if it is a special one, is not known.
    return -letter.priority if issubclass(discipline, PriorityQueue) else 0.0


async def _put_back(
    frontier: Frontier,
    letters: Sequence[tuple[DeadLetter, float, bytes]],
    discipline: type[Base],
    seeds_as: str,
    done: Retried,
) -> None:
    call = frontier.call(
        "retry",
        list,
        newest_first=int(discipline.newest_first),
        seeds_as=seeds_as,
        seed_keys=frontier.seed_keys[:1],
        letters=[
            part
            for letter, score, payload in letters
            for part in (letter.id, score, payload)
        ],
    )
    await frontier.exchange([call])
    with asking():
        replies = call.reply()
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
        ms, sequence = map(int, _text(newest[0][0]).split("-"))
        minid = f"{ms}-{sequence + 1}"
        while True:
            # Whole nodes of the stream at first, some at a time; then the rest.
            deleted = await client.xtrim(key, minid=minid, limit=_TRIM)
            done.deleted += deleted
            if not deleted:
                break
        done.deleted += await client.xtrim(key, minid=minid, approximate=False)
