"""What the users that ``scrapy frontier help redis`` describes may do in Redis, and what they may not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import redis

from scrapy_dist import Client
from scrapy_dist.brokers.redis.version import FORMAT
from tests.support.acl import acl
from tests.support.commands import run_here
from tests.support.frontiers import member, suspect
from tests.support.project import package_parent
from tests.support.redis_state import keys_of
from tests.support.wait import wait_until

SPIDER = "books"
#: What Redis says of a command in a script, by its version.
REFUSED = r"(?i)permission|can't run|NOPERM|ACL"
#: What nobody of them may do, whoever the keys belong to.
FORBIDDEN = (
    ["FLUSHALL"],
    ["FLUSHDB"],
    ["KEYS", "*"],
    ["SCAN", "0"],
    ["CONFIG", "SET", "dir", "/tmp"],
    ["CONFIG", "GET", "*"],
    ["ACL", "SETUSER", "x", "on"],
    ["ACL", "LIST"],
    ["CLIENT", "KILL", "TYPE", "normal"],
    ["CLIENT", "LIST"],
    ["MONITOR"],
    ["DEBUG", "SLEEP", "0"],
    ["MODULE", "LIST"],
    ["SHUTDOWN", "NOSAVE"],
    ["REPLICAOF", "127.0.0.1", "1"],
    ["BGSAVE"],
    ["SCRIPT", "FLUSH"],
    ["SCRIPT", "KILL"],
    ["EVAL", "return 1", "0"],
    ["PUBLISH", "any", "x"],
    ["SUBSCRIBE", "any"],
    ["MIGRATE", "127.0.0.1", "1", "books:items", "0", "10"],
    ["RENAME", "books:items", "films:items"],
    ["COPY", "books:items", "books:copy"],
    ["SORT", "books:items", "STORE", "books:copy"],
    ["RESTORE", "books:copy", "0", "x"],
)
#: What changes something; a reader may do none of these, and a seeder few.
CHANGES = (
    ["DEL", "books:items"],
    ["UNLINK", "books:items"],
    ["LPUSH", "books:start_urls", "http://x/"],
    ["RPUSH", "books:items", "x"],
    ["LPOP", "books:items"],
    ["LREM", "books:items", "0", "x"],
    ["LMOVE", "books:items", "books:taken", "LEFT", "LEFT"],
    ["HSET", "books:state", "a", "b"],
    ["HDEL", "books:state", "active"],
    ["SADD", "books:dupefilter", "x"],
    ["ZADD", "books:requests", "0", "x"],
    ["ZREM", "books:requests", "x"],
    ["XADD", "books:failed", "*", "a", "b"],
    ["XDEL", "books:failed", "1-1"],
    ["XTRIM", "books:failed", "MAXLEN", "0"],
    ["EXPIRE", "books:items", "1"],
    ["SET", "books:x", "x"],
)


def fill(client, name: str = SPIDER) -> None:
    """A crawl that has something of everything."""
    seconds, _ = client.time()
    client.zadd(f"{name}:workers", {"1": seconds * 1000, "2": 1})
    state = {"active": 1, "pages": 42, "format": FORMAT}
    state |= {"worker:1": "host:1", "worker:2": "host:2"}
    client.hset(f"{name}:state", mapping={**state, "beat:1": json.dumps({"pages": 40})})
    client.hset(f"{name}:control", "paused", "1")
    client.zadd(f"{name}:requests", {member(b"x", n): 0 for n in range(5)})
    client.zadd(keys_of(name).slots, {"0": 1})
    client.zadd(f"{name}:leases", {f"{n:016x}": 1 for n in range(10, 13)})
    client.hset(f"{name}:leased", mapping={f"{n:016x}": "x" for n in range(10, 13)})
    client.zadd(f"{name}:suspects", {suspect(b"x", 32): 0})
    client.sadd(f"{name}:dupefilter", *range(9))
    client.rpush(f"{name}:start_urls", "http://a/")
    client.rpush(f"{name}:items", *['{"n": 1}'] * 6)
    client.xadd(
        f"{name}:failed", {"reason": "x", "kind": "seed", "payload": "http://b/"}
    )
    record = {"reason": "finished", "start": 1, "end": 2, "pages": 3}
    client.xadd(f"{name}:history", record)


@pytest.fixture
def server(make_redis):
    server = make_redis(lua_time_limit="50")
    with server.client() as client:
        fill(client)
        fill(client, f"{SPIDER}:nightly")
        fill(client, "films")
    return server


@pytest.fixture
def admin(server):
    with server.client(decode_responses=True) as client:
        yield client


@pytest.fixture
def login(server, admin):
    """Make the documented user; a client of it, and its URL."""
    clients = []

    def make(user: str, **instead: str) -> tuple[redis.Redis, str]:
        rights = [instead.get(right, right) for right in acl(user, SPIDER)]
        admin.execute_command("ACL", "SETUSER", user, "reset", "on", *rights)
        url = f"redis://{user}:password@127.0.0.1:{server.port}/0"
        clients.append(redis.Redis.from_url(url, protocol=2))
        return clients[-1], url

    yield make
    for client in clients:
        client.close()


def state_of(client) -> dict[str, object]:
    """All that is in Redis."""
    return {key: client.dump(key) for key in client.scan_iter()}


def assert_refused(client, *commands) -> None:
    for command in commands:
        with pytest.raises(redis.ResponseError, match=r"(?i)permission") as caught:
            client.execute_command(*command)
        assert isinstance(caught.value, redis.exceptions.NoPermissionError), command


def of_others(commands) -> list[list[str]]:
    return [[word.replace("books", "films") for word in words] for words in commands]


def assert_runs(url: str, *arguments: str, code: int = 0) -> str:
    found, out, err = run_here(*arguments, "--redis", url)
    assert (found, err) == (code, "")
    return out


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


# The worker; that it crawls with these rights is tested in test_acl_tls.py.


def test_worker_is_kept_from_everything_else(login, admin, server):
    client, _ = login("worker")
    with server.client() as raw:
        before = state_of(raw)
        reads = (["HGET", "books:state", "a"], ["LRANGE", "books:items", "0", "-1"])
        assert_refused(client, *FORBIDDEN, *of_others(CHANGES), *of_others(reads))
        # A script has no more rights than who runs it.
        for script in ("redis.call('flushall')", "redis.call('del', 'films:items')"):
            number = client.script_load(script)
            with pytest.raises(redis.ResponseError, match=REFUSED):
                client.evalsha(number, 0)
        assert state_of(raw) == before
    # What is warned of: all jobs of the spider.
    assert client.unlink("books:nightly:requests") == 1


def test_worker_can_block_redis_until_an_administrator_comes(login, admin):
    client, _ = login("worker")
    number = client.script_load("while true do end")
    pool = redis.ConnectionPool(**client.connection_pool.connection_kwargs)
    blocked = pool.make_connection()
    blocked.send_command("EVALSHA", number, 0)

    def busy() -> bool:
        try:
            admin.ping()
        except redis.ResponseError as e:
            return "BUSY" in str(e)
        return False

    wait_until(busy, "a Redis that is busy")
    admin.execute_command("SCRIPT KILL")
    with pytest.raises(redis.ResponseError, match=r"(?i)kill"):
        blocked.read_response()
    blocked.disconnect()
    assert admin.ping()


# Who only pushes seeds


def test_seeder_pushes_seeds(login, admin):
    client, url = login("seeder")
    with Client(url, SPIDER) as ours:
        assert ours.seed("http://d/", {"url": "http://e/", "priority": 3}) == 2
    assert_runs(url, "seed", SPIDER, "http://f/", "--new")
    assert admin.llen("books:start_urls") == 4
    assert admin.execute_command("ACL", "LOG") == []
    for kind in ("SET", "ZSET"):
        admin.unlink("books:start_urls")
        settings = {f"REDIS_START_URLS_AS_{kind}": True}
        with Client(url, SPIDER, settings=settings) as ours:
            assert ours.seed("http://g/") == 1
        assert admin.type("books:start_urls") == kind.lower()
    assert admin.execute_command("ACL", "LOG") == []
    admin.unlink("books:start_urls")
    assert client.lpush("books:start_urls", "http://c/") == 1


def test_seeder_does_nothing_else(login, admin, server):
    client, url = login("seeder")
    pushes = (["LPUSH", "books:start_urls", "http://x/"],)
    reads = (
        ["LRANGE", "books:start_urls", "0", "-1"],
        ["LPOP", "books:start_urls"],
        ["LINDEX", "books:start_urls", "0"],
        ["DEL", "books:start_urls"],
        ["HGETALL", "books:state"],
        ["HGET", "books:control", "paused"],
        ["ZRANGE", "books:requests", "0", "-1"],
        ["XRANGE", "books:failed", "-", "+"],
        ["TYPE", "books:items"],
        ["SCRIPT", "LOAD", "return 1"],
        ["EVALSHA", "0" * 40, "0"],
    )
    changes = [each for each in CHANGES if each not in pushes]
    with server.client() as raw:
        before = state_of(raw)
        assert_refused(client, *FORBIDDEN, *changes, *reads, *of_others(pushes))
        # That key is there for one question; it is no list.
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            client.rpush("books:state", "x")
        assert state_of(raw) == before
    code, _, err = run_here("status", SPIDER, "--redis", url)
    assert code == 2
    assert "permission" in err
    # What is warned of, as long as no crawl has begun.
    admin.unlink("books:state")
    assert client.rpush("books:state", "x") == 1
    if int(admin.info("server")["redis_version"].split(".")[0]) >= 7:
        admin.unlink("books:state")
        client, url = login("seeder", **{"~books:state": "%R~books:state"})
        assert_refused(client, ["RPUSH", "books:state", "x"])
        with Client(url, SPIDER) as ours:
            assert ours.seed("http://d/") == 1


# Who only looks


def test_reader_reads(login, admin):
    _, url = login("reader")
    for arguments in (
        ["status", SPIDER],
        ["status", SPIDER, "--json"],
        ["workers", SPIDER],
        ["history", SPIDER],
        ["failed", SPIDER],
        ["peek", SPIDER],
        ["hosts", SPIDER],
        ["metrics", SPIDER, "--once"],
    ):
        assert assert_runs(url, *arguments)
    top = subprocess.Popen(
        [sys.executable, "-m", "scrapy", "frontier", "top", SPIDER],
        env={**os.environ, "REDIS_URL": url, "PYTHONPATH": package_parent()},
        stdout=subprocess.PIPE,
        text=True,
    )
    with top:
        assert top.stdout.readline().split()[2] == SPIDER
        top.terminate()
    with Client(url, SPIDER) as ours:
        assert ours.status().pending == 5
        assert len(ours.failed()) == 1
        assert len(ours.history()) == 1
        assert not ours.wait_drained(0)
    assert admin.execute_command("ACL", "LOG") == []


def test_reader_changes_nothing(login, admin, server):
    client, url = login("reader")
    with server.client() as raw:
        before = state_of(raw)
        assert_refused(client, *FORBIDDEN, *CHANGES, *of_others(CHANGES))
        assert_refused(client, ["HGET", "films:state", "pages"])
        number = client.script_load("return redis.call('del', KEYS[1])")
        with pytest.raises(redis.ResponseError, match=REFUSED):
            client.evalsha(number, 1, "books:items")
        for arguments in (
            ["pause", SPIDER],
            ["clear", SPIDER, "--yes"],
            ["retry", SPIDER, "--all"],
            ["forget", SPIDER, "--all"],
            ["seed", SPIDER, "http://x/"],
            ["recrawl", SPIDER, "http://x/"],
        ):
            code, _, err = run_here(*arguments, "--redis", url)
            assert code != 0, arguments
            assert "Traceback" not in err
            assert "password" not in err
        with Client(url, SPIDER) as ours:
            for change in (lambda: ours.seed("http://x/"), lambda: list(ours.items())):
                with pytest.raises(Exception, match=r"(?i)permission|refuse"):
                    change()
        assert state_of(raw) == before


# Who takes items


def test_taker_takes_items(login, admin):
    client, url = login("taker")
    with Client(url, SPIDER) as ours:
        assert len(list(ours.items())) == 6
        assert ours.seed("http://d/") == 1
        assert ours.status().items == 0
        assert ours.forget(ours.failed()).deleted == 1
        assert not ours.wait_drained(0)
        assert len(ours.history()) == 1
    assert admin.execute_command("ACL", "LOG") == []
    assert_refused(client, *FORBIDDEN, *of_others(CHANGES))
    assert_refused(client, ["ZREM", "books:requests", "x"], ["UNLINK", "books:items"])
