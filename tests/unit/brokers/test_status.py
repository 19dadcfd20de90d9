"""What a status tells of a crawl, and that strangers' bytes do it no harm."""

from __future__ import annotations

import json

import pytest

from scrapy_dist.brokers.redis import fingerprints
from scrapy_dist.brokers.redis.layout import encode_score
from scrapy_dist.brokers.redis.views.status import MAX_WORKERS, read_status, url_of
from scrapy_dist.codec import compact
from scrapy_dist.core.frontier import NewRequest, Reject
from scrapy_dist.exceptions import ConfigurationError
from tests.support.frontiers import KEYS, SEED_KEYS, Worker, contents, pass_time

#: Keys of ``status --json``, which scripts rely on.
JSON_KEYS = {
    *("spider", "job", "redis", "time", "state", "paused", "workers"),
    *("pending", "leased", "suspect", "failed", "seen", "seeds", "items", "pages"),
    *("pages_per_second", "seconds_left", "tasks", "tasks_open", "tasks_by_state"),
}
WORKER_KEYS = {
    *("worker", "number", "alive", "since", "silent_for", "stopping", "holds"),
    *("pages", "pages_per_second", "failed", "leased", "memory"),
}


def info(**changed):
    told = {"pages": 7, "failed": 1, "pages_per_second": 2.5, "memory": 1000}
    return json.dumps(told | changed)


async def look(worker, **options):
    return await read_status(worker.frontier, "s", **options)


def request(number):
    payload = b"\x01" + compact.dumps({"url": f"http://site.example/{number}"})
    return NewRequest(payload, 0.0, f"fp{number}")


async def test_frontier_that_is_not_there_is_empty(client):
    status = await look(Worker(client))
    assert not status.exists
    assert status.drained
    assert (status.pages_per_second, status.seconds_left) == (0, 0)
    assert status.workers == ()


async def test_everything_is_counted_where_it_is(client):
    worker = await Worker(client).join()
    dead = await Worker(client).join("host:2")
    await worker.commit([request(n) for n in range(10)])
    await dead.lease(3)
    await dead.dies(worker)
    [done, failing] = await worker.lease(2, suspect=False)
    await worker.ack(done)
    await worker.call(
        worker.frontier.reject([Reject(failing.id, "request", "why")], max_size=100)
    )
    await worker.lease(2, suspect=False)
    await client.rpush(SEED_KEYS[0], "a", "b")
    await client.zadd(SEED_KEYS[1], {"c": 0})
    await client.rpush(KEYS.items, "item")
    status = await look(worker)
    assert status.exists
    assert (status.pending, status.leased, status.suspect) == (3, 2, 3)
    assert (status.failed, status.seen, status.seeds) == (1, 10, 3)
    assert (status.items, status.pages) == (1, 1)
    assert status.left == 11
    assert not status.drained


async def test_worker_is_described_by_its_own_beat(client):
    worker = await Worker(client).join("host:12")
    await worker.call(worker.frontier.heartbeat(info()))
    [told] = (await look(worker)).workers
    assert (told.worker, told.number, told.alive) == ("host:12", worker.number, True)
    assert (told.pages, told.failed, told.memory) == (7, 1, 1000)
    assert told.pages_per_second == 2.5
    assert 0 <= told.silent_for < 30
    assert not told.stopping


async def test_time_is_that_of_redis(client):
    worker = await Worker(client).join()
    await client.hset(KEYS.state, f"since:{worker.number}", 1_700_000_000_123)
    status = await look(worker)
    assert status.workers[0].as_json()["since"] == "2023-11-14T22:13:20.123Z"
    assert status.time.timestamp() > 1_700_000_001


async def test_silent_worker_is_dead_and_its_rate_does_not_count(client):
    dead = await Worker(client).join("host:1")
    await dead.call(dead.frontier.heartbeat(info(pages_per_second=100)))
    await pass_time(client, 61)
    worker = await Worker(client).join("host:2")
    await worker.call(worker.frontier.heartbeat(info(pages_per_second=2)))
    status = await look(worker)
    assert [told.alive for told in status.workers] == [False, True]
    assert status.workers[0].silent_for >= 61
    assert [told.worker for told in status.alive] == ["host:2"]
    assert status.pages_per_second == 2


async def test_time_left_is_what_is_left_at_the_rate_of_the_last_minute(client):
    worker = await Worker(client).join()
    await worker.push(*map(str, range(50)))
    assert (await look(worker)).seconds_left is None
    await worker.lease(10)
    await worker.call(worker.frontier.heartbeat(info(pages_per_second=5)))
    assert (await look(worker)).seconds_left == 10
    await worker.call(worker.frontier.pause(True))
    status = await look(worker)
    assert status.paused
    assert status.seconds_left is None


async def test_worker_that_is_asked_to_stop_says_so(client):
    worker = await Worker(client).join("host:1")
    other = await Worker(client).join("host:2")
    await worker.call(worker.frontier.stop([other.number]))
    assert [w.stopping for w in (await look(worker)).workers] == [False, True]


async def test_workers_are_in_the_order_of_host_and_pid(client):
    for name in ("b:1", "a:10", "a:9"):
        worker = await Worker(client).join(name)
    names = [told.worker for told in (await look(worker)).workers]
    assert names == ["a:9", "a:10", "b:1"]


