"""A worker's link to its frontier: calls of scripts by their names, sent together."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import NoScriptError, RedisError, ResponseError

from scrapy_dist import defaults
from scrapy_dist.brokers.redis import scripts
from scrapy_dist.brokers.redis.buckets import Shape
from scrapy_dist.brokers.redis.errors import is_elsewhere, is_temporary
from scrapy_dist.brokers.redis.version import FORMAT
from scrapy_dist.codec.seal import NO_SEAL, Seal
from scrapy_dist.core.politeness import Rules
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.redis_client.client import drop_connections
from scrapy_dist.redis_client.waits import within

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.keys import Keys
    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.redis_client.typed import Redis

T = TypeVar("T")

#: Bytes of requests or seeds in one reply, after which no more are handed out.
REPLY_BYTES = 4 << 20
#: Bytes that are around a payload of the largest size: the mark of a seed, a signature.
_ENVELOPE = 64
#: Of a frontier whose fingerprints are in one set.
_NO_BUCKETS = Shape("", "", 0)


@dataclass(eq=False, repr=False)
class Link:
    """The frontier of one spider as one worker reaches it; *ttl* is in seconds."""

    client: Redis
    keys: Keys
    _: KW_ONLY
    ttl: InitVar[float]
    max_deliveries: int
    failed_limit: int
    newest_first: bool = False
    seed_keys: Sequence[str] = ()
    #: Whether fingerprints are in buckets.
    compact: InitVar[bool] = False
    #: What payloads are signed with.
    seal: Seal = NO_SEAL
    #: Bytes of the largest request, without what may be around it.
    max_payload: int = defaults.FRONTIER_MAX_PAYLOAD
    #: Bytes of the largest seed that is taken out of Redis.
    max_seed: int = defaults.FRONTIER_SEED_MAX_SIZE
    #: Seconds for which the items of tasks are kept as their results; 0: they are not.
    result_ttl: float = defaults.FRONTIER_RESULT_TTL

    def __post_init__(self, ttl: float, compact: bool) -> None:
        #: Seconds that an exchange may take; None: as many as the client allows.
        self.limit: float | None = None
        #: A random number of 52 bits, so that a double (a sorted set's score) holds it.
        self.worker = str(1 + secrets.randbits(52) % (2**52 - 1))
        #: Milliseconds of silence after which a worker is dead.
        self.ttl_ms = int(ttl * 1000)
        #: The buckets of fingerprints; None: they are in one set.
        self.shape = Shape(self.keys.dupefilter) if compact else None
        #: The older format that is to be converted before it is joined (see upgrade.py).
        self.older = 0
        #: The crawl that this worker belongs to, and its own name, when it has joined one.
        self.crawl = self.name = ""
        #: In a polite crawl its `ttl_ms`: who counts as dead loses its slots, so that must
        #: be the same for all; else ''.
        self.polite = ""
        #: The rules of slots that have none of their own, in a polite crawl.
        self.rules = Rules()
        # A script reads each byte of each argument, and of what it cuts out of one. So
        # payloads are arguments of their own while most are stored, and one together
        # while most are duplicates.
        self._mostly_new = True
        self._round = 0  # see lib/rounds.lua

    def call(self, script: str, parse: Callable[[Any], T], /, **values: Any) -> Call[T]:
        """The call of ``lua/<script>.lua``, its keys and arguments by their names.

        What *values* leaves out is this frontier's. Raises TypeError for a name that the
        script has not, and for one without a value.
        """
        shape = self.shape or _NO_BUCKETS
        own = {
            **vars(self.keys),
            "seed_keys": self.seed_keys,
            "worker": self.worker,
            "worker_name": self.name,
            "ttl_ms": self.ttl_ms,
            "polite": self.polite,
            # Somebody who beats four times per TTL and missed two beats is not here.
            "present_ms": self.ttl_ms // 2,
            "max_deliveries": self.max_deliveries,
            "failed_limit": self.failed_limit,
            "newest_first": int(self.newest_first),
            "round": self._round,
            "epoch": shape.epoch,
            "known": shape.buckets,
            "format": FORMAT,
            "delay_ms": ceil(self.rules.delay * 1000),
            "places": self.rules.places,
            "max_payload": max(self.max_payload, self.max_seed) + _ENVELOPE,
            "max_seed": self.max_seed,
            "reply_bytes": REPLY_BYTES,
            "keep_ms": int((self.result_ttl or defaults.FRONTIER_RESULT_TTL) * 1000),
        }
        return scripts.call(script, parse, own, values)

    async def run(self, script: str, /, **values: Any) -> Any:
        """The reply to *script*, sent alone, as Redis gives it; *values* as in `call`.

        Raises RedisUnavailable, and ResponseError if Redis refused.
        """
        call = self.call(script, lambda raw: raw, **values)
        await self.exchange([call])
        return call.reply()

    async def exchange(self, calls: Sequence[Call[Any]]) -> None:
        """Send *calls* in one round trip; each then holds its reply or its error.

        Raises RedisUnavailable if there is no reply: then nobody knows which of the
        calls were carried out.
        """
        try:
            await within(self.limit, self._exchange(calls))
        except (RedisError, OSError) as e:
            if is_elsewhere(e):
                await drop_connections(self.client)
            raise RedisUnavailable(f"{type(e).__name__}: {e}") from e

    async def _exchange(self, calls: Sequence[Call[Any]]) -> None:
        await self._send(calls)
        unknown = sum(isinstance(call.raw, NoScriptError) for call in calls)
        if not unknown:
            return
        # Redis has lost its scripts: a restart or a failover.
        await self._load()
        if unknown < len(calls):
            # Some calls were carried out already; the order counts.
            raise RedisUnavailable("Redis had lost its scripts")
        await self._send(calls)
        if any(isinstance(call.raw, NoScriptError) for call in calls):
            raise RedisUnavailable("Redis lost its scripts again")

    async def _send(self, calls: Sequence[Call[Any]]) -> None:
        async with self.client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.evalsha(
                    call.script.sha, len(call.keys), *call.keys, *call.args
                )
            replies = await pipeline.execute(raise_on_error=False)
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, Exception) and (
                not isinstance(reply, ResponseError) or is_temporary(reply)
            ):
                raise reply
            call.raw = reply

    async def _load(self) -> None:
        async with self.client.pipeline(transaction=False) as pipeline:
            for name in scripts.names():
                pipeline.script_load(scripts.load(name).source)
            await pipeline.execute()
