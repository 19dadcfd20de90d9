"""Settings -> clients of Redis.

Two clients for two uses. User code and scripts get scrapy-redis' synchronous one
(``get_redis_from_settings``); the frontier gets an asynchronous one (``open_client``),
because Scrapy's event loop never waits for Redis.
"""

from __future__ import annotations

import asyncio
import codecs
import inspect
import re
import ssl
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
import redis.asyncio.client
from redis.asyncio.connection import UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from scrapy.settings import BaseSettings
from scrapy.utils.misc import load_object

from scrapy_dist import defaults
from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.waits import in_thread, within
from scrapy_dist.exceptions import (
    ConfigurationError,
    FrontierError,
    RedisUnavailable,
)
from scrapy_dist.redis_client import embedded
from scrapy_dist.redis_client.masking import (
    hide,
    hide_in_error,
    mask_at,
    mask_url,
    secrets_in,
    shown_value,
)
from scrapy_dist.redis_client.tls import CERT_REQS, checked_names
from scrapy_dist.redis_client.topology import (
    Topology,
    connection_class,
    require_arguments,
    split_url,
    topology_from_settings,
)

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = [
    "SETTINGS_PARAMS_MAP",
    "FrontierClient",
    "close_client",
    "defaults",
    "describe",
    "drop_connections",
    "from_settings",
    "get_redis",
    "get_redis_from_settings",
    "is_embedded",
    "is_from_settings",
    "load_object",
    "mask_url",
    "open_client",
]

logger = get_logger(__name__)

#: Name of the frontier's connections in ``CLIENT LIST``.
CLIENT_NAME = "scrapy-dist"
#: Oldest Redis that works.
MIN_VERSION = (6, 2)
#: Seconds to wait for a Redis that is loading its data.
LOADING_TIMEOUT = 10.0
#: Seconds between two questions to a Redis that is loading its data.
LOADING_INTERVAL = 0.25
#: Seconds that the frontier waits for an answer where ``socket_timeout`` is None.
LONGEST_WAIT = 30.0
#: Seconds that a try to connect takes where ``socket_connect_timeout`` is not set. A
#: packet that was lost is sent again after 1 and 3 s, and the next time after 7: a new
#: try finds a network that is back sooner than an old one.
CONNECT_WAIT = 5.0
#: Seconds that the closing of connections takes at the most.
_CLOSE_WAIT = 2.0

#: Settings and the redis-py arguments that they stand for, as in scrapy-redis; a project
#: may add its own.
SETTINGS_PARAMS_MAP = {
    "REDIS_URL": "url",
    "REDIS_HOST": "host",
    "REDIS_PORT": "port",
    "REDIS_DB": "db",
    "REDIS_ENCODING": "encoding",
    "REDIS_DECODE_RESPONSES": "decode_responses",
}
#: Any of these says where Redis is; none of them means the embedded one.
_ADDRESS = ("url", "host", "port", "unix_socket_path", "connection_pool")
#: Arguments that a connection to a unix socket does not take.
_TCP_ONLY = {"host", "port", "socket_keepalive", "socket_keepalive_options"}

_T = TypeVar("_T")
_E = TypeVar("_E", bound=BaseException)


# Synchronous clients


def get_redis(**kwargs: Any) -> redis.Redis:
    """A synchronous client: *redis_cls*, from *url* if given, with the other arguments.

    *redis_cls* is a class or its dotted path; default ``redis.Redis``. TLS checks the
    name in the certificate unless an argument says otherwise.
    """
    redis_cls = kwargs.pop("redis_cls", None) or redis.Redis
    if isinstance(redis_cls, str):
        redis_cls = load_object(redis_cls)
    _check_names(kwargs)
    url = kwargs.pop("url", None)
    client = redis_cls.from_url(url, **kwargs) if url else redis_cls(**kwargs)
    pool = getattr(client, "connection_pool", None)
    if type(pool) is redis.ConnectionPool:
        pool.connection_class = _discreet(cast("Any", pool.connection_class))
    return cast("redis.Redis", client)


def get_redis_from_settings(settings: BaseSettings) -> redis.Redis:
    """A synchronous client for user code, e.g. ``spider.server``.

    Precedence as in scrapy-redis: our defaults, REDIS_PARAMS, REDIS_URL and the other
    REDIS_ settings. Connects at its first command; but with nothing configured it
    starts or joins the embedded Redis, which may take a moment.
    """
    config = _read(settings)
    client = _make_blocking(config, settings)
    with suppress(TypeError):  # a redis_cls that takes no weak reference
        _made[client] = _address(config, settings)
    return client