async def test_some_of_what_each_worker_holds_is_told_if_asked_for(client):
    worker = await Worker(client).join("host:1")
    idle = await Worker(client).join("host:2")
    await worker.commit([request(n) for n in range(5)])
    await client.rpush(SEED_KEYS[0], "http://seed.example/")
    await worker.seeds()
    assert len(await worker.lease(2)) == 2
    holding, resting = (await look(idle, holds=100)).workers
    assert set(holding.holds) == {
        "http://seed.example/",
        *(f"http://site.example/{n}" for n in range(2)),
    }
    assert resting.holds == ()
    assert len((await look(idle, holds=2)).workers[0].holds) == 2
    assert (await look(idle)).workers[0].holds == ()


async def test_large_request_is_not_read_for_its_url(client):
    worker = await Worker(client).join()
    await worker.commit([NewRequest(b"x" * 100_000, 0.0), request(1)])
    await worker.lease()
    assert (await look(worker, holds=9)).workers[0].holds == ("http://site.example/1",)


async def test_lease_that_is_done_a_moment_later_takes_no_place(client):
    """The oldest is shown; when its request is gone, the next one is."""
    worker = await Worker(client).join()
    await worker.commit([request(n) for n in range(3)])
    oldest, *_ = sorted(lease.id for lease in await worker.lease())
    await client.hdel(KEYS.leased, oldest)
    assert len((await look(worker, holds=2)).workers[0].holds) == 2


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"\xff",
        b"[1]",
        b"[" * 3000,
        b'{"pages": "many", "failed": -1, "memory": true, "pages_per_second": NaN}',
        b'{"pages": Infinity, "pages_per_second": 1e999}',
        b'{"pages": 5, "x": "' + b"x" * 5000 + b'"}',
    ],
)
async def test_strange_facts_of_a_worker_are_ignored(client, told):
    worker = await Worker(client).join()
    field = f"beat:{worker.number}"
    await client.hset(KEYS.state, mapping={field: told, "pages": "x"})
    await client.hset(KEYS.state, f"since:{worker.number}", "9" * 400)
    status = await look(worker)
    [worker] = status.workers
    assert (worker.pages, worker.failed, worker.memory) == (0, 0, None)
    assert worker.pages_per_second == 0
    assert worker.since is None
    assert status.pages == 0


async def test_strange_worker_numbers_are_shown_as_they_are(client):
    await client.zadd(KEYS.workers, {"nan": 1, b"\xff": 1, "12": 1})
    status = await look(Worker(client), holds=3)
    assert {told.worker for told in status.workers} == {"12", "nan", "\ufffd"}
    assert [told.leased for told in status.workers] == [0, 0, 0]


async def test_key_of_another_type_is_an_error_with_a_remedy(client):
    await client.set(KEYS.requests, "x")
    with pytest.raises(ConfigurationError, match="scrapy frontier check s"):
        await look(Worker(client))


async def test_what_a_filter_of_the_project_keeps_is_no_error(client):
    """scrapy-redis' Bloom filters keep bits where the frontier keeps fingerprints."""
    await (await Worker(client).join()).commit([NewRequest(b"a", 0.0, "f")])
    await client.delete(KEYS.dupefilter)
    await client.setbit(KEYS.dupefilter, 100, 1)
    frontier = Worker(client).frontier
    assert (await look(Worker(client))).pending == 1
    assert (await look(Worker(client))).seen == 0
    assert await fingerprints.count(frontier) == 0
    assert not await fingerprints.is_seen(frontier, "f")
    assert [names async for names in fingerprints.scan(frontier)] == []
    seen, new = KEYS.dupefilter, ["f", encode_score(0), 0, b"b"]
    call = frontier.call("recrawl", int, seen=seen, new=new)
    await frontier.exchange([call])
    assert call.reply() == 1
    assert await client.bitcount(KEYS.dupefilter) == 1


async def test_fingerprints_in_buckets_are_counted(client):
    await client.hset(KEYS.dupefilter, mapping={"epoch": 1, "buckets": 1, "count": 12})
    assert (await look(Worker(client))).seen == 12


async def test_nothing_is_written(client):
    worker = await Worker(client).join()
    await worker.push("a", "b")
    await worker.lease(1)
    before = await contents(client)
    await look(worker, holds=1)
    assert await contents(client) == before


async def test_json_has_the_words_of_the_glossary(client):
    worker = await Worker(client).join()
    told = (await look(worker, job="nightly")).as_json()
    assert told.keys() == JSON_KEYS
    assert told["workers"][0].keys() == WORKER_KEYS
    assert (told["spider"], told["job"]) == ("s", "nightly")
    json.dumps(told, allow_nan=False)
    assert (await look(worker, job="")).job is None


async def test_thousands_of_workers_are_bounded(client):
    await client.zadd(KEYS.workers, {str(n): n for n in range(1, MAX_WORKERS + 100)})
    status = await look(Worker(client))
    assert len(status.workers) == MAX_WORKERS


@pytest.mark.parametrize(
    ("payload", "url"),
    [
        (b"\x01" + compact.dumps({"url": "http://a"}), "http://a"),
        (b'{"url": "http://a"}', "http://a"),
        (b"\x00http://a", "http://a"),
        (b'\x00 {"url": "http://a"}', "http://a"),
        (b'{"url": 1}', "(without a URL)"),
        (b"\x01" + b"\x05", "(not readable: b'\\x01\\x05')"),
        (b"\x80\x04.", "(a pickle)"),
        (b"\x02x", "(the work of another serializer)"),
        (b"\x00\xff", "\ufffd"),
        (b"{" * 30000, f"(not readable: b'{'{' * 40}')"),
        (b"\x01\xc1", "(not readable: b'\\x01\\xc1')"),
        (b"x", "(not readable: b'x')"),
        (b"", "(not readable: b'')"),
    ],
)
def test_url_of_a_payload_is_shown_without_running_anything(payload, url):
    assert url_of(payload) == url
