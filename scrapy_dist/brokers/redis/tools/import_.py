"""Lines of an exported frontier become a frontier again, in bounded memory."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import quote
from scrapy_dist.brokers.redis import fingerprints
from scrapy_dist.brokers.redis.buckets import Shape
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import encode_score, with_task
from scrapy_dist.brokers.redis.tasks import record_of
from scrapy_dist.brokers.redis.version import check_seal
from scrapy_dist.codec import dump_lines
from scrapy_dist.codec.seed_fields import is_token
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.core.slots import NO_SLOTS, Slots
from scrapy_dist.exceptions import BadPayload, ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.core.crawl import Imported

Line = dict[str, Any]

#: Bytes of entries after which a call is full.
_CALL_BYTES = 500_000
#: Order ids to spare for requests that came while the file was written.
_SPACE = 1 << 24
#: Numbers and names in a file that are believed: of requests, of workers that died with
#: one, characters of a fingerprint.
_MOST_REQUESTS, _MOST_DEATHS, _MOST_NAME = 10**12, 10**6, 1000
#: How far the import of a file has come, in ``S:state``: its name, lines, top order id.
_MARK = re.compile(rb"([0-9A-Za-z-]{1,40}) ([0-9]{1,15}) \S+")
#: What was seen on behalf of a request, see claim.lua.
_CLAIMS = re.compile("-?[0-9A-Za-z]+")
#: Calls in one round trip.
_CALLS = 10


async def import_lines(
    frontier: Frontier,
    lines: Iterable[bytes],
    imported: Imported,
    *,
    merge: bool = False,
    slots: Slots = NO_SLOTS,
) -> AsyncIterator[int]:
    """Import, see `ports.Crawl.import_lines`.

    What was leased becomes pending, or a suspect if it has a history. Order ids are new,
    in the order of the file; what cannot be read without its spider comes into `NO_SLOT`.
    How far it has come is noted in ``S:state``, in the same script: the same file may be
    brought in again after an interruption, and goes on there. Raises ConfigurationError,
    BadPayload with the number of a line, and RedisUnavailable.
    """
    with asking("the import is not complete", ". Import the same file again to go on."):
        async for done in _Import(frontier, imported, slots).run(lines, merge=merge):
            yield done


class _Batch:
    """Lines that are sent together: fingerprints, and entries of ``import.lua``."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.entries: list[str | bytes | int | float] = []
        self.lines = 0
        self.bytes = 0

    @property
    def is_full(self) -> bool:
        return self.lines >= BATCH or self.bytes >= _CALL_BYTES

    def add(self, key: str | int, command: str, *args: str | bytes | float) -> None:
        self.entries += (key, command, len(args), *args)
        self.bytes += sum(len(a) for a in args if isinstance(a, (str, bytes)))