def unconnected(reason: str) -> redis.Redis:
    """A client for who wants one and is not to use it; its errors name *reason*."""
    return redis.Redis(unix_socket_path=f"/dev/null/{reason}")


def is_from_settings(client: Any, settings: BaseSettings) -> bool:
    """Whether the synchronous *client* talks to the Redis of *settings*, as far as seen."""
    config = _read(settings)
    with suppress(TypeError):
        if client in _made:
            return _made[client] == _address(config, settings)
    try:
        return describe(client) == describe(settings)
    except AttributeError:
        return False  # no client of redis-py for one server


def is_embedded(settings: BaseSettings) -> bool:
    """Whether *settings* name no Redis, so that the embedded one is used."""
    return _read(settings).embedded


def _address(config: _Config, settings: BaseSettings) -> str:
    if config.embedded:
        return str(embedded.directory_from_settings(settings))
    return config.shown if config.topology is not None else describe(settings)


#: What synchronous clients were made for.
_made: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def _make_blocking(config: _Config, settings: BaseSettings) -> redis.Redis:
    if config.embedded:
        path = embedded.ensure_server_for(settings)
        client = config.build(lambda: get_redis(**config.local_arguments(path)))
        # A connected client keeps the embedded server from ending.
        client.ping()
        return client
    if config.topology is not None:
        return config.build(lambda: _build_blocking(config))
    client = config.build(lambda: get_redis(**config.arguments()))
    if isinstance(client, redis.Redis):
        config.check_connection(client.connection_pool)
    return client


def _build_blocking(config: _Config) -> redis.Redis:
    assert config.topology is not None
    arguments = config.arguments()
    url = arguments.pop("url", None)
    if url:
        parsed: dict[str, Any] = dict(parse_url(url))
        if parsed.pop("connection_class", None) is not None:
            parsed["ssl"] = True
        arguments.update(parsed)
    cls = arguments.pop("redis_cls", None) or redis.Redis
    return cast("redis.Redis", config.topology.make_client(cls, arguments))


#: scrapy-redis' other name.
from_settings = get_redis_from_settings


# The asynchronous client


class FrontierClient(redis.asyncio.Redis):
    """A client of which each command and each pipeline ends after *limit* seconds.

    Redis-py's own limits are for single reads and writes, and do not count everywhere. A
    connection that did not answer in time is closed, and with it those that are idle:
    what took it took them, too.
    """

    limit: float = LONGEST_WAIT

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        work = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        try:
            return await within(self.limit, work)
        except BaseException as e:
            await _drop_dead(self.connection_pool, e)
            raise

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
        pool = self.connection_pool
        try:
            return await within(self.limit, super().execute(raise_on_error))
        except BaseException as e:
            await _drop_dead(pool, e)
            raise


async def _drop_dead(pool: Any, error: BaseException) -> None:
    """Close the idle connections of *pool* if *error* is none that Redis has sent."""
    if isinstance(error, asyncio.CancelledError) or (
        isinstance(error, (RedisError, OSError))
        and not isinstance(error, ResponseError)
    ):
        with suppress(RedisError, OSError):
            await pool.disconnect(inuse_connections=False)


async def drop_connections(client: redis.asyncio.Redis) -> None:
    """Close all connections of *client*; the next command makes a new one.

    What waits for an answer on one of them fails.
    """
    with suppress(RedisError, OSError):
        await within(_CLOSE_WAIT, client.connection_pool.disconnect())


async def open_client(settings: BaseSettings, key: str = "") -> redis.asyncio.Redis:
    """The frontier's client, connected to a Redis that was found fit.

    *key* is any key of the frontier: with Redis Cluster it tells whose server to use.

    It speaks RESP2, returns bytes, and never repeats a command: a lease whose reply got
    lost must not be asked for again. Each command ends after the seconds that a new
    connection and one answer may take, by our own clock. Its pool is
    ``client.connection_pool``; close it
    with `close_client`. Raises ConfigurationError,
    EmbeddedRedisError and RedisUnavailable.
    """
    config = _read(settings)
    if config.embedded:
        # Starting a process and waiting for it would stop the event loop.
        path = await asyncio.wrap_future(
            in_thread(partial(embedded.ensure_server_for, settings))
        )
        client = _build_local(config, settings, path)
    else:
        client = _build(config, key)
    try:
        await _verify(client, config, settings)
    except BaseException:
        await close_client(client)
        raise
    return client


