"""Redis Sentinel and Redis Cluster: who serves the frontier now.

All keys of one frontier are used together, so at any time one server, the master, has
them: the one that the sentinels name, or the one that has the frontier's slot of the
cluster. A connection asks for it each time it is made; after a failover, or when a slot
has moved, connections are dropped and made anew (see ``Frontier.exchange``).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisClusterException

from scrapy_dist import defaults
from scrapy_dist.base.waits import wait_for
from scrapy_dist.base.words import span
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.addresses import (
    Nodes,
    bracketed,
    host_in,
    port_in,
    require,
    require_arguments,
    split_nodes,
)
from scrapy_dist.redis_client.masking import (
    hide_in_error,
    mask_url,
    secrets_in,
    shown_nodes,
)
from scrapy_dist.redis_client.tls import sentinel_arguments
from scrapy_dist.redis_client.waits import close

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

_SENTINEL, _CLUSTER = "sentinel", "cluster"
_PORTS = {_SENTINEL: 26379, _CLUSTER: 6379}
#: Arguments of redis-py that discovery needs too.
_LOGIN = (
    "username",
    "password",
    "socket_timeout",
    "socket_connect_timeout",
    "credential_provider",
)

#: Seconds that one server may take when it is asked who the master is, and all of them.
#: Several are asked one after another; those that are cut off must not keep the others
#: from being asked.
_EACH, _ALL = 3.0, 15.0

#: What stands between "://" and the path of a URL, and what follows.
_NETLOC = re.compile(r"([^/?#]*)(.*)", re.DOTALL)


#: What redis-py raises when it is refused, and for replies that are none of Redis.
_STRANGE = (redis.RedisError, ValueError, TypeError, LookupError, AttributeError)

#: Whoever asks tries again, others first.
_ONCE = Retry(NoBackoff(), 0)


@dataclass
class Topology:
    """Several servers of which one, at a time, is the frontier's.

    *nodes* are the sentinels, or some nodes of the cluster. *master* is the name that
    the sentinels know it by. *key*: any key of the frontier, for its slot.
    """

    kind: str
    nodes: Nodes
    master: str = ""
    key: str = ""
    #: More arguments for connections to the sentinels.
    sentinel_kwargs: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_cluster(self) -> bool:
        return self.kind == _CLUSTER

    def __str__(self) -> str:
        nodes = ",".join(f"{bracketed(host)}:{port}" for host, port in self.nodes)
        return f"redis+{self.kind}://{nodes}" + (
            f"/{self.master}" if self.master else ""
        )

    async def resolve(self, kwargs: dict[str, Any]) -> tuple[str, int]:
        """Host and port of the master; *kwargs* as for a connection to it.

        Raises redis.ConnectionError if nobody knows it now.
        """
        known = {name: kwargs[name] for name in _LOGIN if name in kwargs}
        for name in ("socket_timeout", "socket_connect_timeout"):
            known[name] = min(known.get(name) or _EACH, _EACH)
        asking = (
            self._ask_sentinels(known, kwargs)
            if self.kind == _SENTINEL
            else self._ask_cluster(known, kwargs)
        )
        try:
            return await wait_for(asking, _ALL)
        except (TimeoutError, asyncio.TimeoutError):
            self._ask_another()
            raise redis.ConnectionError(
                f"nobody knows the master: no answer of {self} for {span(_ALL)}"
            ) from None

    def _ask_another(self) -> None:
        """The first server does not answer: begin with the next one."""
        self.nodes.append(self.nodes.pop(0))

    async def _ask_sentinels(
        self, known: dict[str, Any], kwargs: dict[str, Any]
    ) -> tuple[str, int]:
        timeouts = {n: v for n, v in known.items() if n.startswith("socket_")}
        own = sentinel_arguments(self.sentinel_kwargs, kwargs, tls=kwargs["tls"])
        sentinel = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]
            self.nodes,
            sentinel_kwargs={"retry": _ONCE, "protocol": 2, **timeouts, **own},
        )
        started = time.monotonic()
        failure: Exception | None = None
        try:
            for client in sentinel.sentinels:
                try:
                    masters: Any = await client.sentinel_masters()
                    state = masters.get(self.master)
                    if state and sentinel.check_master_state(state, self.master):
                        if time.monotonic() - started >= _EACH:
                            self._ask_another()
                        return _address(state)
                except _STRANGE as e:
                    hide_in_error(e, secrets_in(own))
                    failure = e
        finally:
            for client in sentinel.sentinels:
                await close(client)
        reason = f": {failure}" if failure else ""
        raise redis.ConnectionError(
            f"No master found for {self.master!r}{reason}"
        ) from failure

    async def _ask_cluster(
        self, known: dict[str, Any], kwargs: dict[str, Any]
    ) -> tuple[str, int]:
        tls = {n: v for n, v in kwargs.items() if n.startswith("ssl_")}
        if kwargs.get("tls"):
            tls["ssl"] = True
        cluster = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self.nodes],
            require_full_coverage=False,
            retry=_ONCE,
            protocol=2,
            **known,
            **tls,
        )
        try:
            try:
                await cluster.initialize()
                node = cluster.get_node_from_key(self.key)
            except (RedisClusterException, *_STRANGE) as e:
                hide_in_error(e, secrets_in(kwargs))
                raise redis.ConnectionError(f"no answer from the cluster: {e}") from e
            # The nodes that the settings name may all be gone one day.
            found = [(str(n.host), int(n.port)) for n in cluster.get_nodes()]
            self.nodes += [node for node in found if node not in self.nodes]
        finally:
            await close(cluster)
        if node is None:
            raise redis.ConnectionError(f"nobody serves the slot of {self.key}")
        return str(node.host), int(node.port)

    def make_client(self, cls: Any, kwargs: dict[str, Any]) -> Any:
        """A synchronous client of *cls* for user code."""
        kwargs = {n: v for n, v in kwargs.items() if n not in ("host", "port")}
        if self.kind == _SENTINEL:
            tls = bool(kwargs.get("ssl"))
            waits = ("socket_timeout", "socket_connect_timeout", "retry")
            own = {name: kwargs[name] for name in waits if name in kwargs}
            own |= sentinel_arguments(self.sentinel_kwargs, kwargs, tls=tls)
            sentinel = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
                self.nodes, sentinel_kwargs=own
            )
            return sentinel.master_for(self.master, cls, **kwargs)  # type: ignore[no-untyped-call]
        kwargs.pop("db", None)
        # It drops what it does not list without a word.
        module: Any = redis.cluster
        dropped = {name for name in kwargs if name.startswith("ssl")}
        dropped -= set(module.REDIS_ALLOWED_KEYS)
        module.REDIS_ALLOWED_KEYS += tuple(sorted(dropped))
        node = redis.cluster.ClusterNode
        nodes = [node(host, port) for host, port in self.nodes]  # type: ignore[no-untyped-call]
        return redis.cluster.RedisCluster(startup_nodes=nodes, **kwargs)


def _address(state: dict[str, Any]) -> tuple[str, int]:
    try:
        return host_in(state["ip"]), port_in(state["port"])
    except ValueError:
        raise ValueError("a sentinel names no address") from None


class Resolving:
    """Mixed into a connection: asks where to connect to, each time."""

    def __init__(self, *, topology: Topology, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.topology = topology
        self.discovery = {**kwargs, "tls": isinstance(self, SSLConnection)}

    async def connect(self) -> None:
        if not self.is_connected:  # type: ignore[attr-defined]
            self.host, self.port = await self.topology.resolve(self.discovery)
        await super().connect()  # type: ignore[misc]


def topology_from_settings(settings: BaseSettings) -> Topology | None:
    """What REDIS_URL, REDIS_SENTINELS or REDIS_CLUSTER say; None: one plain Redis.

    Raises ConfigurationError.
    """
    url = settings.get("REDIS_URL") or ""
    named = [n for n in ("REDIS_SENTINELS", "REDIS_CLUSTER") if settings.get(n)]
    if url:
        named.append("REDIS_URL")
    if len(named) > 1:
        raise ConfigurationError(
            f"{' and '.join(named)} both say where Redis is. Keep one of them."
        )
    if url:
        return split_url(str(url))[1]
    if settings.get("REDIS_CLUSTER"):
        nodes = _nodes("REDIS_CLUSTER", settings.get("REDIS_CLUSTER"), _CLUSTER)
        return Topology(_CLUSTER, nodes)
    if settings.get("REDIS_SENTINELS"):
        nodes = _nodes("REDIS_SENTINELS", settings.get("REDIS_SENTINELS"), _SENTINEL)
        master = settings.get("REDIS_SENTINEL_MASTER", defaults.REDIS_SENTINEL_MASTER)
        if not isinstance(master, str) or not master.strip():
            raise ConfigurationError(
                f"REDIS_SENTINEL_MASTER = {master!r} is no name. Write the name that the"
                " sentinels know the master by, e.g. 'mymaster'."
            )
        return Topology(_SENTINEL, nodes, master)
    return None


def split_url(url: str) -> tuple[str, Topology | None]:
    """A ``redis+sentinel://`` or ``redis+cluster://`` URL as a plain URL and the rest.

    Another URL comes back as it is. Raises ConfigurationError.
    """
    scheme, separator, rest = url.partition("://")
    base, plus, kind = scheme.partition("+")
    if not plus or not separator:
        return url, None
    example = f"{base}+{kind}://user:password@host1:{_PORTS.get(kind, 6379)},host2"
    if kind == _SENTINEL:
        example += "/mymaster/0"
    try:
        require(base in ("redis", "rediss") and kind in _PORTS)
        # urlsplit() takes no brackets where several servers are named.
        netloc, rest_of_it = _NETLOC.fullmatch(rest).groups()  # type: ignore[union-attr]
        parts = urlsplit(f"{base}://{rest_of_it}")
        require_arguments(parts)
        login, at, hosts = netloc.rpartition("@")
        nodes = split_nodes(hosts, _PORTS[kind])
        path = [part for part in parts.path.split("/") if part]
        master = ""
        if kind == _SENTINEL:
            master = path.pop(0)
            # A password with @ and / in it, which were not percent-encoded.
            require("@" not in master)
        database = path.pop(0) if path else "0"
        require(not path and database.isdecimal())
        require(kind != _CLUSTER or database == "0")
    except (ValueError, IndexError):
        raise ConfigurationError(
            f"REDIS_URL = {mask_url(url)!r} cannot be used. Write e.g. {example};"
            " percent-encode special characters in the password. A cluster has only the"
            " database 0."
        ) from None
    host, port = nodes[0]
    netloc = f"{login}{at}{bracketed(host)}:{port}"
    plain = urlunsplit((base, netloc, f"/{database}", parts.query, ""))
    return plain, Topology(kind, nodes, master)


def uses_cluster(settings: BaseSettings) -> bool:
    """Whether the settings name a Redis Cluster. Raises nothing."""
    scheme = str(settings.get("REDIS_URL") or "").partition("://")[0]
    return bool(settings.get("REDIS_CLUSTER")) or scheme.endswith(f"+{_CLUSTER}")


def check_slots(keys: Sequence[tuple[str, str]]) -> None:
    """Raise ConfigurationError unless all *keys* (key, setting) share a slot."""
    first, setting = keys[0]
    for key, other in keys[1:]:
        if key_slot(key.encode()) != key_slot(first.encode()):
            raise ConfigurationError(
                f"With Redis Cluster all keys of a spider must be in one slot; {key!r}"
                f" ({other}) and {first!r} ({setting}) are not. Write %(spider)s into"
                " each, which stands for {name} there, or the same {tag}."
            )


def _nodes(setting: str, value: Any, kind: str) -> Nodes:
    try:
        if isinstance(value, str):
            return split_nodes(value, _PORTS[kind])
        nodes: Nodes = []
        require(not isinstance(value, Mapping))
        for node in value:
            if isinstance(node, str):
                nodes += split_nodes(node, _PORTS[kind])
            else:
                host, port = node
                nodes.append((host_in(host), port_in(port)))
        require(nodes)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{setting} = {shown_nodes(value)} is no list of servers. Write e.g."
            f" [('host1', {_PORTS[kind]}), ('host2', {_PORTS[kind]})] or"
            f" 'host1:{_PORTS[kind]},host2:{_PORTS[kind]}'."
        ) from None
    return nodes
