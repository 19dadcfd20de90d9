"""Settings -> clients of Redis for user code, as scrapy-redis makes them.

They are synchronous. The frontier's own client is asynchronous, because Scrapy's event
loop never waits for Redis: see ``redis_client``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import redis
from redis.asyncio.connection import parse_url
from scrapy.utils.misc import load_object

from scrapy_dist import defaults
from scrapy_dist.compat.extension_points import path_of
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.client import describe
from scrapy_dist.redis_client.connections import Discreet, mixed
from scrapy_dist.redis_client.embedded.settings import (
    directory_from_settings,
    ensure_server_for,
)
from scrapy_dist.redis_client.parameters import (
    SETTINGS_PARAMS_MAP,
    Parameters,
    check_names,
    read_parameters,
)

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

__all__ = [
    "SETTINGS_PARAMS_MAP",
    "defaults",
    "from_settings",
    "get_redis",
    "get_redis_from_settings",
    "is_from_settings",
    "load_object",
]


def get_redis(**kwargs: Any) -> redis.Redis:
    """A synchronous client: *redis_cls*, from *url* if given, with the other arguments.

    *redis_cls* is a class or its dotted path; default ``redis.Redis``. TLS checks the
    name in the certificate unless an argument says otherwise.
    """
    redis_cls = kwargs.pop("redis_cls", None) or redis.Redis
    if isinstance(redis_cls, str):
        redis_cls = load_object(redis_cls)
    check_names(kwargs)
    url = kwargs.pop("url", None)
    client = redis_cls.from_url(url, **kwargs) if url else redis_cls(**kwargs)
    pool = getattr(client, "connection_pool", None)
    if type(pool) is redis.ConnectionPool:
        pool.connection_class = mixed(Discreet, cast("Any", pool.connection_class))
    return cast("redis.Redis", client)


def get_redis_from_settings(settings: BaseSettings) -> redis.Redis:
    """A synchronous client for user code, e.g. ``spider.server``.

    Precedence as in scrapy-redis: our defaults, REDIS_PARAMS, REDIS_URL and the other
    REDIS_ settings. Connects at its first command; but with nothing configured it
    starts or joins the embedded Redis, which may take a moment.
    """
    config = read_parameters(settings)
    client = _make_blocking(config, settings)
    with suppress(TypeError):  # a redis_cls that takes no weak reference
        _made[client] = _address(config, settings)
    return client


def unconnected(reason: str) -> redis.Redis:
    """A client for who wants one and is not to use it; its errors name *reason*."""
    return redis.Redis(unix_socket_path=f"/dev/null/{reason}")


def is_from_settings(client: Any, settings: BaseSettings) -> bool:
    """Whether the synchronous *client* talks to the Redis of *settings*, as far as seen."""
    config = read_parameters(settings)
    with suppress(TypeError):
        if client in _made:
            return _made[client] == _address(config, settings)
    try:
        return describe(client) == describe(settings)
    except AttributeError:
        return False  # no client of redis-py for one server


def check_is_from_settings(client: Any, settings: BaseSettings, owner: type) -> None:
    """Raise ConfigurationError if *owner* has a *client* of another Redis."""
    if not is_from_settings(client, settings):
        raise ConfigurationError(
            f"{path_of(owner)} has a server of its own, and the frontier is at"
            f" {describe(settings)}. Say where Redis is in REDIS_URL, or in REDIS_HOST"
            " and REDIS_PORT."
        )


def _address(config: Parameters, settings: BaseSettings) -> str:
    if config.embedded:
        return str(directory_from_settings(settings))
    return config.shown if config.topology is not None else describe(settings)


#: What synchronous clients were made for.
_made: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def _make_blocking(config: Parameters, settings: BaseSettings) -> redis.Redis:
    if config.embedded:
        path = ensure_server_for(settings)
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


def _build_blocking(config: Parameters) -> redis.Redis:
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