async def close_client(
    client: redis.asyncio.Redis | redis.asyncio.client.PubSub,
) -> None:
    """Close *client* and its pool, within seconds whatever its connections do.

    ``aclose`` has its name since redis-py 5.0.1.
    """
    close = getattr(client, "aclose", None) or client.close
    with suppress(RedisError, OSError):
        await within(_CLOSE_WAIT, close())


def describe(
    settings_or_client: BaseSettings | redis.Redis | redis.asyncio.Redis,
) -> str:
    """Where Redis is, for log lines, without user name and password. No connection."""
    client = settings_or_client
    if isinstance(client, BaseSettings):
        config = _read(client)
        if config.embedded:
            return f"embedded Redis in {embedded.directory_from_settings(client)}"
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


@contextmanager
def _hiding(connection: Any) -> Iterator[None]:
    """What the server says of a login may repeat the password."""
    try:
        yield
    except RedisError as e:
        login = ("password", "credential_provider")
        known = {name: getattr(connection, name, None) for name in login}
        hide_in_error(e, secrets_in(known))
        raise


class _Discreet:
    """Mixed into a blocking connection: its errors have no password."""

    def on_connect(self) -> None:
        with _hiding(self):
            super().on_connect()  # type: ignore[misc]

    def on_connect_check_health(self, *args: Any, **details: Any) -> None:
        """What newer versions of redis-py call."""
        with _hiding(self):
            super().on_connect_check_health(*args, **details)  # type: ignore[misc]


