"""The frontier's asynchronous client, each command of which ends in time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio
import redis.asyncio.client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from scrapy.settings import BaseSettings

from scrapy_dist.base.waits import in_thread
from scrapy_dist.redis_client.arguments import LONGEST_WAIT
from scrapy_dist.redis_client.connections import EmbeddedConnection, Prompt, mixed
from scrapy_dist.redis_client.embedded.settings import (
    directory_from_settings,
    ensure_server_for,
    linger_from_settings,
)
from scrapy_dist.redis_client.fitness import verify
from scrapy_dist.redis_client.masking import mask_at
from scrapy_dist.redis_client.parameters import (
    Parameters,
    parameters_of,
    read_parameters,
)
from scrapy_dist.redis_client.topology import Resolving
from scrapy_dist.redis_client.waits import close, within

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from scrapy_dist.redis_client.typed import Redis

#: Name of the frontier's connections in ``CLIENT LIST``.
CLIENT_NAME = "scrapy-dist"
#: Seconds that a try to connect takes where ``socket_connect_timeout`` is not set. A
#: packet that was lost is sent again after 1 and 3 s, and the next time after 7: a new
#: try finds a network that is back sooner than an old one.
CONNECT_WAIT = 5.0
#: Seconds that the closing of connections takes at the most.
_CLOSE_WAIT = 2.0


class FrontierClient(redis.asyncio.Redis):
    """A client of which each command and each pipeline ends after *limit* seconds.

    Redis-py's own limits are for single reads and writes, and do not count everywhere. A
    connection that did not answer in time is closed, and with it those that are idle:
    what took it took them, too.
    """

    limit: float = LONGEST_WAIT

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        work = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        return await _in_time(self.limit, work, self.connection_pool)

    def pipeline(
        self, transaction: bool = True, shard_hint: str | None = None
    ) -> redis.asyncio.client.Pipeline:
        pipeline = _FrontierPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipeline.limit = self.limit
        return pipeline


class _FrontierPipeline(redis.asyncio.client.Pipeline):
    limit: float = LONGEST_WAIT

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        work = super().execute(raise_on_error)
        found: list[Any] = await _in_time(self.limit, work, self.connection_pool)
        return found


async def _in_time(limit: float, work: Awaitable[Any], pool: Any) -> Any:
    """As `within`; closes idle connections after an error that Redis has not sent."""
    try:
        return await within(limit, work)
    except ResponseError:
        raise
    except (asyncio.CancelledError, RedisError, OSError):
        with suppress(RedisError, OSError):
            await pool.disconnect(inuse_connections=False)
        raise


async def drop_connections(client: Redis) -> None:
    """Close all connections of *client*; the next command makes a new one.

    What waits for an answer on one of them fails.
    """
    with suppress(RedisError, OSError):
        await within(_CLOSE_WAIT, client.connection_pool.disconnect())


async def open_client(settings: BaseSettings, key: str = "") -> Redis:
    """The frontier's client, connected to a Redis that was found fit.

    *key* is any key of the frontier: with Redis Cluster it tells whose server to use.

    It speaks RESP2, returns bytes, and never repeats a command: a lease whose reply got
    lost must not be asked for again. Each command ends after the seconds that a new
    connection and one answer may take, by our own clock. Close it with `close_client`.
    Raises ConfigurationError, EmbeddedRedisError and RedisUnavailable.
    """
    config = read_parameters(settings)
    if config.embedded:
        # Starting a process and waiting for it would stop the event loop.
        path = await asyncio.wrap_future(
            in_thread(partial(ensure_server_for, settings))
        )
        client = _build_local(config, settings, path)
    else:
        client = _build(config, key)
    try:
        await verify(client, config, settings)
    except BaseException:
        await close_client(client)
        raise
    return cast("Redis", client)


async def close_client(
    client: Redis | redis.asyncio.Redis | redis.asyncio.client.PubSub,
) -> None:
    """Close *client* and its pool, within seconds whatever its connections do."""
    with suppress(RedisError, OSError):
        await within(_CLOSE_WAIT, close(client))


def describe(
    settings_or_client: BaseSettings | redis.Redis | redis.asyncio.Redis | Redis,
) -> str:
    """Where Redis is, for log lines, without user name and password. No connection."""
    client = settings_or_client
    if isinstance(client, BaseSettings):
        config = read_parameters(client)
        if config.embedded:
            return f"embedded Redis in {directory_from_settings(client)}"
        client = _build(config)
    pool = client.connection_pool
    kwargs = pool.connection_kwargs
    db = kwargs.get("db") or 0
    if topology := kwargs.get("topology"):
        return f"{topology}/{db}" if topology.master else str(topology)
    if path := kwargs.get("path"):
        return f"unix://{path}?db={db}"
    scheme = "rediss" if "SSL" in pool.connection_class.__name__ else "redis"
    host, port = mask_at(str(kwargs.get("host", "localhost"))), kwargs.get("port", 6379)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/{db}"


_ASYNC = parameters_of(redis.asyncio.Redis.__init__)
#: Not the ssl_ ones: what was meant to protect must not be dropped without a word.
_SYNC_ONLY = {
    name
    for name in parameters_of(redis.Redis.__init__) - _ASYNC
    if not name.startswith("ssl")
}
#: What the frontier's client is whatever the settings say.
_FIXED: dict[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    # Names and reasons may have any character; REDIS_ENCODING is that of seeds.
    "encoding": "utf-8",
    "encoding_errors": "strict",
    "retry": Retry(NoBackoff(), 0),
    "client_name": CLIENT_NAME,
    # Redis before 7.2 and some proxies refuse CLIENT SETINFO.
    **(
        {"driver_info": None}
        if "driver_info" in _ASYNC
        else {"lib_name": None, "lib_version": None}
    ),
}
#: What REDIS_PARAMS and REDIS_URL may say to user code, but not to the frontier:
#: retries, the shape of replies, and extra commands on connect, which need RESP3.
_IGNORED = {
    *_FIXED,
    *_SYNC_ONLY,
    "redis_cls",
    "retry_on_timeout",
    "retry_on_error",
    "lib_name",
    "lib_version",
    "legacy_responses",
    "maint_notifications_config",
    "single_connection_client",
    "auto_close_connection_pool",
}


def _build(config: Parameters, key: str = "") -> redis.asyncio.Redis:
    client = _make(config, config.arguments())
    pool = client.connection_pool
    if config.topology is not None:
        pool.connection_class = mixed(Resolving, cast("Any", pool.connection_class))
        pool.connection_kwargs["topology"] = replace(config.topology, key=key)
    pool.connection_class = mixed(Prompt, cast("Any", pool.connection_class))
    config.check_connection(pool)
    return client


def _build_local(
    config: Parameters, settings: BaseSettings, path: Path
) -> redis.asyncio.Redis:
    client = _make(config, config.local_arguments(path))
    pool = client.connection_pool
    pool.connection_class = EmbeddedConnection
    pool.connection_kwargs.update(
        directory=directory_from_settings(settings),
        linger=linger_from_settings(settings),
    )
    config.check_connection(pool)
    return client


def _make(config: Parameters, arguments: dict[str, Any]) -> FrontierClient:
    """A client each wait of which has an end, also where the settings name none."""
    own = _without_ignored(arguments)
    make: Any = FrontierClient.from_url if "url" in own else FrontierClient
    client: FrontierClient = config.build(lambda: make(**own))
    kwargs = client.connection_pool.connection_kwargs
    if not config.limits_connect:
        kwargs["socket_connect_timeout"] = CONNECT_WAIT
    connect = kwargs.get("socket_connect_timeout") or CONNECT_WAIT
    client.limit = connect + (kwargs.get("socket_timeout") or LONGEST_WAIT)
    return client


def _without_ignored(arguments: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in arguments.items() if name not in _IGNORED}
    if "url" in own:
        # In a URL's query they would win over arguments.
        parts = urlsplit(own["url"])
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        query = urlencode([pair for pair in pairs if pair[0] not in _IGNORED])
        own["url"] = urlunsplit(parts._replace(query=query))
    return {**own, **_FIXED}
