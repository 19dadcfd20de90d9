"""TLS to Redis, to sentinels and to a cluster: who is not who they say is refused."""

from __future__ import annotations

import contextlib

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from scrapy.settings import Settings

from scrapy_dist.connection import get_redis_from_settings
from scrapy_dist.exceptions import ConfigurationError, FrontierError
from scrapy_dist.redis_client.client import close_client, open_client
from tests.support.tls import Authority, TlsProxy, sentinel_of
from tests.support.topologies import free_cluster_port
from tests.support.wait import wait_until

KEY = "{s}:requests"
#: For a server that waits for more: it speaks no TLS.
QUICK = {"socket_connect_timeout": 1, "socket_timeout": 1}
NAMED = ("127.0.0.1",)
ELSEWHERE = ("redis.example.org",)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """What is wrong is not asked for again and again."""
    monkeypatch.setattr("scrapy_dist.redis_client.fitness.LOADING_TIMEOUT", 0.1)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ours")


@pytest.fixture
def serve(tmp_path, redis_server, authority):
    """Make a TLS server in front of Redis, or of what listens at another port."""
    with contextlib.ExitStack() as stack:

        def make(names=NAMED, port=None, by=authority):
            port = port or redis_server.port
            proxy = TlsProxy(tmp_path, port, by, names)
            stack.callback(proxy.close)
            return proxy

        make.foreign = Authority(tmp_path / "foreign")
        yield make


@pytest.fixture
def sentinel():
    with contextlib.ExitStack() as stack:

        def make(port, host="127.0.0.1"):
            server = sentinel_of(host, port)
            stack.callback(server.close)
            return server

        yield make


async def reach(url: str, **params: object) -> None:
    """Both clients of those settings work."""
    settings = Settings({"REDIS_URL": url, "REDIS_PARAMS": params})
    client = await open_client(settings, KEY)
    await close_client(client)
    blocking = get_redis_from_settings(settings)
    try:
        assert blocking.ping()
    finally:
        blocking.close()


async def refused(url: str, *words: str, **params: object) -> str:
    """Neither client of those settings works; the frontier's says *words*."""
    params["retry"] = Retry(NoBackoff(), 0)
    settings = Settings({"REDIS_URL": url, "REDIS_PARAMS": params})
    with pytest.raises(FrontierError) as caught:
        await open_client(settings, KEY)
    for word in words:
        assert word in str(caught.value)
    assert "pa55word" not in str(caught.value)
    with pytest.raises(redis.RedisError):
        get_redis_from_settings(settings).ping()
    return str(caught.value)


def url(port: int, query: str = "", kind: str = "", tail: str = "/0") -> str:
    return f"rediss{kind}://:pa55word@127.0.0.1:{port}{tail}{query}"


@pytest.fixture(autouse=True)
def login(redis_server):
    with redis_server.client() as client:
        client.execute_command("CONFIG SET", "requirepass", "pa55word")
    yield
    with redis_server.client(password="pa55word") as client:
        client.execute_command("CONFIG SET", "requirepass", "")


async def test_name_in_the_certificate_is_checked(serve, authority):
    ca = {"ssl_ca_certs": str(authority.path)}
    await reach(url(serve().port), **ca)
    await reach(url(serve().port, f"?ssl_ca_certs={authority.path}"))
    wrong = serve(ELSEWHERE)
    await refused(url(wrong.port), "certificate", "127.0.0.1", **ca)
    await refused(url(wrong.port), ssl_check_hostname=True, **ca)
    await refused(url(wrong.port), ssl_cert_reqs="optional", **ca)
    await refused(url(wrong.port, f"?ssl_ca_certs={authority.path}"))
    assert wrong.met == 0


async def test_other_ways_to_say_tls(serve, authority):
    ca = {"ssl_ca_certs": str(authority.path), "ssl": True, "password": "pa55word"}
    ca["retry"] = Retry(NoBackoff(), 0)
    for names, works in ((NAMED, True), (ELSEWHERE, False)):
        given = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": serve(names).port}
        settings = Settings({**given, "REDIS_PARAMS": ca})
        if works:
            await close_client(await open_client(settings, KEY))
            assert get_redis_from_settings(settings).ping()
        else:
            with pytest.raises(ConfigurationError, match="certificate"):
                await open_client(settings, KEY)
            with pytest.raises(redis.ConnectionError):
                get_redis_from_settings(settings).ping()


async def test_what_the_user_chose_is_honoured(serve, authority):
    ca = {"ssl_ca_certs": str(authority.path)}
    port = serve(ELSEWHERE).port
    await reach(url(port), ssl_check_hostname=False, **ca)
    await reach(url(port, "?ssl_check_hostname=False"), **ca)
    await reach(url(port), ssl_check_hostname="false", **ca)
    await reach(url(port, "?ssl_check_hostname=no"), ssl_check_hostname=True, **ca)
    foreign = serve(ELSEWHERE, by=serve.foreign).port
    await reach(url(foreign), ssl_cert_reqs="none")
    await reach(url(foreign), ssl_cert_reqs=None)
    await reach(url(foreign, "?ssl_cert_reqs=none"))
    await refused(url(foreign), ssl_check_hostname=False, **ca)


async def test_contradiction_is_refused(serve):
    settings = Settings(
        {
            "REDIS_URL": url(serve().port),
            "REDIS_PARAMS": {"ssl_check_hostname": True, "ssl_cert_reqs": "none"},
        }
    )
    with pytest.raises(ConfigurationError, match="Remove one"):
        await open_client(settings)
    settings.set("REDIS_PARAMS", {"ssl_cert_reqs": "maybe"})
    with pytest.raises(ConfigurationError, match=r"'maybe'.*'required'"):
        await open_client(settings)


