"""Settings of Sentinel and Cluster: what they mean, and what is wrong with others."""

from __future__ import annotations

import traceback

import pytest
import redis
import redis.cluster
from redis.crc import key_slot
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.keys import Keys, tagged
from scrapy_dist.connection import get_redis_from_settings
from scrapy_dist.exceptions import ConfigurationError, FrontierError, RedisUnavailable
from scrapy_dist.redis_client import topology
from scrapy_dist.redis_client.client import describe, open_client
from scrapy_dist.redis_client.topology import split_url, topology_from_settings
from tests.support.redis_server import free_port
from tests.support.tls import Scripted


@pytest.mark.parametrize(
    ("url", "plain", "shown"),
    [
        (
            "redis+sentinel://u:p%40w@a:1,b/shop/3?socket_timeout=2",
            "redis://u:p%40w@a:1/3?socket_timeout=2",
            "redis+sentinel://a:1,b:26379/shop",
        ),
        ("rediss+sentinel://a/shop", "rediss://a:26379/0", "redis+sentinel://a:26379/shop"),
        ("redis+cluster://:pw@a:7000,[::1]:7001", "redis://:pw@a:7000/0", "redis+cluster://a:7000,[::1]:7001"),
        ("redis+cluster://[::1],[fe80::1%25eth0]:7001/0", "redis://[::1]:6379/0", "redis+cluster://[::1]:6379,[fe80::1%25eth0]:7001"),
        ("redis+sentinel://[::1]:1,[::2]:2/shop", "redis://[::1]:1/0", "redis+sentinel://[::1]:1,[::2]:2/shop"),
        ("redis+cluster://a/0", "redis://a:6379/0", "redis+cluster://a:6379"),
    ],
)  # fmt: skip
def test_urls(url, plain, shown):
    found, topology = split_url(url)
    assert found == plain
    assert str(topology) == shown


def test_brackets_are_not_for_urlsplit(monkeypatch):
    """Newer Pythons refuse brackets that are not around the whole host."""
    plain = topology.urlsplit

    def urlsplit(url):
        netloc = url.partition("://")[2].partition("/")[0]
        if "[" in netloc.rpartition("@")[2]:
            raise ValueError("Invalid IPv6 URL")
        return plain(url)

    monkeypatch.setattr(topology, "urlsplit", urlsplit)
    _, found = split_url("redis+cluster://:pw@a:7000,[::1]:7001")
    assert found.nodes == [("a", 7000), ("::1", 7001)]
    settings = Settings({"REDIS_CLUSTER": "[::1]:7000,b,[::2]"})
    nodes = topology_from_settings(settings).nodes
    assert nodes == [("::1", 7000), ("b", 6379), ("::2", 6379)]


