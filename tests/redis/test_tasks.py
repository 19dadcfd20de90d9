"""Tasks as they are in Redis; what every broker does is in tests/contract/tasks_contract."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import redis.asyncio

from scrapy_dist.brokers.redis.layout import (
    LEASED,
    RANK,
    REQUESTS,
    SUSPECTS,
    parse,
    scan,
)
from scrapy_dist.brokers.redis.tasks import RedisTasks
from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.brokers.redis.tools.clear import clear
from scrapy_dist.brokers.redis.tools.dead_letters import retry
from scrapy_dist.brokers.redis.tools.export import export_lines
from scrapy_dist.brokers.redis.tools.import_ import import_lines
from scrapy_dist.brokers.redis.tools.letters import LetterReader
from scrapy_dist.codec import dump_lines
from scrapy_dist.core.crawl import Exported, Imported
from scrapy_dist.core.frontier import Ask, Claim, End, NewRequest, Reject, Settlement
from scrapy_dist.core.politeness import Manners, Rules
from scrapy_dist.core.tasks import Begin, Beginning, NewTask, OnDuplicate, TaskState
from scrapy_dist.exceptions import BadPayload
from scrapy_dist.redis_client.client import close_client
from tests.support.frontiers import (
    KEYS,
    ON_REDIS_ONLY,
    SEED_KEYS,
    Worker,
    dead_letters,
    session,
)

if TYPE_CHECKING:
    from scrapy_dist.core.frontier import Lease

TOKEN, OTHER = "a" * 16, "b" * 16
ITEM = ("s:items", b"item")
TASK_KEYS = (KEYS.tasks, KEYS.results, KEYS.tasks_ended)


class Tasks(RedisTasks):
    """Of one worker's frontier."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.frontier)
        self.worker = worker

    async def push(self, id_="t", token=TOKEN, batch="", seed=None, **options):
        seed = seed or json.dumps({"url": "http://a/", "id": id_, "task": token})
        new = NewTask(id_, token, seed.encode(), batch=batch)
        on_duplicate = options.pop("on_duplicate", OnDuplicate.REFUSE)
        [done] = await self.submit(
            [new], key=SEED_KEYS[0], kind="list", on_duplicate=on_duplicate
        )
        return done

    async def begin(self, lease: Lease, id_="t", token=TOKEN, batch="", is_new=False):
        begin = Begin(lease.id, id_, token, batch, is_new)
        [begun] = await self.worker.call(self.worker.frontier.begin([begin]))
        return begun

    async def run(self, id_="t", token=TOKEN, batch=""):
        """The lease of its seed, begun."""
        await self.push(id_, token, batch)
        [lease] = await self.worker.seeds(1)
        assert await self.begin(lease, id_, token, batch) is Beginning.BEGUN
        return lease

    async def look(self, id_="t"):
        [task] = await self.tasks_of([id_])
        return task and (task.state.value, task.open, task.done, task.failed)


def child(name: str, token: str = TOKEN, slot: int = 0) -> NewRequest:
    return NewRequest(name.encode(), 0, task=token, slot=slot)


@pytest.fixture
async def worker(client):
    return await Worker(client).join()


@pytest.fixture
def tasks(worker):
    return Tasks(worker)


async def lived_for(client):
    """Of each key of tasks whether it ends by itself."""
    return [await client.pttl(key) > 0 for key in TASK_KEYS]


# What is in Redis


async def test_each_place_has_the_task_in_front_of_the_payload(client, worker, tasks):
    seed = await tasks.run()
    await worker.commit([child("a"), NewRequest(b"b", 0)])
    [held] = [e async for some in scan(client, KEYS, LEASED) for e in some]
    assert (held.task, held.payload[:1], held.flaw) == (TOKEN, b"\0", "")
    assert held.whole[held.stored_at :] == b"\4" + TOKEN.encode() + held.payload
    found = [e async for some in scan(client, KEYS, REQUESTS) for e in some]
    assert {(e.task, e.payload) for e in found} == {(TOKEN, b"a"), ("", b"b")}

    other = await Worker(client).join()
    await worker.dies(other)
    [dead] = [e async for some in scan(client, KEYS, SUSPECTS) for e in some]
    assert (dead.task, dead.payload, dead.deaths) == (TOKEN, held.payload, 1)
    [again] = await other.lease(1)
    assert (again.task, again.is_seed) == (TOKEN, True)
    assert again.payload == held.payload[1:]
    assert again.id == seed.id


