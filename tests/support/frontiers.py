"""Workers of the frontier without Scrapy, for tests of the protocol itself."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from scrapy.settings import Settings

from scrapy_dist.brokers.memory.crawl import MemoryCrawl
from scrapy_dist.brokers.memory.frontier import MemoryFrontier
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.layout import RANK, encode_score
from scrapy_dist.brokers.redis.session import RedisFrontier
from scrapy_dist.core.frontier import (
    SUSPECTS,
    Commit,
    LeaveOutcome,
    NewRequest,
    Settlement,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis
    from typing_extensions import Self

    from scrapy_dist.brokers.memory.state import State
    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.core.frontier import CommitReply, Joined, Lease

T = TypeVar("T")

#: For a test of what fakeredis has not: `redis.sha1hex`.
ON_REDIS_ONLY = pytest.mark.parametrize("backend", ["redis"], indirect=True)

KEYS = Keys.from_settings(Settings(), "s")
SEED_KEYS = ("s:start_urls", "s:more_urls")
#: Seconds of silence after which a worker is dead.
TTL = 60.0
#: What everything that one crawl leaves behind is deleted with.
CLEARED = (
    KEYS.workers,
    KEYS.state,
    KEYS.requests,
    KEYS.suspects,
    KEYS.leases,
    KEYS.leased,
    KEYS.dupefilter,
    KEYS.stats,
    KEYS.started,
    KEYS.control,
    KEYS.slots,
)


def session(
    client: Redis,
    keys: Keys = KEYS,
    *,
    worker: str = "",
    process: tuple[str, str] | None = None,
    **options: Any,
) -> RedisFrontier:
    """A session of the port; *options* are those of `Frontier`.

    *worker*: its number, if that is not to be random.
    """
    limits = {"ttl": TTL, "max_deliveries": 3, "failed_limit": 100} | options
    frontier = Frontier(client, keys, **limits)
    frontier.worker = worker or frontier.worker
    return RedisFrontier(frontier, None, process=process)


def in_memory(state: State, **options: Any) -> MemoryFrontier:
    """A worker's session with a crawl in memory, of the keys KEYS."""
    limits = {"ttl": TTL, "max_deliveries": 3, "failed_limit": 100}
    limits |= {"max_payload": 1 << 20, "max_seed": 1 << 20}
    settings = Settings({"REDIS_URL": "memory://"})
    seed_keys = tuple(options.get("seed_keys", ()))
    crawl = MemoryCrawl(state, settings, "s", items=KEYS.items, seed_keys=seed_keys)
    return MemoryFrontier(state, crawl, KEYS, **{**limits, **options})


class Worker:
    """One worker at the calls of scripts, for tests of what one script does and replies.

    Each method is one exchange of one call. Not for what a worker does by itself: that
    is `tests.support.worker`, or a `session`.
    """

    def __init__(self, client: Redis, **options: Any) -> None:
        options = {"ttl": TTL, "max_deliveries": 3, "failed_limit": 100} | options
        self.frontier = Frontier(client, KEYS, seed_keys=SEED_KEYS, **options)
        self.number = self.frontier.worker
        self.commits = 0

    async def call(self, call: Call[T]) -> T:
        await self.frontier.exchange([call])
        return call.reply()

    async def register(self, info: str = "host:1", **options: Any) -> Joined:
        return await self.call(
            self.frontier.register(info, commit=self.commits, **options)
        )

    async def join(self, info: str = "host:1") -> Self:
        await self.register(info)
        return self

    async def commit(
        self,
        requests: Sequence[NewRequest] = (),
        pages: Sequence[Settlement] = (),
        items: Sequence[tuple[str, bytes]] = (),
        number: int | None = None,
    ) -> CommitReply:
        """Commit under *number*, or under the next one."""
        if number is None:
            self.commits += 1
            number = self.commits
        commit = Commit(number, requests, items, pages)
        return await self.call(self.frontier.commit(commit))

    async def push(self, *names: str | bytes, score: float = 0.0) -> None:
        """Unfiltered requests."""
        payloads = [n.encode() if isinstance(n, str) else n for n in names]
        await self.commit([NewRequest(payload, score) for payload in payloads])

    async def lease(self, want: int = 100, *, suspect: bool = True) -> Sequence[Lease]:
        suspects = SUSPECTS if suspect else 0
        return (await self.call(self.frontier.lease(want, suspects=suspects))).leases

    async def lease_one(self, *, suspect: bool = True) -> Lease:
        [lease] = await self.lease(1, suspect=suspect)
        return lease

    async def seeds(self, want: int = 100) -> Sequence[Lease]:
        return (await self.call(self.frontier.take_seeds(want))).leases

    async def ack(self, *leases: Lease) -> CommitReply:
        pages = [Settlement(lease.id, task=lease.task) for lease in leases]
        return await self.commit(pages=pages)

    async def release(self, *leases: Lease) -> int:
        return await self.call(self.frontier.release([lease.id for lease in leases]))

    async def heartbeat(self) -> Any:
        return await self.call(self.frontier.heartbeat())

    async def reap(self) -> list[int]:
        return [*astuple(await self.call(self.frontier.reap()))]

    async def leave(self, *, finished: bool = False, persist: bool = False) -> bool:
        call = self.frontier.leave(finished=finished, persist=persist)
        return (await self.call(call))[0] == LeaveOutcome.DELETED

    async def dies(self, reaper: Worker) -> list[int]:
        """Its beat is long ago and *reaper* notices; the reply of one reap."""
        await self.frontier.client.zadd(KEYS.workers, {self.number: 1})
        await reaper.heartbeat()
        return await reaper.reap()