async def test_foreign_authority(serve, authority):
    foreign = serve(by=serve.foreign)
    ca = {"ssl_ca_certs": str(authority.path)}
    await refused(url(foreign.port), "certificate", "ssl_ca_certs", **ca)
    assert foreign.met == 0


# Sentinels


async def test_sentinels_speak_tls_too(serve, sentinel, authority):
    ca = {"ssl_ca_certs": str(authority.path)}
    asked = sentinel(serve().port)
    tls = serve(port=asked.port)

    await reach(url(tls.port, kind="+sentinel", tail="/shop"), **ca)

    assert tls.met >= 2
    assert asked.asked["SENTINEL"] == 2


async def test_plain_sentinel_is_not_asked(serve, sentinel, authority):
    ca = {"ssl_ca_certs": str(authority.path)}
    asked = sentinel(serve().port)
    plain = url(asked.port, kind="+sentinel", tail="/shop")

    await refused(plain, **ca, **QUICK)
    assert asked.asked["SENTINEL"] == 0

    await reach(plain, sentinel_kwargs={"ssl": False}, **ca)


@pytest.mark.parametrize("what", ["name", "authority"])
async def test_sentinel_that_is_not_who_it_says(serve, sentinel, authority, what):
    ca = {"ssl_ca_certs": str(authority.path)}
    asked = sentinel(serve().port)
    names, by = (ELSEWHERE, authority) if what == "name" else (NAMED, serve.foreign)
    tls = serve(names, asked.port, by)
    there = url(tls.port, kind="+sentinel", tail="/shop")

    await refused(there, "TLS", "certificate", "sentinel", **ca)
    assert tls.met == 0

    await reach(there, sentinel_kwargs={"ssl_cert_reqs": "none"}, **ca)
    if what == "name":
        await reach(there, sentinel_kwargs={"ssl_check_hostname": False}, **ca)


@pytest.mark.parametrize("what", ["name", "authority", "plain"])
async def test_sentinel_that_names_another_master(
    serve, sentinel, authority, redis_server, what
):
    """Nothing is sent there, no password above all."""
    ca = {"ssl_ca_certs": str(authority.path)}
    other = serve(
        ELSEWHERE if what == "name" else NAMED,
        by=serve.foreign if what == "authority" else authority,
    )
    lie = sentinel(redis_server.port if what == "plain" else other.port)
    tls = serve(port=lie.port)

    params = {**ca, **QUICK} if what == "plain" else ca
    await refused(url(tls.port, kind="+sentinel", tail="/shop"), **params)

    assert lie.asked["SENTINEL"] >= 1
    assert other.met == 0


async def test_sentinel_that_names_no_address(serve, sentinel, authority):
    ca = {"ssl_ca_certs": str(authority.path)}
    for host, port in (("u:p@h", 1), ("h", 0), ("", 1)):
        tls = serve(port=sentinel(port, host).port)
        settings = Settings(
            {
                "REDIS_URL": url(tls.port, kind="+sentinel", tail="/shop"),
                "REDIS_PARAMS": ca,
            }
        )
        with pytest.raises(FrontierError, match="no address"):
            await open_client(settings, KEY)


async def test_tls_to_sentinels_only(serve, sentinel, authority, redis_server):
    asked = sentinel(redis_server.port)
    for names, works in ((NAMED, True), (ELSEWHERE, False)):
        tls = serve(names, asked.port)
        plain = url(tls.port, kind="+sentinel", tail="/shop").replace("rediss", "redis")
        kwargs = {"ssl": True, "ssl_ca_certs": str(authority.path)}
        if works:
            await reach(plain, sentinel_kwargs=kwargs)
        else:
            await refused(plain, sentinel_kwargs=kwargs)


# Cluster


async def test_cluster(make_redis, serve, authority):
    port = free_cluster_port()
    named, wrong = serve(NAMED, port), serve(ELSEWHERE, port)
    node = make_redis(
        port=port,
        cluster_enabled="yes",
        cluster_announce_ip="127.0.0.1",
        cluster_announce_port=str(named.port),
    )
    with node.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        wait_until(
            lambda: client.cluster("info")["cluster_state"] == "ok", "the cluster"
        )
        client.execute_command("ACL SETUSER", "default", ">pa55word")
    params = {"ssl_ca_certs": str(authority.path), "retry": Retry(NoBackoff(), 0)}
    await reach(url(named.port, kind="+cluster", tail=""), **params)

    there = url(wrong.port, kind="+cluster", tail="")
    settings = Settings({"REDIS_URL": there, "REDIS_PARAMS": params})
    with pytest.raises(FrontierError):
        await open_client(settings, KEY)
    with pytest.raises((redis.RedisError, redis.exceptions.RedisClusterException)):
        get_redis_from_settings(settings)
    assert wrong.met == 0
    await reach(there, ssl_check_hostname=False, **params)


async def test_argument_that_a_cluster_does_not_take():
    settings = Settings(
        {
            "REDIS_URL": "rediss+cluster://h",
            "REDIS_PARAMS": {"ssl_password": "pa55word"},
        }
    )
    with pytest.raises(ConfigurationError, match="ssl_password") as caught:
        await open_client(settings, KEY)
    assert "pa55word" not in str(caught.value)
