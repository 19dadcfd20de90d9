"""``Client`` with a frontier in memory: what it can do, and what it says of the rest."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import pytest

from scrapy_dist import Client
from scrapy_dist.brokers.memory.broker import MemoryBroker, state_of
from scrapy_dist.brokers.memory.frontier import MemoryFrontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.core.frontier import (
    Ask,
    Commit,
    End,
    LeaveOutcome,
    NewRequest,
    Settlement,
)
from scrapy_dist.core.tasks import Begin, Beginning, TaskState
from scrapy_dist.exceptions import ConfigurationError
from tests.support.frontiers import KEYS

URL = "http://site.example/"

numbers = itertools.count()


@pytest.fixture
def url():
    return f"memory://{next(numbers)}"


@pytest.fixture
def client(url):
    with Client(url, "s") as client:
        yield client


@pytest.fixture
async def worker(client, url):
    settings = client._client._crawl.settings
    worker = MemoryFrontier(
        state_of(settings, "s"),
        MemoryBroker.of(settings).crawl(settings, "s"),
        Keys.from_settings(settings, "s"),
        ttl=60,
        max_deliveries=3,
        failed_limit=100,
        max_payload=1 << 20,
        max_seed=1 << 20,
        seed_keys=["s:start_urls"],
    )
    await worker.join("host:1", commit=0, flush=False, persist=False, age=0)
    return worker


async def test_seeds_reach_the_workers(client, worker):
    assert client.seed(URL, meta={"shop": 7}) == 1
    assert client.status().seeds == 1
    [seed] = (await worker.exchange(Ask(seeds=5))).seeds
    assert b'"shop"' in seed.payload


async def test_worker_that_watches_is_told_of_seeds(client, worker):
    told = threading.Event()
    assert await worker.watch(told.set)
    client.seed(URL)
    await worker.exchange(Ask(heartbeat=True))
    assert told.is_set()


async def test_status_tells_what_workers_do(client, worker):
    await worker.exchange(
        Ask(
            commits=[Commit(1, [NewRequest(b"a", 0, "a"), NewRequest(b"b", 0, "b")])],
            heartbeat=True,
            info='{"pages": 3, "pages_per_second": 1.5}',
            leases=1,
        )
    )
    status = client.status()
    assert (status.pending, status.leased, status.seen) == (1, 1, 2)
    assert (status.phase, status.redis) == ("running", client.redis)
    [one] = status.workers
    assert (one.worker, one.pages, one.leased) == ("host:1", 3, 1)


async def test_items_come_once_and_go_back_if_they_were_not_needed(client, worker):
    items = [("s:items", b'{"n": %d}' % n) for n in range(3)]
    await worker.exchange(Ask(commits=[Commit(1, items=items)]))
    with client.items(acknowledge=False) as found:
        assert next(found) == {"n": 0}
    assert [item["n"] for item in client.items()] == [0, 1, 2]
    assert list(client.items()) == []


async def test_dead_letters_are_listed_retried_and_forgotten(client, worker):
    names = ("a", "b")
    new = [NewRequest(name.encode(), 0, name) for name in names]
    leases = (await worker.exchange(Ask(commits=[Commit(1, new)], leases=5))).leases
    ends = [
        Settlement(x.id, end=End.FAILED, reason=f"why {x.payload!r}") for x in leases
    ]
    await worker.exchange(Ask(commits=[Commit(2, settlements=ends)]))
    newest, oldest = client.failed()
    assert (oldest.payload, newest.payload) == (b"a", b"b")
    older = [each async for each in client._client._crawl.failed(before=newest.id)]
    assert older == [oldest]
    assert client.retry(oldest).requests == 1
    assert client.retry("1-1").missing == 1
    assert client.forget(newest).deleted == 1
    assert not client.failed()
    assert client.status().pending == 1


async def test_crawl_is_paused_stopped_and_cleared(client, worker):
    client.pause()
    answer = await worker.exchange(
        Ask(commits=[Commit(1, [NewRequest(b"a", 0, "a")])], heartbeat=True, leases=1)
    )
    assert answer.heartbeat.paused
    assert not answer.leases
    client.resume()
    assert client.stop("all") == 1
    answer = await worker.exchange(Ask(heartbeat=True))
    assert (answer.heartbeat.paused, answer.heartbeat.stop) == (False, True)
    with pytest.raises(Exception, match="1 worker"):
        client.clear()
    await worker.leave(finished=False, persist=False, reason="stopped")
    assert client.clear().deleted["pending"] == 1
    assert client.status().is_blank


async def test_what_comes_back_from_outside_is_in_its_slot(client, worker):
    ask = Ask(commits=[Commit(1, [NewRequest(b"a", 0, "a", slot=7)])], leases=1)
    [lease] = (await worker.exchange(ask)).leases
    end = Settlement(lease.id, end=End.FAILED, reason="why")
    await worker.exchange(Ask(commits=[Commit(2, settlements=[end])]))
    [letter] = client.failed()
    assert client.retry(letter).requests == 1
    settings = client._client._crawl.settings
    crawl = MemoryBroker.of(settings).crawl(settings, "s")
    await crawl.recrawl([NewRequest(b"b", 0, "b", slot=8)])
    answer = await worker.exchange(Ask(leases=5, enough=[9]))
    assert [(x.payload, x.slot) for x in answer.leases] == [(b"a", 7), (b"b", 8)]


async def test_cleared_crawl_has_no_slots(client, worker):
    await worker.exchange(Ask(commits=[Commit(1, [NewRequest(b"a", 0, slot=7)])]))
    client.clear(force=True)
    new = [NewRequest(b"b", 0, slot=7)]
    await worker.join("host:1", commit=0, flush=False, persist=False, age=0)
    answer = await worker.exchange(Ask(commits=[Commit(1, new)], leases=5))
    assert [lease.payload for lease in answer.leases] == [b"b"]


async def test_finished_crawl_is_remembered(client, worker):
    outcome, _ = await worker.leave(finished=True, persist=False, reason="finished")
    assert outcome is LeaveOutcome.DELETED
    [record] = client.history()
    assert (record.reason, record.workers) == ("finished", 1)


def test_names_keep_crawls_apart(client, url):
    client.seed(URL)
    with Client(f"{url}-other", "s") as other, Client(url, "t") as another:
        assert other.status().seeds == another.status().seeds == 0
    with Client(url, "s") as same:
        assert same.status().seeds == 1


def test_what_cannot_be_done_in_memory_is_refused_by_name(client, url):
    for ask in (client.peek, client.hosts, lambda: client.explain(URL)):
        with pytest.raises(ConfigurationError, match=f"REDIS_URL = '{url}'"):
            ask()


async def test_what_waits_for_room_is_a_suspect(client, worker):
    worker._state.letters = {str(n): None for n in range(100)}
    await worker.exchange(Ask(commits=[Commit(1, [NewRequest(b"a", 0.0)])]))
    [lease] = (await worker.exchange(Ask(leases=1, suspects=8))).leases
    failed = Settlement(lease.id, end=End.FAILED, reason="x")
    await worker.exchange(Ask(commits=[Commit(2, settlements=[failed])]))
    worker._state.letters.clear()
    assert client.status().suspect == 1


async def test_crawl_is_not_drained_while_a_worker_is_busy_without_a_lease(
    client, worker
):
    settings = client._client._crawl.settings
    crawl = MemoryBroker.of(settings).crawl(settings, "s")
    for busy in (True, False):
        await worker.exchange(Ask(heartbeat=True, busy=busy))
        assert await crawl.is_drained() is not busy


async def test_stats_go_with_the_frontier(client, worker):
    await worker.exchange(Ask(stats=[("inc", "n", "1")]))
    assert client.clear(force=True).deleted["stats"] == 1
    assert not worker._state.stats


# Tasks


async def a_task(client, worker, id_="t"):
    """A task of which one page is done, with one item, and one is left to do."""
    client.seed({"url": URL, "id": id_})
    [lease] = (await worker.exchange(Ask(seeds=1))).seeds
    begin = Begin(lease.id, id_, id_, is_new=True)
    assert (await worker.exchange(Ask(begins=[begin]))).begun == [Beginning.BEGUN]
    page = Settlement(lease.id, [NewRequest(b"a", 0)], [(KEYS.items, b"i")], task=id_)
    await worker.exchange(Ask(commits=[Commit(1, settlements=[page])]))
    return await port(client).tasks_of([id_])


def port(client):
    settings = client._client._crawl.settings
    return MemoryBroker.of(settings).crawl(settings, "s")


async def test_clearing_cancels_what_it_deletes(client, worker):
    [task] = await a_task(client, worker)
    assert (task.state, task.open) == (TaskState.RUNNING, 1)
    client.seed({"url": URL, "id": "queued"})
    client.clear(force=True)
    [task] = await port(client).tasks_of(["t"])
    assert (task.state, task.open, task.done) == (TaskState.CANCELLED, 0, 1)
    assert client.clear("tasks", force=True).deleted == {"tasks": 1}
    assert await port(client).tasks_of(["t"]) == [None]


async def test_what_has_ended_is_forgotten_in_time(client, worker):
    state = state_of(client._client._crawl.settings, "s")
    await a_task(client, worker)
    state.tasks.prune(60)
    assert len(state.tasks) == 1
    [lease] = (await worker.exchange(Ask(leases=1))).leases
    end = Commit(2, settlements=[Settlement(lease.id, task="t")])
    await worker.exchange(Ask(commits=[end]))
    [task] = await port(client).tasks_of(["t"])
    assert task.state is TaskState.DONE
    state.tasks.prune(60)
    assert await port(client).results(task, 0, 10) == [b"i"]
    state.tasks.records["t"] = replace(task, ended_ms=task.ended_ms - 61_000)
    state.tasks.prune(60)
    assert await port(client).tasks_of(["t"]) == [None]
    assert await port(client).results(task, 0, 10) == []


async def test_without_a_ttl_no_results_are_kept(client, worker):
    state = state_of(client._client._crawl.settings, "s")
    state.tasks.keeps_results = False
    [task] = await a_task(client, worker)
    assert task.items == 1
    assert await port(client).results(task, 0, 10) == []