def test_another_url_is_left_alone():
    assert split_url("redis://:pw@a:1/2") == ("redis://:pw@a:1/2", None)
    assert topology_from_settings(Settings({"REDIS_URL": "unix:///a.sock"})) is None
    assert topology_from_settings(Settings({"REDIS_HOST": "a"})) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"REDIS_SENTINELS": [("a", 1), ("b", "2")], "REDIS_SENTINEL_MASTER": "shop"},
        {"REDIS_SENTINELS": "a:1, b:2", "REDIS_SENTINEL_MASTER": "shop"},
        {"REDIS_SENTINELS": ["a:1", "b:2"], "REDIS_SENTINEL_MASTER": "shop"},
    ],
)
def test_sentinels_as_settings(settings):
    assert str(topology_from_settings(Settings(settings))) == (
        "redis+sentinel://a:1,b:2/shop"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"REDIS_URL": "redis+sentinel://:secret@a:1"}, ["REDIS_URL", "mymaster"]),
        ({"REDIS_URL": "redis+sentinel://a:x/m"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis+sentinel://a/m/x"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis+sentinel://a/m/0/y"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis+sentinel:///m"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis+cluster://[::1"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis+cluster://::1"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis+cluster://[a]:1"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis+cluster://a,,b"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis+swarm://a"}, ["REDIS_URL", "swarm"]),
        ({"REDIS_URL": "redis+cluster://:secret@a/1"}, ["REDIS_URL", "database 0"]),
        ({"REDIS_CLUSTER": "a", "REDIS_DB": 2}, ["REDIS_DB = 2", "database 0"]),
        ({"REDIS_CLUSTER": [("a", 0)]}, ["REDIS_CLUSTER", "host1"]),
        ({"REDIS_CLUSTER": 7}, ["REDIS_CLUSTER = 7"]),
        ({"REDIS_SENTINELS": [("", 1)]}, ["REDIS_SENTINELS", "26379"]),
        (
            {"REDIS_SENTINELS": "a", "REDIS_SENTINEL_MASTER": ""},
            ["REDIS_SENTINEL_MASTER = ''"],
        ),
        (
            {"REDIS_SENTINELS": "a", "REDIS_URL": "redis://b"},
            ["REDIS_SENTINELS and REDIS_URL"],
        ),
        (
            {"REDIS_SENTINELS": "a", "REDIS_PARAMS": {"sentinel_kwargs": "pw"}},
            ["sentinel_kwargs"],
        ),
        (
            {"REDIS_CLUSTER": "a", "REDIS_PARAMS": {"no_such_argument": 1}},
            ["no_such_argument"],
        ),
    ],
)
async def test_wrong_settings(settings, words):
    with pytest.raises(ConfigurationError) as caught:
        await open_client(Settings(settings), "{s}:requests")
    for word in words:
        assert word in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_nobody_there():
    port = free_port()
    for url in (
        f"redis+sentinel://:secret@127.0.0.1:{port}/shop",
        f"redis+cluster://:secret@127.0.0.1:{port}",
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scrapy_dist.redis_client.fitness.LOADING_TIMEOUT", 0.2)
            with pytest.raises(RedisUnavailable) as caught:
                await open_client(Settings({"REDIS_URL": url}), "{s}:requests")
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_keys_of_a_cluster_share_a_slot():
    settings = Settings({"REDIS_CLUSTER": "a:1"})
    keys = Keys.from_settings(settings, "shop")
    assert keys.requests == "{shop}:requests"
    assert len({key_slot(key.encode()) for key in vars(keys).values()}) == 1
    assert tagged(settings, "shop") == "{shop}"
    assert tagged(Settings(), "shop") == "shop"
    assert Keys.from_settings(Settings(), "shop").requests == "shop:requests"


def test_key_in_another_slot_is_named():
    settings = Settings({"REDIS_CLUSTER": "a:1", "REDIS_ITEMS_KEY": "all-items"})
    with pytest.raises(ConfigurationError, match=r"'all-items' \(REDIS_ITEMS_KEY\)"):
        Keys.from_settings(settings, "shop")


def test_own_hash_tags_are_fine():
    names = ("SCHEDULER_QUEUE_KEY", "REDIS_ITEMS_KEY", "STATS_KEY")
    templates = {name: f"{{crawl}}:{name}:%(spider)s" for name in names}
    settings = Settings({"REDIS_CLUSTER": "a:1", **templates})
    with pytest.raises(ConfigurationError, match="one slot"):
        Keys.from_settings(settings, "shop")


def test_description_has_no_password():
    settings = Settings({"REDIS_URL": "redis+sentinel://u:secret@a:1,b:2/shop/3"})
    assert describe(settings) == "redis+sentinel://a:1,b:2/shop/3"
    settings = Settings({"REDIS_URL": "redis+cluster://u:secret@a:1,b:2"})
    assert describe(settings) == "redis+cluster://a:1,b:2"


def test_blocking_client_of_sentinels():
    settings = Settings(
        {
            "REDIS_URL": "redis+sentinel://u:pw@a:1,b:2/shop/3",
            "REDIS_PARAMS": {"sentinel_kwargs": {"password": "other"}},
        }
    )
    client = get_redis_from_settings(settings)
    assert type(client) is redis.Redis
    pool = client.connection_pool
    assert isinstance(pool, redis.sentinel.SentinelConnectionPool)
    assert pool.service_name == "shop"
    assert (pool.connection_kwargs["password"], pool.connection_kwargs["db"]) == (
        "pw",
        3,
    )
    [first, _] = pool.sentinel_manager.sentinels
    assert first.connection_pool.connection_kwargs["password"] == "other"


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_server_that_repeats_the_password(kind, monkeypatch):
    """Nowhere in the errors that a program may show with their causes."""
    monkeypatch.setattr("scrapy_dist.redis_client.fitness.LOADING_TIMEOUT", 0.1)
    refusal = b"-ERR unknown command 'AUTH', with args beginning with: 'pa55word' \r\n"
    server = Scripted(lambda words, new: refusal if words[0] == "AUTH" else None)
    settings = {
        "REDIS_URL": f"redis+{kind}://:pa55word@127.0.0.1:{server.port}"
        + ("/shop" if kind == "sentinel" else ""),
        "REDIS_PARAMS": {"sentinel_kwargs": {"password": "pa55word"}},
    }
    if kind == "cluster":
        del settings["REDIS_PARAMS"]
    try:
        with pytest.raises(FrontierError) as caught:
            await open_client(Settings(settings), "{s}:requests")
    finally:
        server.close()
    shown = "".join(traceback.format_exception(caught.value))
    assert "unknown command" in shown
    assert "pa55word" not in shown


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
@pytest.mark.parametrize(
    "reply", [b"+OK", b":1", b"$-1", b"*0", b"*1\r\n:1", b"*1\r\n*3\r\n:0\r\n:1\r\n:2"]
)
async def test_reply_that_makes_no_sense(kind, reply, monkeypatch):
    """One error as for a server that does not answer; none of redis-py's own."""
    monkeypatch.setattr("scrapy_dist.redis_client.fitness.LOADING_TIMEOUT", 0.1)
    asked = ("SENTINEL", "CLUSTER")
    server = Scripted(
        lambda words, new: reply + b"\r\n" if words[0].upper() in asked else None
    )
    path = "/shop" if kind == "sentinel" else ""
    url = f"redis+{kind}://127.0.0.1:{server.port}{path}"
    try:
        with pytest.raises(RedisUnavailable):
            await open_client(Settings({"REDIS_URL": url}), "{s}:requests")
    finally:
        server.close()