class _Import:
    def __init__(self, frontier: Frontier, imported: Imported, slots: Slots) -> None:
        self._frontier = frontier
        self._imported = imported
        self._slots = slots
        self._name = ""
        self._is_compact = False
        self._space = 0
        #: Lines that were sent.
        self._sent = 0
        self._seed_types: list[str] = []

    async def run(self, lines: Iterable[bytes], *, merge: bool) -> AsyncIterator[int]:
        lines = iter(lines)
        await self._begin(next(lines, b""), merge=merge)
        batches: list[_Batch] = []
        batch = _Batch()
        for number, text in enumerate(lines, 1):
            if number <= self._sent:
                continue
            try:
                line = dump_lines.load(text)
                if line["type"] == "end":
                    self._end(line, number - 1)
                    break
                self._take(line, batch)
            except (BadPayload, KeyError, OverflowError, TypeError, ValueError) as e:
                raise BadPayload(
                    f"Line {number + 1} of the file: {quote(str(e), 400)[1:-1]}"
                ) from None
            batch.lines += 1
            self._imported.counts[line["type"]] += 1
            if batch.is_full:
                batches.append(batch)
                batch = _Batch()
            if len(batches) == _CALLS:
                await self._send(batches)
                batches = []
                yield self._sent
        await self._send([*batches, batch], ends=self._imported.is_complete)
        yield self._sent

    def _end(self, line: Line, lines: int) -> None:
        counts = line.get("counts")
        if type(counts) is not dict or sum(counts.values()) != lines:
            raise BadPayload(
                f"lines are missing: it says {quote(counts, 200)}, there are {lines}"
            )
        self._imported.is_complete = True
        self._imported.is_whole = bool(line.get("whole"))

    async def _begin(self, text: bytes, *, merge: bool) -> None:
        try:
            head = dump_lines.load(text)
        except BadPayload as e:
            raise ConfigurationError(
                f"This is no export of a frontier: {e}. Name a file of"
                " scrapy frontier export."
            ) from None
        if head["type"] != "frontier" or not isinstance(head.get("id"), str):
            raise ConfigurationError(
                "This is no export of a frontier: its first line is another one."
            )
        if head.get("version") != dump_lines.VERSION:
            raise ConfigurationError(
                f"The file has version {quote(head.get('version'))} of the format, and this"
                f" scrapy-dist reads version {dump_lines.VERSION}. Update scrapy-dist."
            )
        frontier = self._frontier
        state = frontier.keys.state
        await check_seal(frontier.client, state, frontier.seal, writes=True)
        await self._choose_fingerprints(head.get("fingerprints"))
        try:
            self._space = _SPACE + 2 * _whole(head, "requests", _MOST_REQUESTS)
        except BadPayload as e:
            raise ConfigurationError(f"This is no export of a frontier: {e}.") from None
        name = "".join(c for c in head["id"] if c.isascii() and c.isalnum())
        self._name = name[:40] or "-"
        self._imported.spider = str(head.get("spider", ""))[:1000]
        await self._find_start(merge=merge)

    async def _choose_fingerprints(self, theirs: object) -> None:
        """Whole fingerprints can be made compact, but not the other way round."""
        frontier, k = self._frontier, self._frontier.keys
        ours = await fingerprints.kind_of(frontier)
        if theirs == fingerprints.COMPACT != ours:
            if await frontier.client.exists(k.dupefilter):
                raise ConfigurationError(
                    "The file holds fingerprints of CompactDupeFilter, and this frontier"
                    " whole ones. Clear it first: scrapy frontier clear."
                )
            frontier.shape, ours = Shape(k.dupefilter), fingerprints.COMPACT
        elif theirs not in (fingerprints.HEX, fingerprints.COMPACT):
            raise ConfigurationError(
                f"The file holds fingerprints of the kind {quote(theirs)}, which this"
                " scrapy-dist does not know. Update it."
            )
        self._is_compact = ours == fingerprints.COMPACT

    async def _find_start(self, *, merge: bool) -> None:
        client = self._frontier.client
        k = self._frontier.keys
        mark = await client.hget(k.state, "import")
        if mark is not None:
            found = _MARK.fullmatch(mark)
            if found is None or found[1].decode() != self._name:
                raise ConfigurationError(
                    "The import of another file was interrupted here. Import that file"
                    " again to go on, or clear the frontier: scrapy frontier clear."
                )
            self._imported.skipped = self._sent = int(found[2])
        elif await client.hget(k.state, "imported") == self._name.encode():
            raise ConfigurationError(
                "This file has been imported already, all of it; nothing was done."
            )
        elif not merge:
            sizes = [
                await client.zcard(k.requests),
                await client.zcard(k.suspects),
                await client.zcard(k.leases),
                await client.scard(k.started),
                await fingerprints.count(self._frontier),
            ]
            if any(sizes):
                pending, suspect, leased, _, seen = sizes
                raise ConfigurationError(
                    f"The frontier is not empty: {pending:,} pending, {suspect:,} suspect,"
                    f" {leased:,} leased, {seen:,} seen. Clear it first (scrapy frontier"
                    " clear), or add to it with --merge."
                )
        for key in self._frontier.seed_keys:
            self._seed_types.append((await client.type(key)).decode())

    def _take(self, line: Line, batch: _Batch) -> None:
        kind = line["type"]
        if kind == "seen":
            name = _name(line, "fingerprint")
            batch.seen.append(name)
            batch.bytes += len(name)
        elif kind == "started":
            name = _name(line, "fingerprint")
            name = fingerprints.started_as(name, compacted=self._is_compact)
            batch.add("started", "SADD", name)
        elif kind in dump_lines.REQUESTS:
            self._take_request(line, batch)
        elif kind == "task":
            newest = int(line.get("newest") is True)
            batch.add("tasks", "task", *record_of(line), newest)
        elif kind == "result":
            number = _whole(line, "n", _MOST_REQUESTS)
            if not number:
                raise BadPayload("it has no n")
            data = dump_lines.bytes_of(line, "data")
            batch.add("results", "result", _token(line), number, data)
        elif kind == "seed":
            self._take_seed(line, batch)
        elif kind == "failed":
            payload = dump_lines.payload_of(line, self._frontier.seal)
            if line.get("kind") == "seed":
                payload = payload[1:]
            fields: list[str | bytes] = ["payload", payload]
            for name in dump_lines.LETTER:
                fields += (name, dump_lines.bytes_of(line, name))
            for name in ("task", "claims"):
                if name in line or f"{name}_base64" in line:
                    fields += (name, dump_lines.bytes_of(line, name))
            batch.add("failed", "XADD", *fields)
        elif kind == "stat":
            stat = dump_lines.bytes_of(line, "name")
            batch.add("stats", "HSETNX", stat, dump_lines.bytes_of(line, "value"))
        elif kind == "item":
            batch.add("items", "LPUSH", dump_lines.bytes_of(line, "data"))
        else:
            raise BadPayload(f"unknown type {quote(kind)}")

    def _take_request(self, line: Line, batch: _Batch) -> None:
        payload = dump_lines.payload_of(line, self._frontier.seal)
        task = _token(line) if line.get("task", "") != "" else ""
        score = _score(line)
        deaths, claims = _whole(line, "deaths", _MOST_DEATHS), line.get("claims", "-")
        if type(claims) is not str or not _CLAIMS.fullmatch(claims):
            claims = "-"
        # As release.lua decides: what nobody died of, and claimed nothing, is pending.
        slot = self._slots.number_of_payload(self._frontier.seal.shown(payload))
        place = (encode_score(score), slot, with_task(task, payload))
        if line["type"] == "suspect" or deaths or claims != "-":
            waits = "+inf" if score == math.inf else 0
            batch.add("suspects", "request", *place, waits, deaths, claims)
        else:
            batch.add("requests", "request", *place)

    def _take_seed(self, line: Line, batch: _Batch) -> None:
        if not self._seed_types:
            self._imported.homeless += 1
            return
        data = dump_lines.bytes_of(line, "data")
        n = _whole(line, "key", _MOST_REQUESTS)
        n = n if n < len(self._seed_types) else 0
        if self._seed_types[n] == "none":
            self._seed_types[n] = _name(line, "kind")
        kind = self._seed_types[n]
        if kind == "zset":
            batch.add(n + 1, "ZADD", _score(line), data)
        else:
            batch.add(n + 1, "SADD" if kind == "set" else "LPUSH", data)

    async def _send(self, batches: Sequence[_Batch], *, ends: bool = False) -> None:
        seen = [name for batch in batches for name in batch.seen]
        if seen:
            await fingerprints.add(self._frontier, seen)
        calls = []
        for batch in batches:
            before = self._sent
            self._sent += batch.lines
            is_last = ends and batch is batches[-1]
            call = self._frontier.call(
                "import",
                int,
                space=self._space if self._frontier.newest_first else 0,
                file=self._name,
                before=before,
                after="end" if is_last else self._sent,
                entries=batch.entries,
            )
            calls.append(call)
        await self._frontier.exchange(calls)
        for call in calls:
            if call.reply() < 0:
                raise ConfigurationError(
                    "Somebody has changed the frontier while the file was brought in:"
                    " it was cleared, or a worker that began too early has finished it."
                    " Clear it (scrapy frontier clear) and import the file again before"
                    " workers start."
                )


def _score(line: Line) -> float:
    """Its score, which may be infinite: a suspect that waits is. Raises BadPayload."""
    value = line.get("score")
    if type(value) not in (int, float, str):
        raise BadPayload("it has no score")
    try:
        score = float(value)  # type: ignore[arg-type]
    except (OverflowError, ValueError):
        score = math.nan
    if math.isnan(score):
        raise BadPayload(f"its score is no number that Redis has: {quote(value)}")
    return score


def _whole(line: Line, name: str, most: int) -> int:
    """The number *name*, 0 without it. Raises BadPayload."""
    value = line.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise BadPayload(f"its {name} is no number up to {most}: {quote(value)}")
    return value


def _token(line: Line) -> str:
    """The token of its task. Raises BadPayload."""
    token = line.get("task")
    if type(token) is not str or not is_token(token):
        raise BadPayload(f"its task is none: {quote(token)}")
    return token


def _name(line: Line, name: str) -> str:
    """A short ASCII text, as the names of fingerprints are. Raises BadPayload."""
    value = line.get(name)
    if type(value) is not str or not value or not value.isascii():
        raise BadPayload(f"it has no {name}")
    if len(value) > _MOST_NAME:
        raise BadPayload(f"its {name} has {len(value):,} characters")
    return value
