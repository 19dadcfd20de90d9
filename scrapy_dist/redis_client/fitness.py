"""Whether a Redis is fit for a frontier, and what to do if it is not."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import redis
import redis.asyncio
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.settings import flag
from scrapy_dist.exceptions import ConfigurationError, FrontierError, RedisUnavailable
from scrapy_dist.redis_client.embedded.program import MIN_VERSION
from scrapy_dist.redis_client.masking import hide

if TYPE_CHECKING:
    import redis.asyncio.client
    from scrapy.settings import BaseSettings

    from scrapy_dist.redis_client.parameters import Parameters


logger = get_logger(__name__)
#: Seconds to wait for a Redis that is loading its data.
LOADING_TIMEOUT = 10.0
#: Seconds between two questions to a Redis that is loading its data.
LOADING_INTERVAL = 0.25
_E = TypeVar("_E", bound=BaseException)


async def verify(
    client: redis.asyncio.Redis, config: Parameters, settings: BaseSettings
) -> None:
    deadline = time.monotonic() + LOADING_TIMEOUT
    while True:
        is_over = time.monotonic() > deadline
        try:
            await client.ping()
            info = await _info(client)
        except (RedisError, OSError) as e:
            may_change = config.topology is not None or isinstance(e, BusyLoadingError)
            if is_over or not may_change:
                raise _explained(e, config) from e
        else:
            # Right after a failover the old master may be named still.
            if is_over or config.topology is None or info.get("role") != "slave":
                break
        await client.connection_pool.disconnect()
        await asyncio.sleep(LOADING_INTERVAL)
    _check_version(info, config)
    _check_role(info, config)
    _check_eviction(info, config, settings)


async def _info(client: redis.asyncio.Redis) -> dict[str, Any]:
    try:
        return await client.info()
    except ResponseError as e:
        # A managed Redis may forbid it; then its owner answers for what we check.
        logger.debug("Redis does not answer INFO, its settings are not checked: %s", e)
        return {}


def _explained(error: Exception, config: Parameters) -> FrontierError:
    reason = hide(str(error), config.secrets).rstrip(".") or type(error).__name__
    if isinstance(error, BusyLoadingError):
        return RedisUnavailable(
            f"Redis is still loading its data ({config.shown})."
            " Start again when it has finished."
        )
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


def _explained_tls(error: ssl.SSLError, config: Parameters) -> str:
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


def _check_version(info: Mapping[str, Any], config: Parameters) -> None:
    # Valkey calls itself Redis 7.2.4 here.
    match = re.match(r"(\d+)\.(\d+)", str(info.get("redis_version", "")))
    if match and (int(match[1]), int(match[2])) < MIN_VERSION:
        raise ConfigurationError(
            f"Redis {info['redis_version']} is too old ({config.shown})."
            " Use Redis 6.2 or newer, or Valkey."
        )


def _check_role(info: Mapping[str, Any], config: Parameters) -> None:
    if info.get("role") == "slave":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        raise ConfigurationError(
            f"This Redis is a read-only replica ({config.shown})."
            f" Name its primary, {primary}, in REDIS_URL or REDIS_HOST."
        )


def _check_eviction(
    info: Mapping[str, Any], config: Parameters, settings: BaseSettings
) -> None:
    # volatile-* policies evict only keys that have a time to live; ours have none.
    policy = str(info.get("maxmemory_policy", ""))
    if not policy.startswith("allkeys"):
        return
    problem = (
        f"Redis has maxmemory-policy {policy}: when its memory is full it deletes"
        f" requests without a word ({config.shown})."
    )
    if not flag(settings, "FRONTIER_ALLOW_EVICTION"):
        raise ConfigurationError(
            f"{problem} Set maxmemory-policy noeviction in Redis, or"
            " FRONTIER_ALLOW_EVICTION = True to take the risk."
        )
    logger.warning("%s FRONTIER_ALLOW_EVICTION is set: going on.", problem)