@ON_REDIS_ONLY
async def test_what_has_claims_keeps_its_task(client, worker, tasks):
    lease = await tasks.run()
    await worker.call(worker.frontier.claim([Claim("fp", [lease.id])]))
    await worker.release(lease)
    [again] = await worker.lease()
    assert (again.task, again.payload, again.suspect) == (TOKEN, lease.payload, True)
    reject = [Reject(lease.id, "seed", "bad")]
    await worker.call(worker.frontier.reject(reject, max_size=1000))
    await retry(worker.frontier)
    [again] = await worker.lease()
    assert (again.task, again.payload, again.suspect) == (TOKEN, lease.payload, True)
    assert await tasks.look() == ("running", 1, 0, 0)


def test_what_only_looks_like_a_head_is_none():
    for head in (b"\4", b"\4" + b"A" * 16, b"\4" + b"a" * 15 + b"x"):
        member = b"\x80" + b"\0" * 7 + b"0" * 16 + head + b"\1"
        entry = parse(REQUESTS, member)
        assert (entry.task, entry.payload) == ("", head + b"\1")


async def test_without_tasks_there_are_no_keys_of_tasks(client, worker):
    await worker.push("a")
    await worker.ack(await worker.lease_one())
    await worker.call(worker.frontier.heal_tasks())
    assert not any([await client.exists(key) for key in TASK_KEYS])
    assert await worker.leave(finished=True)
    assert not any([await client.exists(key) for key in TASK_KEYS])


async def test_a_large_payload_of_a_task_stays_where_it_is(client, tasks):
    await tasks.run()
    small = await Worker(client, max_payload=100, max_seed=100).join()
    await tasks.worker.commit([child("x" * 300)])
    lease = await small.lease_one()
    assert (lease.task, lease.too_large, lease.payload) == (TOKEN, 300, b"x")


# Beginning


async def test_the_token_of_a_raw_seed_that_was_asked_twice_is_the_last_one(
    client, worker, tasks
):
    """Nobody knows a token whose reply was lost."""
    await client.rpush(SEED_KEYS[0], "raw")
    [lease] = await worker.seeds()
    await tasks.begin(lease, token=OTHER, batch="b", is_new=True)
    assert await tasks.begin(lease, token=TOKEN, is_new=True) is Beginning.BEGUN
    [task] = await tasks.tasks_of(["t"])
    assert (task.token, task.batch, task.open) == (TOKEN, "b", 1)
    assert not await client.hexists(KEYS.tasks, f"t:{OTHER}")
    assert await client.zrange(KEYS.tasks_ended, 0, -1) == [TOKEN.encode()]
    await worker.commit(pages=[Settlement(lease.id, task=TOKEN)])
    assert await tasks.look() == ("done", 0, 1, 0)
    assert (await tasks.batch("b")).done == 1


async def test_one_more_copy_of_a_seed_is_more_to_do(client, worker, tasks):
    lease = await tasks.run()
    seed = {"url": "http://a/", "id": "t", "task": TOKEN}
    await client.rpush(SEED_KEYS[0], json.dumps(seed))
    [copy] = await worker.seeds()
    assert await tasks.begin(copy) is Beginning.BEGUN
    assert await tasks.look() == ("running", 2, 0, 0)
    for each in (lease, copy):
        await worker.commit(pages=[Settlement(each.id, task=TOKEN)])
    assert await tasks.look() == ("done", 0, 2, 0)
    await client.rpush(SEED_KEYS[0], json.dumps(seed))
    [late] = await worker.seeds()
    assert await tasks.begin(late) is Beginning.REFUSED


