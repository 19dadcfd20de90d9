"""What the frontier knows of requests: which come next, and where one of a URL is.

Only reads, some hundred requests at a time. Pickles stay closed.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from scrapy.http import Request

from scrapy_dist.brokers.redis import fingerprints
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import (
    LEASED,
    REQUESTS,
    SUSPECTS,
    batches,
    parse,
    scan,
)
from scrapy_dist.brokers.redis.views.dead_letters import list_failed
from scrapy_dist.brokers.redis.views.hosts import read_host
from scrapy_dist.brokers.redis.views.status import read_status
from scrapy_dist.codec import dump_lines
from scrapy_dist.codec.envelope import MSGPACK, PICKLE, SEED, SIGNED
from scrapy_dist.codec.messagepack import from_jsonable
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.core.frontier import SUSPECTS as MOST_SUSPECTS
from scrapy_dist.core.inspection import Explained, Found, Holder, Shown, Waiting
from scrapy_dist.core.slots import NO_SLOT

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.brokers.redis.layout import Entry
    from scrapy_dist.codec.seal import Seal
    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.ports import Fingerprint, Progress

#: What a seed may say of its request that is a name, or close to one.
_SEED_FIELDS = ("url", "method", "callback")
#: What a fingerprint may be made of.
_NAMED = ("url", "method", "body", "headers", "meta")
#: Slots without requests that are passed by, at least.
_EMPTY = 1000
#: Bytes of requests that are read while everybody else waits.
_AT_ONCE = 1 << 17
#: Dead letters of one URL that are told, the newest.
_LETTERS = 5


def read_fields(payload: bytes) -> dict[str, Any]:
    """What can be told of *payload* without its spider; see ``Shown``."""
    shown = dump_lines.show_payload(payload)
    if "request" in shown:
        fields: dict[str, Any] = shown["request"]
        return fields
    if "seed" in shown:
        return {**_seed_fields(shown["seed"]), "seed": shown["seed"]}
    if payload[:1] == SIGNED:
        return {"url": "(not signed with the FRONTIER_SECRET that is set here)"}
    kind = "a pickle" if payload[:1] == PICKLE else "not readable"
    return {"url": f"({kind}, {len(payload):,} bytes)"}


def _seed_fields(seed: str) -> dict[str, Any]:
    if seed.lstrip()[:1] != "{":
        return {"url": seed.strip()}
    try:
        fields = json.loads(seed)
    except (ValueError, RecursionError):
        return {"url": seed}
    told = {name: fields.get(name) for name in _SEED_FIELDS}
    found = {name: value for name, value in told.items() if type(value) is str}
    if type(fields.get("priority")) is int:
        found["priority"] = fields["priority"]
    return {"url": seed, **found}


def _show(stored: Entry, seal: Seal) -> Shown:
    fields = read_fields(seal.shown(stored.payload))
    return Shown(stored.kind, stored.score, fields, stored.deaths)


async def _shown(
    place: int, found: Sequence[tuple[bytes, float]], seal: Seal
) -> list[Shown]:
    def show() -> list[Shown]:
        return [_show(parse(place, each, score=score), seal) for each, score in found]

    # Large ones in a thread: to read them takes its time.
    is_large = sum(len(member) for member, _ in found) > _AT_ONCE
    return await asyncio.to_thread(show) if is_large else show()


async def next_requests(frontier: Frontier, count: int) -> AsyncIterator[list[Shown]]:
    """See `ports.Crawl.peek`.

    Some suspects go first, as with a worker that holds none. Then slots have their turns,
    and each gives one request. What is in no slot that has a turn comes last.
    """
    key = frontier.keys.suspects
    with asking():
        first = await frontier.client.zrange(key, 0, MOST_SUSPECTS - 1, withscores=True)
        first = [(m, score) for m, score in first[:count] if math.isfinite(score)]
        if first:
            yield await _shown(SUSPECTS, first, frontier.seal)
        if count == len(first):
            return
        async for found in _in_turn(frontier, count - len(first)):
            yield await _shown(REQUESTS, found, frontier.seal)


async def _in_turn(
    frontier: Frontier, count: int
) -> AsyncIterator[list[tuple[bytes, float]]]:
    """Members and slots of at most *count* pending requests, in the order of turns."""
    known: set[float] = set()
    more: list[bytes] = []
    left, at, most = count, 0, 0
    async for slots in _slots(frontier, count, known):
        # Fewer than a page are all that there are, and may give more at once.
        most = most or max(1, BATCH // len(slots))
        found, have_more = await _of_slots(frontier, slots, 0, most, left)
        left -= len(found)
        more += have_more
        yield found
        if not left:
            return
    while more and left:
        at += most
        most, slots, more = max(1, BATCH // len(more)), more, []
        for some in batches(slots):
            if not left:
                return
            found, have_more = await _of_slots(frontier, some, at, most, left)
            left -= len(found)
            more += have_more
            yield found
    for at in range(0, 2 * count, BATCH):
        if not left:
            return
        page = await frontier.client.zrange(
            frontier.keys.requests, at, at + BATCH - 1, withscores=True
        )
        rest = [(member, slot) for member, slot in page if slot not in known][:left]
        yield rest
        left -= len(rest)
        if len(page) < BATCH:
            return


async def _slots(
    frontier: Frontier, count: int, known: set[float]
) -> AsyncIterator[list[bytes]]:
    """Slots in the order of their turns, some at a time; those that come are *known*.

    There are *count* at least, and some more, as a few may have no requests.
    """
    for at in range(0, count + _EMPTY, BATCH):
        names = await frontier.client.zrange(
            frontier.keys.slots, at, at + BATCH - 1, withscores=True
        )
        slots = []
        for name, _ in names:
            # Of several seats of a slot the first counts: see lib/seats.lua.
            slot, _, _ = name.partition(b".")
            if slot.isdigit() and float(slot) not in known:
                known.add(float(slot))
                slots.append(slot)
        if slots:
            yield slots
        if len(names) < BATCH:
            return


async def _of_slots(
    frontier: Frontier, slots: Sequence[bytes], at: int, most: int, left: int
) -> tuple[list[tuple[bytes, float]], list[bytes]]:
    """Requests of each of *slots* in turn, *left* at the most; slots that may have more."""
    found = await frontier.run("peek", at=at, most=most, slots=slots)
    shown = [
        (member, float(slot))
        for turn in zip_longest(*found)
        for slot, member in zip(slots, turn, strict=True)
        if member is not None
    ]
    have_more = zip(slots, found, strict=True)
    return shown[:left], [slot for slot, some in have_more if len(some) == most]


class _Matcher:
    """Tells which of the URLs that are looked for a stored request is of.

    *exact*: the fingerprint is Scrapy's, which never gives two requests with different
    paths the same name; then most are told apart without decoding them.
    """

    def __init__(
        self, urls: Iterable[str], fingerprint: Fingerprint, *, exact: bool
    ) -> None:
        self.requests = {url: Request(url) for url in urls}
        self.names = {url: fingerprint(r) for url, r in self.requests.items()}
        self._of_name = {name: url for url, name in self.names.items()}
        self._of_url = {r.url: url for url, r in self.requests.items()}
        self._fingerprint = fingerprint
        self._paths = {_path(r.url) for r in self.requests.values()} if exact else None

    def match(self, payload: bytes) -> str | None:
        """The URL, as it was given, that *payload* is of."""
        if self._is_other(payload):
            return None
        fields = read_fields(payload)
        url = fields.get("url")
        if not isinstance(url, str):
            return None
        if url in self._of_url:
            return self._of_url[url]
        if self._paths is not None and _path(url) not in self._paths:
            return None
        try:
            fields = from_jsonable(fields)
            given = {name: fields[name] for name in _NAMED if name in fields}
            return self._of_name.get(self._fingerprint(Request(**given)))
        except Exception:  # noqa: BLE001 - whatever a stranger's fields lead to
            return None

    def _is_other(self, payload: bytes) -> bool:
        """Whether a look at the bytes is enough: most requests are of other URLs."""
        # The path is there in plain text, unless some of it is escaped.
        return (
            self._paths is not None
            and payload[:1] == MSGPACK
            and b"%" not in payload
            and not any(path in payload for path in self._paths)
        )


def _path(url: str) -> bytes:
    """What equal canonical URLs have in common, cheaply: their path, decoded."""
    path = url.partition("#")[0].partition("?")[0].partition("://")[2].partition("/")[2]
    return unquote_to_bytes(path)


async def find(
    frontier: Frontier,
    urls: Iterable[str],
    fingerprint: Fingerprint,
    *,
    exact: bool,
    progress: Progress,
) -> AsyncIterator[Found]:
    """See `ports.Crawl.find`. About a second for 80,000 requests.

    Pending come first, then suspects and leases, as a request moves; one that goes back
    meanwhile may be missed.
    """
    matcher = _Matcher(urls, fingerprint, exact=exact)
    with asking():
        async for found in _find(frontier, matcher, progress):
            yield found


async def _find(
    frontier: Frontier, matcher: _Matcher, progress: Progress
) -> AsyncIterator[Found]:
    client = frontier.client
    k = frontier.keys
    wanted = set(matcher.requests)
    total = sum([await client.zcard(key) for key in (k.requests, k.suspects, k.leases)])
    done = 0
    for place in (REQUESTS, SUSPECTS, LEASED):
        async for some in scan(client, k, place):
            done += len(some)
            for stored in some:
                url = matcher.match(frontier.seal.shown(stored.payload))
                if url not in wanted:
                    continue
                wanted.discard(url)
                id_ = stored.id.decode("latin-1")
                shown = _show(stored, frontier.seal)
                yield Found(
                    url, shown, id_, *await _rank(frontier, stored), stored.slot
                )
                if not wanted:
                    return
            progress(done, total)


async def _rank(frontier: Frontier, stored: Entry) -> tuple[int | None, int | None]:
    """Of a pending one how many of its slot are before it, and how many the slot has.

    The second is None where slots take no turns.
    """
    if stored.place != REQUESTS:
        return None, None
    key, slot = frontier.keys.requests, stored.slot
    async with frontier.client.pipeline(transaction=True) as pipeline:
        pipeline.zrank(key, stored.member)
        pipeline.zcount(key, "-inf", f"({slot!r}")
        pipeline.zcount(key, slot, slot)
        rank, before, among = await pipeline.execute()
    if rank is None:
        return None, None
    return rank - before, among if slot != NO_SLOT else None


async def explain(
    frontier: Frontier,
    urls: Iterable[str],
    fingerprint: Fingerprint,
    *,
    exact: bool,
    progress: Progress,
    delay_of: Callable[[int], float | None] = lambda slot: None,
) -> list[Explained]:
    matcher = _Matcher(urls, fingerprint, exact=exact)
    with asking():
        found = {f.url: f async for f in _find(frontier, matcher, progress)}
        letters = await _letters(frontier, matcher)
        return [
            Explained(
                url=url,
                fingerprint=name,
                seen=await fingerprints.is_seen(frontier, name),
                start=await fingerprints.is_start(frontier, name),
                found=found.get(url),
                holder=await _holder(frontier, found.get(url)),
                failed=tuple(letters.get(url, ())),
                waiting=await _waiting(frontier, found.get(url), delay_of),
            )
            for url, name in matcher.names.items()
        ]


async def _letters(
    frontier: Frontier, matcher: _Matcher
) -> dict[str, list[DeadLetter]]:
    found: dict[str, list[DeadLetter]] = {}
    async for letter in list_failed(frontier):
        head = SEED if letter.kind == "seed" else b""
        url = matcher.match(head + letter.opened)
        if url is not None and len(found.setdefault(url, [])) < _LETTERS:
            found[url].append(letter)
    return found


async def _waiting(
    frontier: Frontier, found: Found | None, delay_of: Callable[[int], float | None]
) -> Waiting | None:
    if found is None or found.request.kind not in ("pending", "suspect"):
        return None
    status = await read_status(frontier)
    host, slots, ready = await read_host(frontier, found.slot, delay_of)
    turn = None
    if not host.owners and found.request.kind == "pending":
        name = f"{found.slot:.0f}".encode()
        turn = await frontier.client.zrank(frontier.keys.slots, name)
    return Waiting(
        paused=status.paused,
        alive=len(status.alive),
        pages_per_second=status.pages_per_second,
        pending=status.pending,
        before=found.rank or 0,
        host=None if found.slot == NO_SLOT else host,
        slots=max(1, slots),
        turn=turn,
        ready=ready,
    )


async def _holder(frontier: Frontier, found: Found | None) -> Holder | None:
    if found is None or found.request.kind != "leased":
        return None
    client = frontier.client
    k = frontier.keys
    owner = await client.zscore(k.leases, found.id)
    if owner is None:
        return None
    number = f"{owner:.0f}"
    name = await client.hget(k.state, f"worker:{number}")
    beat = await client.zscore(k.workers, number)
    seconds, micros = await client.time()
    silent = None if beat is None else max(0.0, seconds + micros / 1e6 - beat / 1000)
    return Holder(name.decode("utf-8", "replace") if name else number, number, silent)
