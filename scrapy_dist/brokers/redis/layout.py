"""How requests look in the structures of a frontier, for those who look from outside.

The layout is that of the scripts in ``lua/``; workers never read it in Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import pack, unpack
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from scrapy_dist.base.escaping import quote
from scrapy_dist.codec.envelope import OTHER, PICKLE, TASK
from scrapy_dist.codec.request import fields_of
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.exceptions import BadPayload

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.keys import Keys
    from scrapy_dist.redis_client.typed import Redis

T = TypeVar("T")
S = TypeVar("S", bound=Sequence[Any])

#: Places of a request, numbered as in KEYS of the scripts that take more than one.
REQUESTS, SUSPECTS, LEASES, LEASED = 1, 2, 3, 4
#: Their names, as fields of Keys.
PLACES = {
    REQUESTS: "requests",
    SUSPECTS: "suspects",
    LEASES: "leases",
    LEASED: "leased",
}
#: What people call a request that is there.
_KINDS = {REQUESTS: "pending", SUSPECTS: "suspect", LEASED: "leased"}

#: Ids from the last down to the middle one were given newest first (see commit.lua), the
#: others oldest first.
_MIDDLE_ID, _LAST_ID = 2**52, 2**53 - 1
#: Order ids in one page of the map of ids seen.
_PAGE = 512

#: Bytes of a rank: a score, then an order id.
RANK = 24
_ID = re.compile(rb"[0-9a-fA-F]{16}")
_RANK = re.compile(rb"(?s:.{8})[0-9a-fA-F]{16}")
_SLOT = rb"(?P<slot>[-+]?(?:inf|\d+(?:\.\d+)?(?:e[-+]?\d+)?)) "
_PAST = rb"(?P<deaths>\d{1,15}) (?P<claims>\S+) "
_SUSPECT = re.compile(_RANK.pattern + _PAST + _SLOT)
_LEASED = re.compile(_SLOT + _PAST)
_OLDER_MEMBER = re.compile(_ID.pattern)
_OLDER_SUSPECT = re.compile(_ID.pattern + _PAST)
_OLDER_LEASED = re.compile(rb" " + _SLOT + rb"\d{1,15} \S+ ")

_TASK = re.compile(TASK + rb"([0-9a-f]{16})")

_SIGN = 1 << 63
_ALL = (1 << 64) - 1


@lru_cache(1024)
def encode_score(score: float) -> bytes:
    """*score* as 8 bytes that sort as scores do.

    Of a double as IEEE 754 has it, the sign is inverted, and all of a negative one. What
    is no number comes last.
    """
    (bits,) = unpack(">Q", pack(">d", score + 0.0))
    return pack(">Q", bits ^ (_ALL if bits & _SIGN else _SIGN))


def decode_score(data: bytes) -> float:
    """The score that `encode_score` encoded."""
    (bits,) = unpack(">Q", data)
    (score,) = unpack(">d", pack(">Q", bits ^ (_SIGN if bits & _SIGN else _ALL)))
    return float(score)


def with_task(task: str, payload: bytes) -> bytes:
    """*payload* behind the head that names its *task*; '': it is of none."""
    return TASK + task.encode() + payload if task else payload


def split_task(stored: bytes, at: int = 0) -> tuple[str, int]:
    """The task that a payload stored at *at* names, and where the payload itself begins."""
    found = _TASK.match(stored, at)
    return (found[1].decode(), found.end()) if found else ("", at)


@dataclass(frozen=True)
class Entry:
    """A request in one of its places, taken apart; *flaw* is why it cannot be.

    *deaths* of workers that held it, *claims*: fingerprints of what they kept, '-' for
    none. See ``claim.lua``.
    """

    place: int
    #: What the place knows it by: the member, or in S:leased the order id.
    member: bytes
    #: All that is stored of it.
    whole: bytes
    #: Offset of the payload in *whole*.
    at: int = 0
    #: Where its rank begins in *whole*; -1: it has none.
    rank_at: int = -1
    #: The number of its slot; of what is none of ours, whatever its score is.
    slot: float = 0
    deaths: int = 0
    claims: str = "-"
    flaw: str = ""
    #: A suspect that has failed and waits for room among the dead letters.
    waits: bool = False
    #: The token of its task, which the head in front of the payload names.
    task: str = ""

    @property
    def kind(self) -> str:
        return _KINDS[self.place]

    @property
    def deliveries(self) -> int:
        """How often it has been handed out."""
        return self.deaths + (self.place == LEASED and not self.flaw)

    @property
    def rank(self) -> bytes:
        """Its rank; b"" of what is none of ours."""
        return b"" if self.rank_at < 0 else self.whole[self.rank_at :][:RANK]

    @property
    def score(self) -> float:
        """What its discipline gave it, see ``NewRequest``; inf if it waits."""
        if self.waits:
            return math.inf
        return 0.0 if self.rank_at < 0 else decode_score(self.rank[:8])

    @property
    def id(self) -> bytes:
        """Its order id, or what stands in its place."""
        return self.member[:16] if self.place == LEASED else self.member[8:RANK]

    @property
    def stored_at(self) -> int:
        """Where in *whole* the payload begins with its head."""
        return self.at - len(with_task(self.task, b""))

    @property
    def payload(self) -> bytes:
        return self.whole[self.at :]

    def __str__(self) -> str:
        name = quote(self.member[:40]) if self.flaw else self.id.decode()
        return f"{name} in {PLACES[self.place]}"


def parse(place: int, member: bytes, value: bytes = b"", score: float = 0.0) -> Entry:
    """The entry *member* of *place*, where it has *score*.

    *value* is what S:leased holds under it.
    """
    if place == REQUESTS:
        if _RANK.match(member):
            task, at = split_task(member, RANK)
            return Entry(place, member, member, at, 0, score, task=task)
        return Entry(place, member, member, slot=score, flaw="no rank in front")
    if place == SUSPECTS:
        waits = score == math.inf
        if found := _SUSPECT.match(member):
            head = _head(found)
            task, at = split_task(member, found.end())
            return Entry(place, member, member, at, 0, *head, waits=waits, task=task)
        flaw = "not of the form rank, deaths, claims, slot, payload"
        at = RANK if _RANK.match(member) else 0
        return Entry(place, member, member, at, flaw=flaw, waits=waits)
    found = _LEASED.match(value)
    at = found.end() if found else 0
    if found and is_id(member) and value[at + 8 : at + RANK] == member:
        head = _head(found)
        task, begin = split_task(value, at + RANK)
        return Entry(place, member, value, begin, at, *head, task=task)
    flaw = "not of the form slot, deaths, claims, rank, payload"
    return Entry(place, member, value, flaw=flaw)


def _head(found: re.Match[bytes]) -> tuple[float, int, str]:
    """Slot, deaths and claims."""
    claims = found["claims"].decode("latin-1")
    return float(found["slot"]), int(found["deaths"]), claims


class Older(NamedTuple):
    """A request of the formats 1 to 3: what its place knows it by, its score, its payload.

    See ``lua/lib/older.lua``.
    """

    member: bytes
    score: float
    payload: bytes


def is_older_member(member: bytes) -> bool:
    """Whether *member* of S:requests or S:suspects is of an older format."""
    return not _RANK.match(member) and _OLDER_MEMBER.match(member) is not None


def parse_older(
    place: int, member: bytes, value: bytes = b"", score: float = 0.0
) -> Older | None:
    """What `parse` would be given, if it is of an older format; else None."""
    if place != LEASED:
        if not is_older_member(member):
            return None
        form = _OLDER_MEMBER if place == REQUESTS else _OLDER_SUSPECT
        found = form.match(member)
        return Older(member, score, member[found.end() :]) if found else None
    found = _OLDER_LEASED.match(value)
    at = found.end() if found else 0
    if not is_id(member) or not value.startswith(member, at):
        return None
    return Older(member, float(found["slot"]) if found else 0.0, value[at + 16 :])


def is_id(text: bytes) -> bool:
    """Whether *text* has the form of an order id."""
    return _ID.fullmatch(text) is not None


def whole(value: bytes | None) -> int:
    """The number in *value*, which may be anything; 0 if it is none."""
    return int(value) if value and value.isdigit() and len(value) < 20 else 0


def order_of(id_: bytes) -> int:
    """What the order counter was when *id_* was given; 0 for no id of ours."""
    if not is_id(id_):
        return 0
    number = int(id_, 16)
    if number < _MIDDLE_ID:
        return number
    return _LAST_ID - number if number <= _LAST_ID else 0


class IdsSeen:
    """Which order ids were seen; ids of one commit share an entry of about 100 bytes."""

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}

    def add(self, id_: bytes) -> bool:
        """Whether *id_* is new."""
        page, bit = divmod(int(id_, 16), _PAGE)
        bits = self._pages.get(page, 0)
        self._pages[page] = bits | 1 << bit
        return not bits >> bit & 1


def check_form(payload: bytes) -> None:
    """Raise BadPayload unless *payload* may be a request of some spider.

    What can be told without the spider; loads no pickle.
    """
    if payload[:1] in (PICKLE, OTHER):
        return  # only SCHEDULER_SERIALIZER knows
    if type(fields_of(payload).get("url")) is not str:
        raise BadPayload("it holds no request")


async def scan(client: Redis, keys: Keys, place: int) -> AsyncIterator[list[Entry]]:
    """All requests of one place, at most BATCH at a time.

    What is there all the time comes at least once, the rest perhaps.
    """
    key = getattr(keys, PLACES[place])
    if place == LEASED:
        async for values in scan_hash(client, key):
            yield [parse(place, name, value) for name, value in values]
    else:
        async for found in pages(client.zscan, key):
            for some in batches(found):
                yield [parse(place, member, score=score) for member, score in some]


async def pages(
    command: Callable[..., Awaitable[tuple[int, T]]], key: str
) -> AsyncIterator[T]:
    """All of *key* by *command*, ``zscan``, ``hscan`` or ``sscan``, page by page."""
    cursor = 0
    while True:
        cursor, found = await command(key, cursor, count=BATCH)
        yield found
        if not int(cursor):
            return


async def scan_zset(client: Redis, key: str) -> AsyncIterator[list[bytes]]:
    async for found in pages(client.zscan, key):
        for members in batches([member for member, _ in found]):
            yield members


async def scan_hash(
    client: Redis, key: str
) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    async for found in pages(client.hscan, key):
        for values in batches(list(found.items())):
            yield values


def batches(found: S, size: int = BATCH) -> Iterator[S]:
    """*found* in parts of at most *size*."""
    return (cast("S", found[i : i + size]) for i in range(0, len(found), size))