@pytest.mark.parametrize("kind", ["list", "set", "zset"])
async def test_seeds_are_pushed_as_the_key_has_them(client, worker, tasks, kind):
    new = [
        NewTask(f"t{n}", f"{n:016x}", b"seed%d" % n, priority=n, batch="b")
        for n in range(250)
    ]
    done = await tasks.submit(
        new, key=SEED_KEYS[0], kind=kind, on_duplicate=OnDuplicate.REFUSE
    )
    assert {each.name for each in done} == {"SUBMITTED"}
    assert (await client.type(SEED_KEYS[0])).decode() == kind
    seeds = [lease.payload for lease in await worker.seeds(100)]
    if kind != "set":
        first = range(100) if kind == "list" else range(249, 149, -1)
        assert seeds == [b"seed%d" % n for n in first]
    assert (await tasks.batch("b")).queued == 250


async def test_a_lost_reply_pushes_nothing_twice(client, tasks):
    for on_duplicate in OnDuplicate:
        done = await tasks.push(on_duplicate=on_duplicate)
        assert done.name == "SUBMITTED"
    assert await client.llen(SEED_KEYS[0]) == 1
    assert await tasks.look() == ("queued", 1, 0, 0)


async def test_the_same_id_twice_in_one_call(client, tasks):
    new = [NewTask("t", token, token.encode()) for token in (TOKEN, OTHER)]
    options = {"key": SEED_KEYS[0], "kind": "list"}
    done = await tasks.submit(new, on_duplicate=OnDuplicate.RESTART, **options)
    assert [each.name for each in done] == ["SUBMITTED", "RESTARTED"]
    [task] = await tasks.tasks_of(["t"])
    assert (task.token, task.state) == (OTHER, TaskState.QUEUED)
    states = [t.state async for some in tasks.tasks() for t in some]
    assert sorted(state.value for state in states) == ["cancelled", "queued"]


# Commits


@pytest.mark.parametrize("mixed", [[TOKEN], [TOKEN, OTHER], ["", TOKEN], [OTHER, ""]])
async def test_requests_of_several_tasks_in_one_commit(worker, tasks, mixed):
    leases = [await tasks.run(), await tasks.run("u", OTHER)]
    await worker.push("none")
    page = await worker.lease_one()
    new = [
        NewRequest(f"r{n}".encode(), 0, f"fp{n}", task=mixed[n % len(mixed)])
        for n in range(6)
    ]
    parts = [NewRequest(b"p1", 0), NewRequest(b"p2", 0)]
    pages = [
        Settlement(leases[0].id, parts, task=TOKEN),
        Settlement(page.id, [NewRequest(b"p3", 0)]),
        Settlement(leases[1].id, end=End.OPEN, task=OTHER),
    ]
    await worker.commit(new, pages)
    each = 6 // len(mixed)
    assert (await tasks.look())[1] == 2 + each * (TOKEN in mixed)
    assert (await tasks.look("u"))[1] == 1 + each * (OTHER in mixed)
    found = {lease.payload.decode(): lease.task for lease in await worker.lease()}
    assert {name: found[name] for name in ("p1", "p2", "p3")} == {
        "p1": TOKEN,
        "p2": TOKEN,
        "p3": "",
    }
    assert [found[f"r{n}"] for n in range(6)] == [r.task for r in new]


# Dead letters


async def test_a_letter_has_its_task_beside_the_payload(client, worker, tasks):
    await tasks.run()
    await worker.commit([child("a")])
    page = await worker.lease_one()
    end = Settlement(page.id, end=End.FAILED, reason="bad", task=page.task)
    await worker.commit(pages=[end])
    [letter] = await dead_letters(client)
    assert (letter["payload"], letter["task"]) == (b"a", TOKEN.encode())
    assert letter["kind"] == b"request"


async def test_a_submitted_seed_that_never_began_counts(client, worker, tasks):
    await tasks.push(batch="b")
    [lease] = await worker.seeds()
    reject = [Reject(lease.id, "seed", "no URL")]
    await worker.call(worker.frontier.reject(reject, max_size=1000))
    assert await tasks.look() == ("failed", 0, 0, 1)
    [letter] = await dead_letters(client)
    assert (letter["task"], letter["kind"]) == (TOKEN.encode(), b"seed")
    assert json.loads(letter["payload"])["id"] == "t"
    assert (await tasks.batch("b")).failed == 1

    await retry(worker.frontier)
    [again] = await worker.lease()
    assert (again.task, again.is_seed) == (TOKEN, True)
    await worker.commit(pages=[Settlement(again.id, task=TOKEN)])
    assert await tasks.look() == ("done", 0, 1, 0)


