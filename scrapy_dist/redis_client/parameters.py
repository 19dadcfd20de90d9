"""The REDIS_ settings as arguments of redis-py."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import redis
import redis.asyncio
import redis.asyncio.client
from redis.asyncio.connection import parse_url
from redis.exceptions import RedisError

from scrapy_dist import defaults
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.arguments import checked
from scrapy_dist.redis_client.masking import hide, secrets_in, shown_value
from scrapy_dist.redis_client.tls import checked_names
from scrapy_dist.redis_client.topology import (
    Topology,
    split_url,
    topology_from_settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from scrapy.settings import BaseSettings

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


def is_embedded(settings: BaseSettings) -> bool:
    """Whether *settings* name no Redis, so that the embedded one is used."""
    return read_parameters(settings).embedded


def parameters_of(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self"}


_CLUSTER = parameters_of(redis.asyncio.RedisCluster.__init__)


@dataclass(frozen=True)
class Parameters:
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


def read_parameters(settings: BaseSettings) -> Parameters:
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
        topology = _of_several(topology, params)
    for name, setting in origin.items():
        if name in params:
            params[name] = checked(name, params[name], setting)
    check_names(params)
    if topology is not None and topology.is_cluster:
        _check_cluster(params, origin)
    where = {name: origin[name] for name in _ADDRESS if name in origin.keys() & params}
    if "url" in where:
        where = {"url": where["url"]}
    place = ", ".join(f"{s} = {shown_value(n, params[n])}" for n, s in where.items())
    limit = "socket_connect_timeout"
    return Parameters(
        params,
        str(topology or place or "embedded Redis"),
        embedded=topology is None and not where,
        topology=topology,
        limits_connect=limit in origin or limit in _parsed(params),
    )


def _of_several(topology: Topology, params: dict[str, Any]) -> Topology:
    """*topology* with what *params* say of it; where to connect to is asked for later."""
    sentinel_kwargs = params.pop("sentinel_kwargs", None) or {}
    if not isinstance(sentinel_kwargs, dict):
        raise ConfigurationError(
            "REDIS_PARAMS['sentinel_kwargs'] is not a dict of arguments for connections"
            ' to the sentinels. Write e.g. {"password": "..."}.'
        )
    if "url" in params:
        params["url"], _ = split_url(params["url"])
    else:
        params["host"], params["port"] = topology.nodes[0]
    for name in ("unix_socket_path", "connection_pool"):
        params.pop(name, None)
    return replace(topology, sentinel_kwargs=sentinel_kwargs)


def check_names(params: dict[str, Any]) -> None:
    """Let TLS check the name in Redis' certificate, unless *params* say otherwise."""
    url = params.get("url")
    if url.startswith("rediss:") if url else params.get("ssl"):
        given = {**params, **_parsed(params)}
        params["ssl_check_hostname"] = checked_names(given, "REDIS_URL or REDIS_PARAMS")


def _check_cluster(params: Mapping[str, Any], origin: Mapping[str, str]) -> None:
    given = {**params, **_parsed(params)}
    refused = {name for name in given if name.startswith("ssl_")} - _CLUSTER
    if refused:
        raise ConfigurationError(
            f"{', '.join(sorted(refused))} in REDIS_PARAMS or REDIS_URL: redis-py's"
            " asynchronous client of a Redis Cluster does not take it. Remove it; the"
            " authority's certificate is named by ssl_ca_certs."
        )
    if params.get("db"):
        raise ConfigurationError(
            f"{origin.get('db', 'REDIS_DB')} = {params['db']}: a Redis Cluster has only"
            " the database 0. Write 0."
        )


def _parsed(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the URL in *params* says."""
    return parse_url(params.get("url") or "redis://")


def _redis_params(settings: BaseSettings) -> Mapping[str, Any]:
    try:
        return settings.getdict("REDIS_PARAMS")
    except (TypeError, ValueError):
        raise ConfigurationError(
            "REDIS_PARAMS is not a dict of arguments for redis.Redis."
            ' Write e.g. REDIS_PARAMS = {"password": "..."}.'
        ) from None
