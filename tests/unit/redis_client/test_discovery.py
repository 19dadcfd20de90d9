"""Who is asked for the master, how long, and what is learned of the answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import redis
import redis.asyncio.sentinel
from redis.exceptions import RedisClusterException
from scrapy.settings import Settings

from scrapy_dist.connection import get_redis_from_settings
from scrapy_dist.redis_client import topology
from scrapy_dist.redis_client.topology import Topology
from tests.support.tls import Scripted, sentinel_of


@pytest.fixture
def sentinels(monkeypatch):
    """The sentinel clients that are made, as redis-py makes them."""
    made = []

    class Noted(redis.asyncio.sentinel.Sentinel):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.extend(self.sentinels)

    monkeypatch.setattr(redis.asyncio.sentinel, "Sentinel", Noted)
    return made


@pytest.mark.parametrize(("given", "expected"), [(None, 3.0), (60.0, 3.0), (1.5, 1.5)])
async def test_each_sentinel_has_a_time_to_answer(sentinels, given, expected):
    server = sentinel_of("10.0.0.7", 7000)
    servers = Topology("sentinel", [("127.0.0.1", server.port)] * 2, "shop")
    names = ("socket_timeout", "socket_connect_timeout")
    kwargs = {"tls": False, **({} if given is None else dict.fromkeys(names, given))}
    try:
        assert await servers.resolve(kwargs) == ("10.0.0.7", 7000)
    finally:
        server.close()
    assert len(sentinels) == 2
    for client in sentinels:
        waits = client.connection_pool.connection_kwargs
        assert [waits[name] for name in names] == [expected, expected]


async def test_a_sentinel_that_hangs_does_not_keep_the_next_from_being_asked(
    monkeypatch,
):
    monkeypatch.setattr(topology, "_EACH", 0.2)
    monkeypatch.setattr(topology, "_ALL", 3600.0)
    hangs = SilentServer()
    server = sentinel_of("10.0.0.7", 7000)
    nodes = [("127.0.0.1", hangs.port), ("127.0.0.1", server.port)]
    servers = Topology("sentinel", list(nodes), "shop")
    try:
        assert await servers.resolve({"tls": False}) == ("10.0.0.7", 7000)
        # It cost time: the next question begins with the one that answers.
        assert servers.nodes == nodes[::-1]
    finally:
        hangs.close()
        server.close()


class SilentServer(Scripted):
    """Accepts connections, and answers nothing."""

    def __init__(self):
        super().__init__(lambda words, new: None)

    def _serve(self, plain):
        with plain:
            while plain.recv(100):
                pass


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_all_servers_together_have_a_time_to_answer(kind, monkeypatch):
    """Whatever hangs, it ends, and the next question begins with another server."""
    monkeypatch.setattr(topology, "_EACH", 3600.0)
    monkeypatch.setattr(topology, "_ALL", 0.2)
    hangs = SilentServer()
    nodes = [("127.0.0.1", hangs.port), ("127.0.0.1", 1)]
    servers = Topology(kind, list(nodes), "shop", key="{s}:requests")
    try:
        with pytest.raises(redis.ConnectionError, match="nobody knows the master"):
            await servers.resolve({"tls": False})
    finally:
        hangs.close()
    assert servers.nodes == nodes[::-1]


async def test_a_sentinel_that_knows_another_master_is_passed_over():
    others, server = sentinel_of("10.0.0.1", 1, "other"), sentinel_of("10.0.0.7", 7000)
    nodes = [("127.0.0.1", each.port) for each in (others, server)]
    try:
        found = await Topology("sentinel", nodes, "shop").resolve({"tls": False})
        assert found == ("10.0.0.7", 7000)
        with pytest.raises(redis.ConnectionError, match="No master found for 'shop'"):
            await Topology("sentinel", nodes[:1], "shop").resolve({"tls": False})
    finally:
        others.close()
        server.close()


def node(host, port):
    return SimpleNamespace(host=host, port=port)


class FakeCluster:
    """What redis-py's client of a cluster would say; *made* are all of them."""

    made: list[FakeCluster] = []
    nodes = [node("b", 2), node("a", 1), node("c", 3)]
    master: SimpleNamespace | None = nodes[2]
    error: Exception | None = None

    def __init__(self, startup_nodes, **options):
        self.asked = [(n.host, n.port) for n in startup_nodes]
        self.options, self.closed = options, False
        self.made.append(self)

    async def initialize(self):
        if self.error is not None:
            raise self.error

    def get_node_from_key(self, key):
        return self.master if key == "{s}:requests" else None

    def get_nodes(self):
        return self.nodes

    async def aclose(self):
        self.closed = True


@pytest.fixture
def cluster(monkeypatch):
    fake = type("Fake", (FakeCluster,), {"made": []})
    monkeypatch.setattr(topology, "RedisCluster", fake)
    return fake


def in_cluster():
    return Topology("cluster", [("a", 1)], key="{s}:requests")


async def test_the_nodes_of_a_cluster_are_learned(cluster):
    """Those that the settings name may all be gone one day."""
    servers = in_cluster()
    assert await servers.resolve({"tls": False}) == ("c", 3)
    assert sorted(servers.nodes) == [("a", 1), ("b", 2), ("c", 3)]
    await servers.resolve({"tls": False})
    first, second = cluster.made
    assert first.asked == [("a", 1)]
    assert sorted(second.asked) == [("a", 1), ("b", 2), ("c", 3)]
    assert len(servers.nodes) == 3
    assert first.closed
    assert second.closed


async def test_a_cluster_is_asked_with_the_login_and_the_certificates(cluster):
    kwargs = {"username": "u", "password": "p", "ssl_ca_certs": "ca", "tls": True}
    await in_cluster().resolve({**kwargs, "socket_timeout": 60.0, "db": 0})
    options = cluster.made[0].options
    assert (options["username"], options["password"]) == ("u", "p")
    assert (options["ssl"], options["ssl_ca_certs"]) == (True, "ca")
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 3.0
    await in_cluster().resolve({"tls": False})
    assert not cluster.made[1].options.get("ssl")


@pytest.mark.parametrize(
    ("master", "error", "words"),
    [
        (None, None, "nobody serves the slot"),
        (None, RedisClusterException("no"), "no answer from the cluster"),
        (None, ValueError("no"), "no answer from the cluster"),
    ],
)
async def test_a_cluster_that_cannot_say_is_closed(cluster, master, error, words):
    cluster.master, cluster.error = master, error
    with pytest.raises(redis.ConnectionError, match=words):
        await in_cluster().resolve({"tls": False})
    assert cluster.made[0].closed


def test_the_blocking_clients_of_sentinels_wait_as_long_as_was_said():
    waits = {"socket_timeout": 1.5, "socket_connect_timeout": 2.5}
    client = get_redis_from_settings(
        Settings({"REDIS_URL": "redis+sentinel://a:1,b:2/shop", "REDIS_PARAMS": waits})
    )
    asked = client.connection_pool.sentinel_manager.sentinels
    assert len(asked) == 2
    for each in (client, *asked):
        found = each.connection_pool.connection_kwargs
        assert {name: found[name] for name in waits} == waits
