"""No two starts of a slot are too close, and no more of its places are taken than it has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from scrapy_dist.brokers.redis import scripts
from scrapy_dist.core.frontier import Commit, NewRequest
from scrapy_dist.core.politeness import Manners, Rules, Yield
from tests.support.frontiers import KEYS, ON_REDIS_ONLY, Worker, member, names
from tests.support.politeness_mistakes import IN_LUA, IN_THE_WORKER, notice
from tests.support.politeness_sim import Setup, Simulation, simulate
from tests.support.politeness_wire import Wire, source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.redis_server import RedisServer


@pytest.fixture
def path(make_redis: Callable[..., RedisServer], tmp_path: Path) -> str:
    """The unix socket of a redis-server of this test's own."""
    path = str(tmp_path / "socket")
    make_redis(unixsocket=path)
    return path


#: The rest is done by `tox -e politeness`.
ROUNDS = [
    Setup(seed=1, workers=1, slots=4, per=60),
    Setup(seed=2, workers=3, slots=10, per=60, delay=50, chained=False),
    Setup(seed=3, workers=8, slots=6, per=60, deaths=0.1, freezes=0.2, lost=0.03),
    Setup(seed=4, workers=4, slots=6, per=60, delay=0, places=3, own_rules=0.3),
    Setup(seed=5, workers=4, slots=6, per=60, leaps=0.1),
    Setup(seed=3, workers=4, slots=6, per=60, lost=0.1, late=0.5),
    Setup(seed=6, workers=4, slots=6, per=60, rollbacks=0.1),
]


@pytest.mark.parametrize("setup", ROUNDS, ids=range(7))
def test_simulated_crawl_is_polite_and_done(path, setup):
    result = simulate(path, setup)
    assert result.broken == [], f"{setup}: {result}"
    assert result.starts >= setup.slots * setup.per
    incidents = result.counts["leaps"] + result.counts["rollbacks"]
    assert result.excused == 0 or incidents, f"{setup}: {result}"


@pytest.mark.parametrize("slots", [1, 6])
def test_starts_are_as_fast_as_the_delay_allows(path, slots):
    """Where nothing goes wrong; every worker waits for Redis and gives slots back."""
    setup = Setup(workers=3, slots=slots, per=50, delay=250, capacity=(100,))
    setup = replace(setup, chained=False, own_rules=0, learns=0, changes=0, visits=0)
    result = simulate(path, replace(setup, deaths=0, freezes=0, lost=0))
    assert result.broken == []
    assert 0.95 < result.rate <= 1.001, str(result)


@pytest.mark.parametrize("delay", [1000, 0])
def test_two_hundred_workers_share_the_slots(path, delay):
    """Also those whose way to Redis is long get some, while others have more than two."""
    slots, per = (400, 6) if delay else (10, 40)
    setup = Setup(workers=200, slots=slots, per=per, delay=delay, places=20)
    setup = replace(setup, capacity=(16,), turns=(500,), own_rules=0, chained=False)
    setup = replace(setup, learns=0, changes=0, visits=0, deaths=0, freezes=0)
    simulation = Simulation(setup, wire := Wire(path))
    result = simulation.run()
    wire.close()
    assert result.broken == []
    assert result.starts == slots * per
    idle = sum(not member.starts for member in simulation.members)
    assert idle < 10 or not delay, str(result)


@pytest.mark.parametrize("name", IN_LUA)
def test_mistake_is_one_in_the_lua(name):
    assert any(source(script, IN_LUA[name])[1] for script in scripts.names())


@pytest.mark.parametrize(
    "name", ["a yield forgets the rest", "a visitor does not wait", "no spacing"]
)
def test_mistake_is_noticed(path, name):
    """Of these at once; of the others by `tests.support.politeness_mistakes`."""
    assert name in {*IN_LUA, *IN_THE_WORKER}
    assert notice(path, name).broken


# What the simulation is not likely to meet

RULES = Rules(1.0, 8)


async def lease(worker, want=10, rules=RULES, **manners):
    manners = Manners(rules, **manners)
    call = worker.frontier.lease_politely(want, manners, suspects=8)
    return await worker.call(call)


def in_slot(slot, *names):
    return [NewRequest(name.encode(), 0.0, slot=slot) for name in names]


async def test_slot_that_comes_in_right_after_a_leap_of_the_clock_may_be_asked(client):
    worker = await Worker(client).join()
    await lease(worker)
    await client.hincrby(KEYS.state, "slots:shift", 3_600_000)
    await worker.commit(in_slot(7, "a"))
    reply, granted = await lease(worker)
    assert names(reply.leases) == ["a"]
    assert [grant.name for grant in granted.grants] == ["7"]


async def test_released_request_may_be_asked_for_right_after_a_leap(client):
    worker = await Worker(client).join()
    await worker.commit(in_slot(7, "a"))
    reply, _ = await lease(worker)
    await worker.call(worker.frontier.give_seats_back([Yield("7")]))
    await client.hincrby(KEYS.state, "slots:shift", 3_600_000)
    await worker.release(*reply.leases)
    reply, _ = await lease(worker)
    assert names(reply.leases) == ["a"]