async def test_a_seed_that_names_a_task_of_others_counts_nowhere(client, tasks):
    worker = tasks.worker
    await tasks.run()
    await client.rpush(SEED_KEYS[0], json.dumps({"url": "x", "meta": {"task": TOKEN}}))
    [lease] = await worker.seeds()
    reject = [Reject(lease.id, "seed", "bad")]
    await worker.call(worker.frontier.reject(reject, max_size=1000))
    assert await tasks.look() == ("running", 1, 0, 0)
    [letter] = await dead_letters(client)
    assert "task" not in letter


async def test_letters_that_wait_for_room_count_when_they_are_letters(
    client, worker, tasks
):
    full = await Worker(client, failed_limit=0, max_deliveries=1).join()
    await tasks.run()
    await worker.dies(full)
    assert await tasks.look() == ("running", 1, 0, 0)
    await worker.register()
    room = Worker(client, max_deliveries=1)
    await room.call(room.frontier.readmit())
    assert await tasks.look() == ("failed", 0, 0, 1)
    [letter] = await dead_letters(client)
    assert letter["task"] == TOKEN.encode()


# Cancelling


async def test_pending_requests_of_a_cancelled_task_go_at_once(client, worker, tasks):
    await tasks.run()
    for first in range(0, 900, 100):
        names = [f"a{n}" for n in range(first, first + 100)]
        await worker.commit([child(name, slot=len(name) % 3) for name in names])
        others = [NewRequest(f"o{name}".encode(), 0, slot=1) for name in names]
        await worker.commit(others)
    await tasks.cancel(["t"])
    left = await client.zrange(KEYS.requests, 0, -1)
    assert {member[RANK:] for member in left} == {b"oa%d" % n for n in range(900)}
    assert await tasks.look() == ("cancelled", 1, 0, 0)


@pytest.mark.parametrize("polite", [False, True])
async def test_what_is_left_of_it_goes_when_it_is_reached(client, tasks, polite):
    worker = tasks.worker
    await tasks.run()
    await worker.commit([child(f"a{n}", slot=1 + n % 3) for n in range(900)])
    await worker.commit([NewRequest(b"other", 1, slot=2)])
    await worker.call(worker.frontier.call("cancel", list, ids=["t"]))
    found, calls = [], 0
    while not found and calls < 20:
        calls += 1
        before = await client.zcard(KEYS.requests)
        if polite:
            call = worker.frontier.lease_politely(5, Manners(Rules()), suspects=0)
            reply, granted = await worker.call(call)
            assert reply.leases or granted.wait == 0
        else:
            reply = await worker.call(worker.frontier.lease(5, suspects=0))
        found = reply.leases
        gone = before - await client.zcard(KEYS.requests)
        assert gone <= 250
        assert reply.left.pending == before - gone
    assert [lease.payload for lease in found] == [b"other"]
    while await client.zcard(KEYS.requests):
        call = worker.frontier.lease(5, suspects=0)
        if polite:
            call = worker.frontier.lease_politely(5, Manners(Rules()), suspects=0)
        await worker.call(call)
        calls += 1
        assert calls < 30
    assert await tasks.look() == ("cancelled", 1, 0, 0)
    assert await client.zrange(KEYS.slots, 0, -1) in ([], [b"2"])


# Keeping


async def test_tasks_end_some_time_after_their_crawl(client, worker, tasks):
    lease = await tasks.run()
    await worker.commit(pages=[Settlement(lease.id, items=[ITEM], task=TOKEN)])
    assert await lived_for(client) == [False] * 3
    assert await worker.leave(finished=True)
    assert await lived_for(client) == [True] * 3
    assert 86_000_000 < await client.pttl(KEYS.tasks) <= 86_400_000
    await tasks.push("u", OTHER)
    assert await lived_for(client) == [False] * 3

    await client.delete(SEED_KEYS[0])
    again = await Worker(client, result_ttl=10).join()
    await again.leave(finished=True)
    assert 0 < await client.pttl(KEYS.tasks) <= 10_000
    await Worker(client).join()
    assert await lived_for(client) == [False] * 3


