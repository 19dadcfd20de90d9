"""``scrapy_dist.Client``: from scripts, threads and event loops alike."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import subprocess
import sys
import threading
import time

import pytest
from scrapy.settings import Settings

import scrapy_dist
from scrapy_dist import Client
from scrapy_dist.base.blocking import LoopThread
from scrapy_dist.exceptions import BadSeed, ConfigurationError, RedisUnavailable
from scrapy_dist.redis_client.client import CLIENT_NAME
from tests.support.redis_server import free_port
from tests.support.redis_state import count_items
from tests.support.wait import wait_until

URL = "http://site.example/"


@pytest.fixture
def connect(redis_server):
    """Makes clients of the empty Redis, which are closed at the end."""
    clients = []

    def make(spider="s", **options):
        clients.append(Client(redis_server.url, spider, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def server(redis_server):
    with redis_server.client() as client:
        yield client


def test_client_that_lives_long_sees_that_the_frontier_has_become_another(
    connect, server, monkeypatch
):
    client = connect()
    client.seed(URL)
    server.hset("s:state", "format", 99)
    monkeypatch.setattr("scrapy_dist.admin.async_client._CHECK_AGAIN", 0.0)
    client._client._check_at = 0.0
    with pytest.raises(ConfigurationError, match="has format 99"):
        client.seed(URL)
    server.hdel("s:state", "format")
    client.seed(URL)
    assert server.llen("s:start_urls") == 2


def threads():
    return [t for t in threading.enumerate() if t.name == "scrapy-dist client"]


def connections(server):
    return sum(found["name"] == CLIENT_NAME for found in server.client_list())


def put(server, *numbers, key="s:items"):
    server.rpush(key, *(json.dumps({"n": n}) for n in numbers))


def numbers(items):
    return [item["n"] for item in items]


def dead_letter(server, url, reason, kind="request"):
    payload = json.dumps({"url": url}) if kind == "request" else url
    return server.xadd(
        "s:failed",
        {
            "payload": payload,
            "reason": reason,
            "worker": "host:1",
            "deliveries": 1,
            "time": 1_700_000_000_000,
            "kind": kind,
        },
    ).decode()


# Seeds


def test_seeds_are_pushed_in_their_order(connect, server):
    client = connect()
    assert client.seed(f"{URL}1", {"url": f"{URL}2", "priority": 3}) == 2
    assert client.seed(f"{URL}3", meta={"shop": 7}, priority=10) == 1
    first, second, third = server.lrange("s:start_urls", 0, -1)
    assert first.decode() == f"{URL}1"
    assert json.loads(second) == {"url": f"{URL}2", "priority": 3}
    assert json.loads(third) == {"url": f"{URL}3", "meta": {"shop": 7}, "priority": 10}
    assert client.seed() == 0


def test_bad_seed_is_named_and_those_before_it_are_pushed(connect, server):
    client = connect()
    with pytest.raises(ValueError, match="scheme 'ftp'") as caught:
        client.seed(f"{URL}1", "ftp://site.example/", f"{URL}3")
    assert isinstance(caught.value, BadSeed)
    assert server.lrange("s:start_urls", 0, -1) == [f"{URL}1".encode()]
    with pytest.raises(ValueError, match="proxy"):
        client.seed(f"{URL}2", meta={"proxy": "http://evil.example"})
    assert server.llen("s:start_urls") == 1


def test_many_seeds_are_read_bit_by_bit_in_the_thread_of_the_caller(connect, server):
    seen = []

    def urls():
        for n in range(1201):
            seen.append((threading.current_thread(), server.llen("s:start_urls")))
            yield f"{URL}{n}"

    assert connect().seed_many(urls()) == 1201
    assert server.llen("s:start_urls") == 1201
    assert {thread for thread, _ in seen} == {threading.current_thread()}
    # What was read is in Redis before the last is read.
    assert seen[-1][1] == 1000


@pytest.mark.parametrize("seeds", [URL, URL.encode(), {"url": URL}])
def test_one_seed_is_not_taken_for_many(connect, seeds):
    with pytest.raises(TypeError, match="seed\\(\\)"):
        connect().seed_many(seeds)


@pytest.mark.keeps("seeds:s:nightly", reason="REDIS_START_URLS_KEY names it")
def test_settings_name_the_keys_and_the_rules(connect, server):
    settings = {
        "REDIS_START_URLS_KEY": "seeds:%(name)s",
        "REDIS_START_URLS_AS_SET": True,
        "FRONTIER_SEED_SCHEMES": ["http", "ftp"],
    }
    for given in (settings, Settings(settings)):
        client = connect(job="nightly", settings=given)
        client.seed("ftp://site.example/")
    assert server.smembers("seeds:s:nightly") == {b"ftp://site.example/"}
    assert client.job == "nightly"


# How it stands


def test_status_is_that_of_the_spider_and_the_job(connect):
    client = connect(job="nightly")
    client.seed(URL, URL)
    status = client.status()
    assert (status.spider, status.job, status.seeds) == ("s", "nightly", 2)
    assert connect().status().seeds == 0


def test_wait_ends_when_nothing_is_left(connect, server):
    client = connect()
    assert client.wait_drained()
    client.seed(URL)
    began = time.monotonic()
    assert not client.wait_drained(timeout=0)
    assert not client.wait_drained(timeout=0.1)
    assert time.monotonic() - began >= 0.1
    threading.Timer(0.1, server.delete, ["s:start_urls"]).start()
    assert client.wait_drained(timeout=20)


@pytest.mark.parametrize("key", ["s:requests", "s:suspects", "s:leases"])
def test_requests_in_any_place_are_waited_for(connect, server, key):
    server.zadd(key, {"0000000000000001": 0})
    assert not connect().wait_drained(timeout=0)


# Dead letters


def test_dead_letters_are_listed_put_back_and_deleted(connect, server):
    client = connect()
    assert client.failed() == []
    ids = [dead_letter(server, f"{URL}{n}", f"reason {n}") for n in range(5)]
    seed = dead_letter(server, URL, "bad", kind="seed")
    assert [letter.id for letter in client.failed()] == [seed, *reversed(ids)]
    assert [letter.id for letter in client.failed(2)] == [seed, ids[4]]
    assert client.failed(0) == []
    [letter] = client.failed(reason="REASON 3")
    assert (letter.url, letter.kind) == (f"{URL}3", "request")

    assert client.retry([letter, ids[0]]).requests == 2
    assert client.retry(seed).seeds == 1
    assert client.forget(ids[1]).deleted == 1
    assert client.forget([ids[1]]).missing == 1
    assert [letter.id for letter in client.failed(None)] == [ids[4], ids[2]]
    assert client.status().pending == 2
    assert server.lrange("s:start_urls", 0, -1) == [URL.encode()]
    with pytest.raises(ConfigurationError, match="is no ID"):
        client.retry("x")


# Control and requests


def test_crawl_is_steered_from_a_program(connect, server):
    client = connect()
    client.seed(URL)
    assert (client.pause().before, client.pause().before) == (False, True)
    assert client.status().paused
    assert client.resume().before
    assert client.stop("all") == 0
    [queued] = client.recrawl(f"{URL}page", priority=3)
    assert (queued.queued, queued.place) == (True, "pending")
    [left_alone] = client.recrawl([f"{URL}page"])
    assert (left_alone.queued, left_alone.before) == (False, 0)
    [shown] = client.peek()
    assert (shown.fields["url"], shown.fields["priority"]) == (f"{URL}page", 3)
    assert client.explain(f"{URL}page").place == "pending"
    assert client.explain(f"{URL}other").place == "unknown"
    assert client.peek(0) == []
    [host] = client.hosts().hosts
    assert (host.name, host.pending, host.leased, host.wait) == (
        "site.example",
        1,
        0,
        0,
    )
    assert client.hosts(0).hosts == ()
    assert client.clear("requests").deleted == {"pending": 1, "leased": 0, "suspect": 0}
    assert client.explain(f"{URL}page").place == "done"
    assert client.clear("dupefilter", "seeds").deleted == {"seen": 1, "seeds": 1}
    assert client.clear().done
    assert server.keys("*") == []


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.clear("everything"),
        lambda client: client.explain("example.org"),
        lambda client: client.failed(-1),
        lambda client: client.failed(reason=5),
        lambda client: client.forget(5),
        lambda client: client.items(consumer=7),
        lambda client: client.peek("3"),
        lambda client: client.hosts("3"),
        lambda client: client.hosts(3, sort="size"),
        lambda client: client.recrawl([URL], priority="high"),
        lambda client: client.retry(None),
        lambda client: client.stop("web9:1"),
        lambda client: client.stop(None),
    ],
)
def test_wrong_argument_is_one_error(connect, call):
    client = connect()
    client.seed(URL)
    with pytest.raises(ConfigurationError) as caught:
        call(client)
    assert "\n" not in str(caught.value)


def test_nobody_steers_a_crawl_that_is_not_there(connect, server):
    client = connect("misspelt")
    for call in (client.pause, client.resume, lambda: client.stop("all")):
        with pytest.raises(ConfigurationError, match="no frontier of a spider"):
            call()
    assert server.keys("*") == []


# Items


def test_items_come_as_dicts_and_are_gone_afterwards(connect, server):
    put(server, *range(250))
    server.rpush("s:items", b"\xff")
    items = list(connect().items())
    assert numbers(items[:-1]) == list(range(250))
    assert items[-1] == b"\xff"
    assert server.keys("*") == []


def test_item_is_acknowledged_by_going_on(connect, server, monkeypatch):
    monkeypatch.setattr("scrapy_dist.admin.items._ACKNOWLEDGE_AFTER", 0)
    put(server, 1, 2, 3)
    client = connect()
    items = client.items()
    assert next(items) == {"n": 1}
    assert next(items) == {"n": 2}
    # The program dies here.
    assert numbers(connect().items()) == [2, 3]
    with pytest.raises(ConfigurationError, match="taken over"):
        next(items)


def test_quick_reader_acknowledges_some_items_at_a_time(connect, server):
    put(server, *range(100))
    items = connect().items()
    for _ in range(60):
        next(items)
    # 1, 4 and 16 items, then 64 of which 39 were given.
    assert server.llen("s:items:taken:default") == 1 + 64


def test_reader_may_acknowledge_itself(connect, server):
    put(server, *range(10))
    client = connect()
    items = client.items(acknowledge=False)
    assert numbers(itertools.islice(items, 3)) == [0, 1, 2]
    items.ack()
    assert numbers(items) == list(range(3, 10))
    assert list(items) == []
    assert server.llen("s:items:taken:default") == 1 + 7
    items.ack()
    assert server.keys("*") == []


def test_what_is_not_acknowledged_goes_back_in_front(connect, server):
    put(server, *range(10))
    with connect() as client:
        for item in client.items():
            if item["n"] == 4:
                break
    assert not server.exists("s:items:taken:default")
    assert numbers(connect().items(consumer="other")) == list(range(4, 10))


def test_closed_items_are_at_their_end(connect, server):
    put(server, 1, 2)
    with connect().items() as items:
        next(items)
    assert list(items) == []
    items.close()
    assert count_items(server, "s") == 2


def test_items_are_followed_while_the_crawl_goes_on(connect, server):
    client = connect()
    client.seed(URL)
    found = []

    def follow():
        for item in client.items(follow=True):
            found.append(item["n"])

    thread = threading.Thread(target=follow)
    thread.start()
    for n in range(3):
        put(server, n)
        wait_until(lambda n=n: found == list(range(n + 1)), f"item {n}")
    assert thread.is_alive()
    server.delete("s:start_urls")
    thread.join(20)
    assert not thread.is_alive()
    assert server.keys("*") == []


def test_following_ends_after_its_timeout(connect):
    client = connect()
    client.seed(URL)
    assert list(client.items(follow=True, timeout=0.05)) == []


def test_items_of_another_list_are_named_by_the_setting(connect, server):
    put(server, 1, key="books")
    assert numbers(connect(settings={"REDIS_ITEMS_KEY": "books"}).items()) == [1]


def test_consumer_must_be_a_name(connect):
    with pytest.raises(ValueError, match="consumer = 'a b'"):
        connect().items(consumer="a b")


# Threads and loops


async def test_client_works_inside_another_event_loop(connect):
    client = connect()
    assert client.seed(URL) == 1
    assert client.status().seeds == 1
    assert (await asyncio.to_thread(client.status)).seeds == 1


def test_threads_share_a_client(connect, server):
    client = connect()
    errors = []

    def work(n):
        try:
            for i in range(20):
                client.seed(f"{URL}{n}/{i}")
                client.status()
        except Exception as e:
            errors.append(e)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert errors == []
    assert server.llen("s:start_urls") == 160


def test_close_ends_the_thread_and_the_connections(connect, server):
    before = len(threads())
    client = connect()
    assert len(threads()) == before + 1
    assert connections(server) == 1
    client.close()
    client.close()
    assert len(threads()) == before
    wait_until(lambda: connections(server) == 0, "no connection")
    with pytest.raises(RuntimeError, match="closed"):
        client.status()
    with pytest.raises(RuntimeError, match="closed"):
        next(client.items())


def test_close_ends_calls_that_wait_in_other_threads(connect, monkeypatch):
    client = connect()
    client.seed(URL)
    outcomes, begun, run = [], [], client._thread.run

    def noting(work, **options):
        caller = threading.current_thread()

        async def noted():
            begun.append(caller)
            return await work()

        return run(noted, **options)

    monkeypatch.setattr(client._thread, "run", noting)

    def wait(work):
        try:
            outcomes.append(work())
        except RuntimeError as e:
            outcomes.append(str(e))

    works = [client.wait_drained, lambda: list(client.items(follow=True))]
    waiting = [threading.Thread(target=wait, args=(work,)) for work in works]
    for thread in waiting:
        thread.start()
    wait_until(lambda: len(set(begun)) == 2, "both wait")
    client.close()
    for thread in waiting:
        thread.join(60)
    assert outcomes == ["This client was closed meanwhile."] * 2


def test_client_that_nobody_holds_is_closed(connect, server, redis_server):
    before = len(threads())
    client = Client(redis_server.url, "s")
    client.status()
    del client
    gc.collect()
    wait_until(lambda: len(threads()) == before, "the thread has ended")
    wait_until(lambda: connections(server) == 0, "no connection")


def test_thread_that_stops_itself_does_not_wait_for_itself():
    thread = LoopThread()

    async def stop():
        thread.stop()

    thread.run(stop)
    with pytest.raises(RuntimeError, match="closed"):
        thread.run(stop)
    wait_until(lambda: not thread._thread.is_alive(), "the thread has ended")


# Errors


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:x/0", ""])
def test_wrong_url_is_explained(url, tmp_path, monkeypatch):
    before = len(threads())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"REDIS_URL|url"):
        Client(url, "s")
    assert len(threads()) == before


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"spider": ""}, "spider = ''"),
        ({"job": "a:b"}, "FRONTIER_JOB = 'a:b'"),
        ({"settings": {"FRONTIER_WORKER_TTL": "x"}}, "FRONTIER_WORKER_TTL = 'x'"),
    ],
)
def test_wrong_arguments_are_explained(arguments, part):
    with pytest.raises(ConfigurationError, match=part):
        Client("redis://localhost", **{"spider": "s", **arguments})


def test_redis_that_is_away_is_one_sentence_without_its_password():
    before = len(threads())
    with pytest.raises(RedisUnavailable, match=r"127\.0\.0\.1") as caught:
        Client(f"redis://:secret@127.0.0.1:{free_port()}/0", "s")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(threads()) == before


def test_redis_that_goes_away_is_named_and_used_again_when_it_is_back(own_redis):
    with Client(own_redis.url, "s") as client:
        client.seed(URL)
        items = client.items(follow=True)
        own_redis.kill()
        for call in (client.status, client.wait_drained, client.failed, items.__next__):
            with pytest.raises(RedisUnavailable, match=client.redis):
                call()
        with pytest.raises(RedisUnavailable, match=client.redis):
            client.seed(URL)
        own_redis.start()
        assert client.status().seeds == 0
        with own_redis.client() as server:
            put(server, 1)
        assert numbers(items) == [1]


@pytest.mark.parametrize("away", ["kill", "freeze"])
def test_client_closes_when_redis_is_away(own_redis, away):
    client = Client(own_redis.url, "s")
    with own_redis.client() as server:
        put(server, 1, 2)
    next(client.items())
    getattr(own_redis, away)()
    closing = threading.Thread(target=client.close, daemon=True)
    closing.start()
    closing.join(80)
    assert not closing.is_alive()
    with pytest.raises(RuntimeError):
        client.status()


def test_key_of_another_type_is_explained(connect, server):
    server.set("s:requests", "x")
    client = connect()
    for call in (client.status, client.wait_drained):
        with pytest.raises(ConfigurationError, match="scrapy frontier check"):
            call()


# The import


def test_import_of_the_package_brings_neither_redis_nor_scrapy():
    code = (
        "import sys, scrapy_dist; scrapy_dist.Addon; scrapy_dist.__version__;"
        "print([m for m in ('redis', 'scrapy', 'twisted', 'asyncio') if m in sys.modules])"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.strip() == "[]"


def test_client_installs_no_reactor(redis_server):
    code = (
        "import sys; from scrapy_dist import Client;"
        f"Client({redis_server.url!r}, 's').status();"
        "print('twisted.internet.reactor' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (result.stdout.strip(), result.stderr) == ("False", "")


def test_client_is_exported():
    assert "Client" in scrapy_dist.__all__
    assert scrapy_dist.Client is Client
    with pytest.raises(AttributeError, match="Klient"):
        _ = scrapy_dist.Klient


@pytest.mark.parametrize("wrong", [None, 7, ["http://a.example/"], object()])
def test_what_is_no_seed_is_a_value_error(connect, server, wrong):
    client = connect()
    with pytest.raises(ValueError, match="is no seed"):
        client.seed(URL, wrong)
    with pytest.raises(ValueError, match="is no seed"):
        client.seed_many([wrong], meta={"a": 1})