@pytest.mark.parametrize("score", [3, 2.5, -1])
async def test_requests_whose_slot_is_missing_are_found_when_there_are_no_others(
    client, score
):
    """They came in past the frontier, or a file was torn."""
    worker = await Worker(client).join()
    await client.zadd(KEYS.requests, {member(b"a", 1): score, member(b"b", 2): score})
    found = []
    for _ in range(6):
        reply, granted = await lease(worker)
        assert reply.leases or granted.wait == 0.0 or found == ["a", "b"]
        found += names(reply.leases)
        await worker.ack(*reply.leases)
        seats = [Yield(grant.name) for grant in granted.grants]
        await worker.call(worker.frontier.give_seats_back(seats))
    assert found == ["a", "b"]


async def test_last_worker_may_leave_with_seats(client):
    """It had nothing to do in them any more."""
    worker = await Worker(client).join()
    await worker.commit(in_slot(7, "a"))
    reply, _ = await lease(worker)
    await worker.ack(*reply.leases)
    assert await worker.call(worker.frontier.held_seats()) == ["7"]
    assert await worker.leave(finished=True)


async def test_seats_of_a_worker_that_has_left_rest(client):
    worker, other = await Worker(client).join(), await Worker(client).join()
    await worker.commit(in_slot(7, "a", "b"))
    reply, _ = await lease(worker, 1)
    await worker.ack(*reply.leases)
    await worker.leave()
    reply, granted = await lease(other)
    assert not reply.leases
    assert granted.wait is not None
    assert 0 < granted.wait <= 1
    await client.hincrby(KEYS.state, "slots:shift", 1000)
    reply, _ = await lease(other)
    assert names(reply.leases) == ["b"]


async def test_worker_that_has_lost_some_of_its_seats_is_dead(client):
    """They are taken a hundred at a time: it may beat before it has lost the others."""
    other, worker = [await Worker(client).join() for _ in range(2)]
    await worker.commit(in_slot(7, *map(str, range(99))))
    for first in range(1000, 1300, 100):
        slots = range(first, first + 100)
        await worker.commit([NewRequest(b"%d" % n, 0, slot=n) for n in slots])
    while (await client.zcount(KEYS.slots, 2**52, "inf")) < 301:
        await lease(worker, 100, portion=1)
    await client.zadd(KEYS.workers, {worker.number: 1})
    await other.heartbeat()
    while (await client.zcount(KEYS.slots, 2**52, "inf")) == 301:
        await other.reap()
    assert await client.zcount(KEYS.slots, 2**52, "inf") == 201
    assert not (await worker.heartbeat()).known
    assert not (await lease(worker))[0].known
    assert await worker.call(worker.frontier.visit(7, Manners(RULES))) is None
    while await client.zscore(KEYS.workers, worker.number) is not None:
        await other.reap()
    assert await client.zcount(KEYS.slots, 2**52, "inf") == 0


async def test_what_is_carried_out_late_gives_no_seat_back(client):
    """The worker has given up on it, and got the seat again."""
    worker, other = await Worker(client).join(), await Worker(client).join()
    await worker.commit(in_slot(7, "a", "b", "c"))
    await lease(worker, 1)
    late = [
        worker.frontier.give_seats_back([Yield("7")]),
        worker.frontier.visit(8, Manners(RULES)),
        worker.frontier.lease_politely(5, Manners(RULES), suspects=8),
    ]
    assert await worker.call(worker.frontier.held_seats()) == ["7"]
    await worker.call(worker.frontier.give_seats_back([Yield("7")]))
    reply, _ = await lease(worker, 1)
    assert names(reply.leases) == ["b"]
    await worker.frontier.exchange(late)
    reply, _ = await lease(other)
    assert names(reply.leases) == []
    assert await worker.call(worker.frontier.held_seats()) == ["7"]


async def test_worker_that_is_forgotten_leaves_no_round_behind(client):
    worker = await Worker(client).join()
    await worker.call(worker.frontier.held_seats())
    await worker.leave()
    await worker.call(worker.frontier.held_seats())
    fields = await client.hkeys(KEYS.state)
    assert [field for field in fields if field.startswith(b"round:")] == []


@ON_REDIS_ONLY
@pytest.mark.parametrize("is_polite", [False, True])
async def test_small_slots_have_their_turns_beside_a_very_large_one(client, is_polite):
    """Of twenty thousand requests; tests/benchmarks has a million."""
    workers = [await Worker(client).join() for _ in range(4)]
    filler = workers[0]
    large = [NewRequest(b"%d" % n, 0, slot=7) for n in range(20_000)]
    small = [NewRequest(b"small", 0, slot=slot) for slot in range(1000, 2000)]
    batches = [(large + small)[n : n + 100] for n in range(0, 21_000, 100)]
    commits = [Commit(n, each) for n, each in enumerate(batches, 1)]
    for n in range(0, len(commits), 30):
        calls = [filler.frontier.commit(commit) for commit in commits[n : n + 30]]
        await filler.frontier.exchange(calls)

    found = Counter()
    manners = Manners(Rules(1.0, 8), portion=1)
    for turn in range(100):
        frontier = workers[turn % 4].frontier
        if is_polite:
            call = frontier.lease_politely(100, manners, suspects=8)
            reply, _ = await workers[turn % 4].call(call)
        else:
            reply = await workers[turn % 4].call(frontier.lease(100, suspects=8))
        found.update(lease.slot for lease in reply.leases)
        if len(found) == 1001:
            break
    assert sorted(found) == [7, *range(1000, 2000)]
    # While others waited the large one got its turns only; then it filled one answer.
    assert found[7] <= turn + 100