async def test_old_tasks_go_with_their_results_some_at_a_time(client, worker, tasks):
    async def prune():
        return await worker.call(worker.frontier.prune_tasks())

    lease = await tasks.run(batch="b")
    for n in range(25):
        part = [("s:items", b"%d" % n)] * 100
        page = Settlement(lease.id, items=part, end=End.OPEN, task=TOKEN)
        await worker.commit(pages=[page])
    await worker.commit(pages=[Settlement(lease.id, task=TOKEN)])
    other = await tasks.run("u", OTHER, "b")
    assert await client.hlen(KEYS.results) == 2500
    assert await prune() == (0, False)

    await client.zadd(KEYS.tasks_ended, {TOKEN: 5})
    assert await prune() == (0, True)
    assert await client.hlen(KEYS.results) == 500
    assert await prune() == (1, False)
    assert await client.hlen(KEYS.results) == 0
    assert await tasks.look() is None
    assert (await tasks.batch("b")).total == 1
    await worker.commit(pages=[Settlement(other.id, task=OTHER)])
    await client.zadd(KEYS.tasks_ended, {OTHER: 5})
    assert await prune() == (1, False)
    assert await client.keys("s:*tasks*") == []


async def test_a_worker_prunes_until_all_that_is_old_is_gone(client, tasks):
    for n in range(250):
        token = f"{n:016x}"
        record = f"d 0 1 0 0 1 1 5\nt{n}\nb\n\n"
        await client.hset(KEYS.tasks, f"t:{token}", record)
        await client.zadd(KEYS.tasks_ended, {token: 5})
    worker = session(client)
    await worker.join("host:1", commit=0, flush=False, persist=False, age=0)
    await worker.exchange(Ask(leases=1))
    assert await client.zcard(KEYS.tasks_ended) == 250
    await worker.exchange(Ask(heartbeat=True))
    for left in (150, 50, 0, 0):
        assert await client.zcard(KEYS.tasks_ended) == left
        await worker.exchange(Ask(leases=1))


async def test_without_a_time_no_results_are_kept_and_tasks_for_a_day(client):
    worker = await Worker(client, result_ttl=0).join()
    tasks = Tasks(worker)
    lease = await tasks.run()
    await worker.commit(pages=[Settlement(lease.id, items=[ITEM], task=TOKEN)])
    [task] = await tasks.tasks_of(["t"])
    assert (task.items, await tasks.results(task, 0, 9)) == (1, [])
    assert await client.lrange("s:items", 0, -1) == [b"item"]
    await worker.leave(finished=True)
    assert await client.pttl(KEYS.tasks) > 86_000_000


async def test_who_prunes_spares_a_newer_run_of_the_id(client, worker, tasks):
    lease = await tasks.run()
    await worker.commit(pages=[Settlement(lease.id, task=TOKEN)])
    await tasks.run("t", OTHER)
    await client.zadd(KEYS.tasks_ended, {TOKEN: 5})
    assert await worker.call(worker.frontier.prune_tasks()) == (1, False)
    [task] = await tasks.tasks_of(["t"])
    assert task.token == OTHER


# Mending


async def test_a_seed_that_is_cut_when_it_is_set_aside_fails_its_task(worker, tasks):
    seed = {"url": "http://a/", "meta": "x" * 300, "id": "t", "task": TOKEN}
    await tasks.push(seed=json.dumps(seed))
    [lease] = await worker.seeds(1)
    rejects = [Reject(lease.id, "seed", "too large")]
    await worker.call(worker.frontier.reject(rejects, max_size=100))
    assert await tasks.look() == ("failed", 0, 0, 1)


async def test_tasks_of_which_nothing_is_left_end_when_all_is_drained(client, tasks):
    worker = tasks.worker
    lease = await tasks.run()
    await tasks.push("queued", OTHER)
    await worker.commit(pages=[Settlement(lease.id)])  # as a torn file leaves it
    assert await worker.call(worker.frontier.heal_tasks()) == 0
    await client.delete(SEED_KEYS[0])
    unread = Worker(client)
    unread.frontier.seed_keys = ()
    assert await unread.call(unread.frontier.heal_tasks()) == 1
    assert await tasks.look("queued") == ("queued", 1, 0, 0)
    assert await worker.call(worker.frontier.heal_tasks()) == 1
    unread = f"its seed is in no key that the workers read: {', '.join(SEED_KEYS)}"
    lost = "nothing of it is left in the frontier"
    for id_, reason in (("t", lost), ("queued", unread)):
        [task] = await tasks.tasks_of([id_])
        assert (task.state, task.open) == (TaskState.FAILED, 0)
        assert task.reason == reason