class _Prompt:
    """Mixed into a connection: closing it waits for nobody, errors have no password.

    A closed connection of asyncio stays open until the peer has taken all that was
    written, and with TLS until it has said goodbye; one that is gone never does.
    """

    async def on_connect(self) -> None:
        with _hiding(self):
            await super().on_connect()  # type: ignore[misc]

    async def on_connect_check_health(self, *args: Any, **details: Any) -> None:
        """What newer versions of redis-py call."""
        with _hiding(self):
            await super().on_connect_check_health(*args, **details)  # type: ignore[misc]

    async def disconnect(self, nowait: bool = False, **details: Any) -> None:
        writer = getattr(self, "_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super().disconnect(nowait=True, **details)  # type: ignore[misc]


@cache
def _discreet(plain: type[Any]) -> type[Any]:
    """The variant of a blocking connection's class whose errors have no password."""
    return type(plain.__name__, (_Discreet, plain), {"__module__": __name__})


@cache
def _prompt(plain: type[Any]) -> type[Any]:
    """The variant of a connection's class whose closing waits for nobody."""
    return type(plain.__name__, (_Prompt, plain), {"__module__": __name__})


class EmbeddedConnection(_Prompt, UnixDomainSocketConnection):  # type: ignore[misc]
    """A connection that starts the embedded Redis again when it has gone.

    Whoever kills the server, or the session that it lives in, does not end the crawls
    of the others: the next connection brings it back, with its data.
    """

    def __init__(self, *, directory: Path, linger: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.directory = directory
        self.linger = linger

    async def connect(self) -> None:
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except redis.ConnectionError:
            await self.revive()
            await super().connect()  # type: ignore[no-untyped-call]

    async def revive(self) -> None:
        """Start the server; what waits for it here starts it once."""
        reviving = _reviving.get(self.directory)
        if reviving is None or reviving.done():
            start = partial(embedded.ensure_server, self.directory, linger=self.linger)
            reviving = _reviving[self.directory] = in_thread(start)
        try:
            path: Path = await asyncio.wrap_future(reviving)
        except FrontierError as e:
            # What redis-py's callers expect of a server that is not there.
            raise redis.ConnectionError(str(e)) from e
        self.path = str(path)


#: Starts of embedded servers that are under way, by folder.
_reviving: dict[Path, concurrent.futures.Future[Path]] = {}


def _parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self"}


_ASYNC = _parameters(redis.asyncio.Redis.__init__)
_CLUSTER = _parameters(redis.asyncio.RedisCluster.__init__)
#: Not the ssl_ ones: what was meant to protect must not be dropped without a word.
_SYNC_ONLY = {
    name
    for name in _parameters(redis.Redis.__init__) - _ASYNC
    if not name.startswith("ssl")
}
#: What the frontier's client is whatever the settings say.
_FIXED: dict[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
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


def _build(config: _Config, key: str = "") -> redis.asyncio.Redis:
    arguments = _without_ignored(config.arguments())
    url = arguments.pop("url", None)
    if url is None:
        client = config.build(lambda: FrontierClient(**arguments))
    else:
        client = cast(
            "FrontierClient",
            config.build(lambda: FrontierClient.from_url(url, **arguments)),
        )
    pool = client.connection_pool
    if config.topology is not None:
        pool.connection_class = connection_class(pool.connection_class)
        pool.connection_kwargs["topology"] = replace(config.topology, key=key)
    pool.connection_class = _prompt(cast("Any", pool.connection_class))
    _limit(client, config)
    config.check_connection(pool)
    return client


def _build_local(
    config: _Config, settings: BaseSettings, path: Path
) -> redis.asyncio.Redis:
    arguments = _without_ignored(config.local_arguments(path))
    client = config.build(lambda: FrontierClient(**arguments))
    _limit(client, config)
    pool = client.connection_pool
    pool.connection_class = EmbeddedConnection
    pool.connection_kwargs.update(
        directory=embedded.directory_from_settings(settings),
        linger=embedded.linger_from_settings(settings),
    )
    config.check_connection(pool)
    return client


def _limit(client: FrontierClient, config: _Config) -> None:
    """Give each wait of *client* an end, also where the settings name none."""
    kwargs = client.connection_pool.connection_kwargs
    if not config.limits_connect:
        kwargs["socket_connect_timeout"] = CONNECT_WAIT
    connect = kwargs.get("socket_connect_timeout") or CONNECT_WAIT
    client.limit = connect + (kwargs.get("socket_timeout") or LONGEST_WAIT)


def _without_ignored(arguments: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in arguments.items() if name not in _IGNORED}
    if "url" in own:
        # In a URL's query they would win over arguments.
        parts = urlsplit(own["url"])
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        query = urlencode([pair for pair in pairs if pair[0] not in _IGNORED])
        own["url"] = urlunsplit(parts._replace(query=query))
    return {**own, **_FIXED}


# Reading the settings


@dataclass(frozen=True)
class _Config:
    """Redis-py's arguments as the settings give them, checked one by one."""

    params: dict[str, Any] = field(repr=False)
    #: The settings that say where Redis is, for messages.
    shown: str
    embedded: bool
    topology: Topology | None = None
    #: Whether they say how long a try to connect may take.
    limits_connect: bool = False

    @property
    def secrets(self) -> frozenset[str]:
        """The passwords in it."""
        given: dict[str, Any] = dict(self.params)
        if self.topology is not None:
            given["sentinel_kwargs"] = self.topology.sentinel_kwargs
        return secrets_in(given)

    def arguments(self) -> dict[str, Any]:
        """For a client; without what its transport does not take."""
        url = self.params.get("url")
        if url is None:
            return dict(self.params)
        left_out = {"unix_socket_path"}
        if url.startswith("unix"):
            left_out |= _TCP_ONLY
        return {k: v for k, v in self.params.items() if k not in left_out}

    def local_arguments(self, path: Path) -> dict[str, Any]:
        """For a client of the embedded Redis."""
        return {**self.params, "unix_socket_path": str(path)}

    def build(self, make: Callable[[], _T]) -> _T:
        """``make()``, with an error of redis-py that names the setting."""
        try:
            return make()
        except (TypeError, ValueError, RedisError) as e:
            names = ", ".join(sorted(self.params))
            reason = hide(str(e), self.secrets)
            raise ConfigurationError(
                f"REDIS_PARAMS or REDIS_URL holds something that redis-py does not"
                f" take: {reason}. Given are {names} ({self.shown}). Write arguments of"
                " redis.Redis only, and for TLS a URL that begins with rediss://."
            ) from None

    def check_connection(self, pool: Any) -> None:
        """A pool finds wrong arguments only when it connects: make one connection."""
        self.build(lambda: pool.connection_class(**pool.connection_kwargs))


def _read(settings: BaseSettings) -> _Config:
    params: dict[str, Any] = dict(defaults.REDIS_PARAMS)
    origin: dict[str, str] = {}
    topology = topology_from_settings(settings)
    for name, value in _redis_params(settings).items():
        if name in _ADDRESS and value is None:
            continue
        params[name] = value
        origin[name] = f"REDIS_PARAMS[{name!r}]"
    for setting, name in SETTINGS_PARAMS_MAP.items():
        value = settings.get(setting)
        # An empty text is how a command line switches a setting off.
        if value is not None and value != "":
            params[name] = value
            origin[name] = setting
    if topology is not None:
        return _read_topology(topology, params, origin)
    for name, setting in origin.items():
        params[name] = _checked(name, params[name], setting)
    _check_names(params)
    where = {name: origin[name] for name in _ADDRESS if name in origin}
    if "url" in where:
        where = {"url": where["url"]}
    place = ", ".join(f"{s} = {shown_value(n, params[n])}" for n, s in where.items())
    return _Config(
        params,
        place or "embedded Redis",
        embedded=not where,
        limits_connect=_limits_connect(params, origin),
    )


def _read_topology(
    topology: Topology, params: dict[str, Any], origin: dict[str, str]
) -> _Config:
    """Like `_read` for several servers; where to connect to is asked for later."""
    sentinel_kwargs = params.pop("sentinel_kwargs", None) or {}
    if not isinstance(sentinel_kwargs, dict):
        raise ConfigurationError(
            "REDIS_PARAMS['sentinel_kwargs'] is not a dict of arguments for connections"
            ' to the sentinels. Write e.g. {"password": "..."}.'
        )
    topology = replace(topology, sentinel_kwargs=sentinel_kwargs)
    if "url" in params:
        params["url"], _ = split_url(params["url"])
    else:
        params["host"], params["port"] = topology.nodes[0]
    for name in ("unix_socket_path", "connection_pool"):
        params.pop(name, None)
    for name, setting in origin.items():
        if name in params:
            params[name] = _checked(name, params[name], setting)
    _check_names(params)
    if topology.is_cluster:
        _check_cluster_tls(params)
    if topology.is_cluster and params.get("db"):
        raise ConfigurationError(
            f"{origin.get('db', 'REDIS_DB')} = {params['db']}: a Redis Cluster has only"
            " the database 0. Write 0."
        )
    return _Config(
        params,
        str(topology),
        embedded=False,
        topology=topology,
        limits_connect=_limits_connect(params, origin),
    )


def _check_names(params: dict[str, Any]) -> None:
    """Let TLS check the name in Redis' certificate, unless *params* say otherwise."""
    url = params.get("url")
    if url.startswith("rediss:") if url else params.get("ssl"):
        given = {**params, **parse_url(url or "redis://")}
        params["ssl_check_hostname"] = checked_names(given, "REDIS_URL or REDIS_PARAMS")


def _check_cluster_tls(params: Mapping[str, Any]) -> None:
    given = {**params, **parse_url(params.get("url") or "redis://")}
    refused = {name for name in given if name.startswith("ssl_")} - _CLUSTER
    if refused:
        raise ConfigurationError(
            f"{', '.join(sorted(refused))} in REDIS_PARAMS or REDIS_URL: redis-py's"
            " asynchronous client of a Redis Cluster does not take it. Remove it; the"
            " authority's certificate is named by ssl_ca_certs."
        )


def _limits_connect(params: Mapping[str, Any], origin: Mapping[str, str]) -> bool:
    name = "socket_connect_timeout"
    return name in origin or name in parse_url(params.get("url") or "redis://")


def _redis_params(settings: BaseSettings) -> Mapping[str, Any]:
    try:
        return settings.getdict("REDIS_PARAMS")
    except (TypeError, ValueError):
        raise ConfigurationError(
            "REDIS_PARAMS is not a dict of arguments for redis.Redis."
            ' Write e.g. REDIS_PARAMS = {"password": "..."}.'
        ) from None


def _checked(name: str, value: Any, setting: str) -> Any:
    if name not in _CHECKS:
        return value
    check, remedy = _CHECKS[name]
    try:
        return check(value)
    except (TypeError, ValueError, LookupError, ImportError, AttributeError, NameError):
        raise ConfigurationError(
            f"{setting} = {shown_value(name, value)} cannot be used. {remedy}"
        ) from None


def _require(condition: object) -> None:
    if not condition:
        raise ValueError


def _url(value: Any) -> str:
    parts = urlsplit(value)
    _require(parts.scheme in {"redis", "rediss", "unix"})
    # Raises for a port that is no number, e.g. a password with a slash in it.
    _require(parts.port is None or parts.port > 0)
    if parts.scheme == "unix":
        _require(parts.path)
    else:
        # redis-py takes the database 0 for a path that is no number.
        _require(re.fullmatch(r"/?\d*", parts.path))
    require_arguments(parts)
    _require(parse_url(value).get("db", 0) >= 0)
    # By its small letters redis-py, and we, tell what speaks TLS.
    scheme, rest = value[: len(parts.scheme)], value[len(parts.scheme) :]
    _require(scheme.lower() == parts.scheme)
    return f"{parts.scheme}{rest}"


def _host(value: Any) -> str:
    # One colon is a port that belongs elsewhere, several are an IPv6 address.
    _require(isinstance(value, str) and value.strip() and value.count(":") != 1)
    _require(not re.search(r"[@/?#]", value))
    return str(value)


def _port(value: Any) -> int:
    _require(0 < int(value) < 65536)
    return int(value)


def _db(value: Any) -> int:
    _require(int(value) >= 0)
    return int(value)


def _encoding(value: Any) -> str:
    codecs.lookup(value)
    # Redis' commands are ASCII: UTF-16 would spoil them.
    _require("PING".encode(value) == b"PING")
    return str(value)


def _boolean(value: Any) -> bool:
    return BaseSettings({"it": value}).getbool("it")


def _perhaps(value: Any) -> bool | None:
    return None if value is None else _boolean(value)


def _seconds(value: Any) -> float | None:
    _require(value is None or float(value) > 0)
    return None if value is None else float(value)


def _class(value: Any) -> Any:
    found = load_object(value) if isinstance(value, str) else value
    _require(callable(found))
    return found


def _cert_reqs(value: Any) -> str | None:
    found = CERT_REQS.get(value, value)
    _require(found is None or found in CERT_REQS.values())
    return cast("str | None", found)


def _refuse(value: Any) -> None:
    raise ValueError(value)


_SECONDS = (
    "Write a number of seconds above 0. None is without end for spider.server; the"
    f" frontier's own waits end after {LONGEST_WAIT:g} s all the same."
)
#: redis-py argument -> what checks and converts it, and what to write instead.
_CHECKS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "url": (
        _url,
        (
            "Write redis://user:password@host:6379/0, rediss://... for TLS or"
            " unix:///path/redis.sock; percent-encode special characters in the"
            " password."
        ),
    ),
    "host": (_host, "Write a host name or address; the port goes into REDIS_PORT."),
    "port": (_port, "Write a port number from 1 to 65535, e.g. 6379."),
    "db": (_db, "Write the number of a Redis database, 0 or more."),
    "encoding": (_encoding, "Write an encoding that contains ASCII, e.g. 'utf-8'."),
    "decode_responses": (_boolean, "Write True or False."),
    "socket_timeout": (_seconds, _SECONDS),
    "socket_connect_timeout": (_seconds, _SECONDS),
    "ssl": (_boolean, "Write True or False."),
    "ssl_check_hostname": (_perhaps, "Write True or False."),
    "ssl_cert_reqs": (_cert_reqs, "Write 'required' or, to check nothing, 'none'."),
    "redis_cls": (_class, "Write a class like redis.Redis, or its dotted path."),
    "connection_pool": (_refuse, "Write where Redis is, e.g. in REDIS_URL."),
}


# Looking at the server


async def _verify(
    client: redis.asyncio.Redis, config: _Config, settings: BaseSettings
) -> None:
    deadline = time.monotonic() + LOADING_TIMEOUT
    while True:
        try:
            await _ping(client, config)
            info = await _info(client)
        except (RedisError, OSError) as e:
            if config.topology is None or time.monotonic() > deadline:
                raise _explained(e, config) from e
        else:
            # Right after a failover the old master may be named still.
            if config.topology is None or info.get("role") != "slave":
                break
            if time.monotonic() > deadline:
                break
        await client.connection_pool.disconnect()
        await asyncio.sleep(LOADING_INTERVAL)
    _check_version(info, config)
    _check_role(info, config)
    _check_eviction(info, config, settings)


async def _ping(client: redis.asyncio.Redis, config: _Config) -> None:
    deadline = time.monotonic() + LOADING_TIMEOUT
    while True:
        try:
            await client.ping()
        except BusyLoadingError as e:
            if time.monotonic() > deadline:
                raise RedisUnavailable(
                    f"Redis is still loading its data ({config.shown})."
                    " Start again when it has finished."
                ) from e
            await asyncio.sleep(LOADING_INTERVAL)
        else:
            return


async def _info(client: redis.asyncio.Redis) -> dict[str, Any]:
    try:
        return await client.info()
    except ResponseError as e:
        # A managed Redis may forbid it; then its owner answers for what we check.
        logger.debug("Redis does not answer INFO, its settings are not checked: %s", e)
        return {}


def _explained(error: Exception, config: _Config) -> FrontierError:
    reason = hide(str(error), config.secrets).rstrip(".") or type(error).__name__
    login = (
        AuthenticationError,
        AuthenticationWrongNumberOfArgsError,
        AuthorizationError,
    )
    if isinstance(error, login):
        return ConfigurationError(
            f"Redis refuses the login: {reason} ({config.shown}). Write user and"
            " password into REDIS_URL, redis://user:password@host, or REDIS_PARAMS."
        )
    if isinstance(error, NoPermissionError):
        return ConfigurationError(
            f"The Redis user is not allowed to work: {reason} ({config.shown})."
            " Grant it the rights with ACL SETUSER, or name another user in REDIS_URL."
        )
    tls = _cause(error, ssl.SSLError)
    if tls is not None:
        return ConfigurationError(_explained_tls(tls, config))
    if isinstance(error, ResponseError) and re.search(r"DB index|SELECT", reason):
        return ConfigurationError(
            f"Redis does not have that database: {reason} ({config.shown}, REDIS_DB ="
            f" {config.params.get('db', 0)}). Write 0, or another that it has, into"
            " REDIS_DB or at the end of REDIS_URL."
        )
    return RedisUnavailable(
        f"Redis cannot be used: {reason} ({config.shown}). Start it or correct the"
        " setting; without REDIS_URL and REDIS_HOST a Redis is started for you."
    )


def _explained_tls(error: ssl.SSLError, config: _Config) -> str:
    who, remedy = "Redis", "or write redis:// if it speaks no TLS"
    if config.topology is not None and not config.topology.is_cluster:
        who = "Redis or a sentinel"
        remedy = (
            "or REDIS_PARAMS = {'sentinel_kwargs': {'ssl': False}} if only the sentinels"
            " speak no TLS"
        )
    return (
        f"No TLS connection to {who}: {error} ({config.shown}). Name the authority of"
        " its certificate, REDIS_PARAMS = {'ssl_ca_certs': '/path/ca.pem'}; write the"
        f" name that is in the certificate; {remedy}."
    )


def _cause(error: BaseException | None, kind: type[_E]) -> _E | None:
    """What *error* comes from, if that is a *kind*."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _check_version(info: Mapping[str, Any], config: _Config) -> None:
    # Valkey calls itself Redis 7.2.4 here.
    match = re.match(r"(\d+)\.(\d+)", str(info.get("redis_version", "")))
    if match and (int(match[1]), int(match[2])) < MIN_VERSION:
        raise ConfigurationError(
            f"Redis {info['redis_version']} is too old ({config.shown})."
            " Use Redis 6.2 or newer, or Valkey."
        )


def _check_role(info: Mapping[str, Any], config: _Config) -> None:
    if info.get("role") == "slave":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        raise ConfigurationError(
            f"This Redis is a read-only replica ({config.shown})."
            f" Name its primary, {primary}, in REDIS_URL or REDIS_HOST."
        )


def _check_eviction(
    info: Mapping[str, Any], config: _Config, settings: BaseSettings
) -> None:
    # volatile-* policies evict only keys that have a time to live; ours have none.
    policy = str(info.get("maxmemory_policy", ""))
    if not policy.startswith("allkeys"):
        return
    problem = (
        f"Redis has maxmemory-policy {policy}: when its memory is full it deletes"
        f" requests without a word ({config.shown})."
    )
    if not settings.getbool("FRONTIER_ALLOW_EVICTION"):
        raise ConfigurationError(
            f"{problem} Set maxmemory-policy noeviction in Redis, or"
            " FRONTIER_ALLOW_EVICTION = True to take the risk."
        )
    logger.warning("%s FRONTIER_ALLOW_EVICTION is set: going on.", problem)
