"""What the frontier knows of requests: which come next, and where one of a URL is.

Only reads, some hundred requests at a time. Pickles stay closed.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from scrapy.http import Request

from scrapy_dist.brokers.redis import fingerprints
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import scan_hash
from scrapy_dist.brokers.redis.views.dead_letters import list_failed
from scrapy_dist.brokers.redis.views.snapshot import leased, pending, suspect
from scrapy_dist.codec import dump_lines
from scrapy_dist.codec.envelope import MSGPACK, PICKLE, SEED, SIGNED
from scrapy_dist.codec.messagepack import from_jsonable
from scrapy_dist.core.frontier import BATCH, SUSPECTS
from scrapy_dist.core.inspection import Explained, Found, Holder, Shown

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.brokers.redis.views.snapshot import Stored
    from scrapy_dist.codec.seal import Seal
    from scrapy_dist.core.dead_letters import DeadLetter

#: What a seed may say of its request that is a name, or close to one.
_SEED_FIELDS = ("url", "method", "callback")
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
    return {"url": f"({kind}, {len(payload)} bytes)"}


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


def _show(stored: Stored, seal: Seal) -> Shown:
    fields = read_fields(seal.shown(stored.payload))
    return Shown(stored.kind, stored.score, fields, stored.deaths)


async def next_requests(frontier: Frontier, count: int) -> AsyncIterator[list[Shown]]:
    """The next *count* requests in the order of their leases, at most BATCH at a time.

    Some suspects go first, as with a worker that holds none.
    """
    client = frontier.client
    k = frontier.keys
    with asking():
        first = await client.zrange(k.suspects, 0, SUSPECTS - 1, withscores=True)
        first = [(m, score) for m, score in first[:count] if math.isfinite(score)]
        if first:
            yield [
                _show(suspect(member, score), frontier.seal) for member, score in first
            ]
        end = count - len(first)
        for at in range(0, end, BATCH):
            last = min(at + BATCH, end) - 1
            found = await client.zrange(k.requests, at, last, withscores=True)
            yield [
                _show(pending(member, score), frontier.seal) for member, score in found
            ]
            if len(found) < BATCH:
                return


class Matcher:
    """Tells which of the URLs that are looked for a stored request is of.

    *fingerprint* names a request as the workers do. *exact*: it is Scrapy's, which never
    gives two requests with different paths the same name; then most are told apart
    without decoding them.
    """

    def __init__(
        self,
        urls: Iterable[str],
        fingerprint: Callable[[Request], str],
        *,
        exact: bool,
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
        found = self._of_url.get(url)
        if found is not None:
            return found
        if self._paths is not None and _path(url) not in self._paths:
            return None
        try:
            return self._of_name.get(self._fingerprint(_request(fields)))
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


def _request(fields: dict[str, Any]) -> Request:
    fields = from_jsonable(fields)
    return Request(
        fields["url"],
        method=fields.get("method", "GET"),
        body=fields.get("body"),
        headers=fields.get("headers"),
        meta=fields.get("meta"),
    )


async def find(
    frontier: Frontier,
    matcher: Matcher,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AsyncIterator[Found]:
    """Where the requests of the URLs of *matcher* are; ends when it has found them all.

    Goes through all pending requests if need be: about a second for 80,000. *progress* is
    told how many it has looked at, and of how many. Pending come first, then suspects
    and leases, as a request moves; one that goes back meanwhile may be missed. Raises
    RedisUnavailable.
    """
    with asking():
        async for found in _find(frontier, matcher, progress):
            yield found


async def _find(
    frontier: Frontier, matcher: Matcher, progress: Callable[[int, int], None]
) -> AsyncIterator[Found]:
    client = frontier.client
    k = frontier.keys
    wanted = set(matcher.requests)
    total = sum([await client.zcard(key) for key in (k.requests, k.suspects, k.leases)])
    done = 0
    async for some in _all(frontier):
        done += len(some)
        for stored, member in some:
            url = matcher.match(frontier.seal.shown(stored.payload))
            if url not in wanted:
                continue
            rank = None
            if stored.kind == "pending":
                rank = await client.zrank(k.requests, member)
            wanted.discard(url)
            yield Found(url, _show(stored, frontier.seal), stored.id, rank)
            if not wanted:
                return
        progress(done, total)


async def _all(frontier: Frontier) -> AsyncIterator[list[tuple[Stored, bytes]]]:
    client = frontier.client
    k = frontier.keys
    for key, parse in ((k.requests, pending), (k.suspects, suspect)):
        cursor = 0
        while True:
            cursor, found = await client.zscan(key, cursor, count=BATCH)
            yield [(parse(member, score), member) for member, score in found]
            if not int(cursor):
                break
    async for values in scan_hash(client, k.leased):
        yield [(leased(id_, value), id_) for id_, value in values]


async def explain(
    frontier: Frontier,
    matcher: Matcher,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Explained]:
    """What the frontier knows of each URL of *matcher*. Raises RedisUnavailable."""
    with asking():
        found = {f.url: f async for f in find(frontier, matcher, progress)}
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
            )
            for url, name in matcher.names.items()
        ]


async def _letters(frontier: Frontier, matcher: Matcher) -> dict[str, list[DeadLetter]]:
    found: dict[str, list[DeadLetter]] = {}
    async for letter in list_failed(frontier):
        is_seed = letter.kind == "seed"
        payload = SEED + letter.payload if is_seed else letter.opened
        url = matcher.match(payload)
        if url is not None and len(found.setdefault(url, [])) < _LETTERS:
            found[url].append(letter)
    return found


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