@pytest.mark.parametrize("open_", [0, 1, 9])
async def test_check_counts_again(client, worker, tasks, open_):
    await tasks.run()
    await worker.commit([child("a"), child("b")])
    record = await client.hget(KEYS.tasks, f"t:{TOKEN}")
    await client.hset(KEYS.tasks, f"t:{TOKEN}", record.replace(b"r 3", b"r %d" % open_))
    report = await check(worker.frontier, decode=lambda payload: None)
    [finding] = report.findings.values()
    assert finding.kind == "wrong_task_count"
    assert finding.examples == [f"t: {open_} to do, 3 there"]
    assert not report.ok
    report = await check(worker.frontier, repair=True, decode=lambda payload: None)
    assert report.ok
    assert await tasks.look() == ("running", 3, 0, 0)
    report = await check(worker.frontier, decode=lambda payload: None)
    assert report.findings == {}


async def test_check_says_nothing_of_what_has_moved_meanwhile(client, worker, tasks):
    await tasks.run()
    await worker.commit([child("a")])
    frontier = worker.frontier
    record = await client.hget(KEYS.tasks, f"t:{TOKEN}")
    values = {"mend": 1, "counted": [TOKEN, 1, record]}
    state = await client.hmget(KEYS.state, ["order", "active"])
    await worker.lease_one()
    old = await frontier.run("check_tasks", order=state[0], active=state[1], **values)
    assert old == []
    assert await tasks.look() == ("running", 2, 0, 0)


@pytest.mark.parametrize(
    ("parts", "running", "queued"),
    [
        (["frontier"], "cancelled", "queued"),
        (["requests"], "cancelled", "queued"),
        (["seeds"], "running", "cancelled"),
        (["items"], "running", "queued"),
    ],
)
async def test_what_is_cleared_is_cancelled(client, tasks, parts, running, queued):
    await tasks.run(batch="b")
    for n in range(150):
        await tasks.push(f"q{n}", f"{n:016x}")
    await clear(tasks.worker.frontier, parts, force=True)
    assert (await tasks.look())[0] == running
    assert (await tasks.look())[1] == (running == "running")
    states = {task.state.value async for some in tasks.tasks() for task in some}
    assert states == {running, queued}


async def test_tasks_can_be_cleared(client, worker, tasks):
    lease = await tasks.run()
    await worker.commit([child("a")])
    await clear(worker.frontier, ["tasks"], force=True)
    assert not any([await client.exists(key) for key in TASK_KEYS])
    page = Settlement(lease.id, [child("b")], [ITEM], task=TOKEN)
    await worker.commit([child("c")], [page])
    assert {x.payload for x in await worker.lease()} == {b"a", b"b", b"c"}
    assert not any([await client.exists(key) for key in TASK_KEYS])


# Files


async def exported(worker, *, items=False):
    found = export_lines(worker.frontier, Exported(), spider="s", items=items)
    lines = [line async for some in found for line in some]
    return [dump_lines.dump(line).encode() for line in lines]