def names(leases: Iterable[Lease]) -> list[str]:
    """The payloads of *leases* as text."""
    return [lease.payload.decode() for lease in leases]


async def contents(client: Redis) -> dict[str, Any]:
    """Every key and its value, to be compared."""
    found: dict[str, Any] = {}
    for key in sorted(await client.keys("*")):
        kind = (await client.type(key)).decode()
        if kind == "zset":
            value: Any = await client.zrange(key, 0, -1, withscores=True)
        elif kind == "hash":
            value = await client.hgetall(key)
        elif kind == "set":
            value = await client.smembers(key)
        elif kind == "list":
            value = await client.lrange(key, 0, -1)
        elif kind == "stream":
            value = await client.xrange(key)
        else:
            value = await client.get(key)
        found[key.decode()] = value
    return found


def member(payload: bytes, order: int, score: float = 0.0) -> bytes:
    """A pending request as S:requests has it, beside the number of its slot."""
    return encode_score(score) + b"%016x" % order + payload


def suspect(
    payload: bytes,
    order: int,
    deaths: int = 0,
    claims: str = "-",
    *,
    score: float = 0.0,
    slot: int = 0,
) -> bytes:
    """A suspect as S:suspects has it."""
    head = f"{deaths} {claims} {slot} ".encode()
    return member(head + payload, order, score)


def leased_as(entry: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """An entry of S:leased: slot, deaths, claims, member."""
    slot, deaths, claims, ranked = entry.split(b" ", 3)
    return slot, deaths, claims, ranked


async def places(client: Redis) -> dict[str, list[str]]:
    """The requests in the frontier, by place, each in its order; payloads are text."""
    pending = await client.zrange(KEYS.requests, 0, -1)
    suspects = await client.zrange(KEYS.suspects, 0, -1)
    leased = await client.hgetall(KEYS.leased)
    assert set(await client.zrange(KEYS.leases, 0, -1)) == set(leased)
    members = {id_: leased_as(entry)[3] for id_, entry in leased.items()}
    assert all(ranked[8:RANK] == id_ for id_, ranked in members.items())
    return {
        "pending": [ranked[RANK:].decode() for ranked in pending],
        "suspects": [m[RANK:].split(b" ", 3)[3].decode() for m in suspects],
        "leased": [members[id_][RANK:].decode() for id_ in sorted(members)],
    }


async def dead_letters(client: Redis) -> list[dict[str, bytes]]:
    """The oldest first."""
    return [
        {name.decode(): value for name, value in fields.items()}
        for _, fields in await client.xrange(KEYS.failed)
    ]


async def dump(client: Redis) -> dict[bytes, bytes]:
    """All data, for `restore`."""
    return {key: await client.dump(key) for key in await client.keys("*")}


async def restore(client: Redis, data: dict[bytes, bytes]) -> None:
    """Bring Redis back to the state that `dump` saw."""
    await client.flushdb()
    for key, value in data.items():
        await client.restore(key, 0, value)


async def pass_time(client: Redis, seconds: float) -> None:
    """Let Redis' clock go on by *seconds*, or back if they are negative.

    Its clock cannot be set, so all times that the frontier keeps are shifted.
    """
    ms = int(seconds * 1000)
    for worker in await client.zrange(KEYS.workers, 0, -1):
        await client.zincrby(KEYS.workers, -ms, worker)
    for field in ("active", "grace", "finished", "recorded"):
        value = await client.hget(KEYS.state, field)
        if value is not None:
            await client.hset(KEYS.state, field, int(value) - ms)