async def test_an_export_has_tasks_and_an_import_counts_them_anew(client, tasks):
    worker = tasks.worker
    lease = await tasks.run(batch="b")
    request = json.dumps({"url": "http://a/"})
    bad = NewRequest(json.dumps({"url": "http://bad/"}).encode(), -1, task=TOKEN)
    await worker.commit([child(request), child(request), bad])
    page = await worker.lease_one()
    end = Settlement(page.id, end=End.FAILED, reason="bad", task=TOKEN)
    await worker.commit(pages=[end])
    done = await tasks.run("done", OTHER, "b")
    await worker.commit(pages=[Settlement(done.id, items=[ITEM], task=OTHER)])
    await tasks.push("queued", "c" * 16)
    before = [await tasks.look(id_) for id_ in ("t", "done", "queued")]
    assert before == [("running", 3, 0, 1), ("done", 0, 1, 0), ("queued", 1, 0, 0)]
    results = await client.hgetall(KEYS.results)
    assert len(results) == 1
    assert not any(b'"result"' in line for line in await exported(worker))
    lines = await exported(worker, items=True)

    await client.flushdb()
    imported = Imported()
    async for _ in import_lines(worker.frontier, lines, imported):
        pass
    assert imported.counts["task"] == 3
    assert await client.hgetall(KEYS.results) == results
    assert [await tasks.look(id_) for id_ in ("t", "done", "queued")] == before
    batch = await tasks.batch("b")
    assert (batch.running, batch.done, batch.total) == (1, 1, 2)
    [letter] = await dead_letters(client)
    assert letter["task"] == TOKEN.encode()
    report = await check(worker.frontier)
    assert "wrong_task_count" not in report.findings

    await worker.register()
    leases = [*await worker.lease(), *await worker.seeds()]
    assert sorted(each.task for each in leases) == ["", *[TOKEN] * 3]
    assert {each.is_seed for each in leases if each.task} == {True, False}
    ends = [Settlement(x.id, task=x.task) for x in leases if x.task]
    await worker.commit(pages=ends)
    assert await tasks.look() == ("failed", 0, 3, 1)
    assert lease.task == ""


@pytest.mark.parametrize(
    "change",
    [
        {"token": "x"},
        {"token": 1},
        {"id": None},
        {"done": -1},
        {"done": True},
        {"items": 10**20},
        {"state": "odd"},
        {"state": 1},
    ],
)
async def test_a_line_that_is_no_task_is_told(client, tasks, change):
    await tasks.push()
    lines = await exported(tasks.worker)
    await client.flushdb()
    at = [b'"type":"task"' in line for line in lines].index(True)
    lines[at] = json.dumps({**json.loads(lines[at]), **change}).encode()
    with pytest.raises(BadPayload, match=f"Line {at + 1} of the file: it is no task"):
        async for _ in import_lines(tasks.worker.frontier, lines, Imported()):
            pass


async def test_results_without_their_task_stay_out(client, tasks):
    worker = tasks.worker
    done = await tasks.run()
    await worker.commit(pages=[Settlement(done.id, items=[ITEM], task=TOKEN)])
    # As while workers are at work: the export has met the task before.
    await client.hset(
        KEYS.results, mapping={f"{TOKEN} 2": b"later", f"{OTHER} 1": b"x"}
    )
    before = [f"{TOKEN} 1".encode()]
    lines = await exported(worker, items=True)
    assert sum(b'"type":"result"' in line for line in lines) == 3
    await client.flushdb()
    async for _ in import_lines(worker.frontier, lines, Imported()):
        pass
    assert await client.hkeys(KEYS.results) == before


# A full Redis


async def test_full_redis_ends_pages_of_tasks(make_redis):
    server = make_redis()
    client = redis.asyncio.Redis.from_url(server.url, protocol=2)
    worker = await Worker(client).join()
    tasks = Tasks(worker)
    lease = await tasks.run()
    await client.config_set("maxmemory", 1)
    reply = await worker.commit(
        [child("a")], [Settlement(lease.id, end=End.EMPTY, task=TOKEN)]
    )
    assert reply.outcome.name == "FULL"
    assert await tasks.look() == ("done", 0, 1, 0)
    assert await worker.call(worker.frontier.heal_tasks()) == 0
    assert (await tasks.cancel(["t"]))[0].state is TaskState.DONE
    with pytest.raises(Exception, match="OOM"):
        await tasks.push("u", OTHER)
    assert await tasks.look("u") is None
    await close_client(client)


@ON_REDIS_ONLY
async def test_letters_of_requests_name_their_tasks_to_who_reads_them(
    client, worker, tasks
):
    seed = await tasks.run("shop 1")
    one = [child("a"), child("b", OTHER), NewRequest(b"c", 0)]
    await worker.commit(one, [Settlement(seed.id, counts=False)])
    failed = [
        Settlement(lease.id, end=End.FAILED, reason="x")
        for lease in await worker.lease()
    ]
    await worker.commit(pages=failed)
    letters = await LetterReader(worker.frontier, "reader").take()
    told = {letter.payload: letter.task for letter in letters}
    assert told == {b"a": "shop 1", b"b": "", b"c": ""}
