"""What workers died with: in groups first, then alone, so that no innocent is set aside."""

from __future__ import annotations

import random

import pytest

from scrapy_dist.brokers.redis.replies import LeaseReply
from scrapy_dist.core.frontier import SUSPECTS, Lease, Left
from tests.support.frontiers import KEYS, Worker, dead_letters, names, places, suspect


async def take(worker: Worker, want: int = 100, suspects: int = SUSPECTS) -> LeaseReply:
    return await worker.call(worker.frontier.lease(want, suspects=suspects))


async def plant(client, deaths: str, first: int = 1) -> None:
    """Suspects in the order of *deaths*, one digit each, named by their place."""
    for n, digit in enumerate(deaths, first):
        await client.zadd(KEYS.suspects, {suspect(b"%d" % n, n, int(digit)): 0})


async def test_those_that_died_once_go_out_in_groups(client):
    worker = await Worker(client).join()
    await plant(client, "1" * 12)
    await worker.push("x", "y")
    reply = await take(worker)
    assert [lease.suspect for lease in reply.leases] == [True] * 8 + [False] * 2
    assert names(reply.leases) == [*"12345678", "x", "y"]
    assert (reply.left.suspects, reply.left.alone) == (4, False)
    assert not any(lease.alone for lease in reply.leases)
    assert names((await take(worker, 3, suspects=2)).leases) == ["9", "10"]


@pytest.mark.parametrize(("deaths", "limit"), [("2", 3), ("1", 2), ("3", 5), ("2", 5)])
async def test_one_that_must_prove_itself_is_handed_out_alone(client, deaths, limit):
    worker = await Worker(client, max_deliveries=limit).join()
    await plant(client, deaths * 2)
    await worker.push("x", "y")
    reply = await take(worker)
    [lease] = reply.leases
    assert lease.suspect
    assert lease.alone
    assert reply.left.alone
    await worker.ack(lease)
    assert names((await take(worker)).leases) == ["2"]


async def test_busy_worker_is_emptied_for_it_and_the_others_go_on(client):
    first, second = await Worker(client).join(), await Worker(client).join()
    await first.push(*(f"{n}" for n in range(20)))
    mine, theirs = await first.lease(2), await second.lease(2)
    await plant(client, "21", first=1000)
    assert (await take(first)) == LeaseReply(True, [], Left(16, 2, 0, True))
    reply = await take(second, 3)
    assert not reply.left.alone
    assert names(reply.leases)[0] == "1001"  # the one that died once
    theirs = [*theirs, *reply.leases]
    await first.ack(mine[0])
    # Whether or not it asks for suspects.
    assert (await take(first, suspects=0)).leases == []
    await first.ack(mine[1])
    reply = await take(first)
    assert (names(reply.leases), reply.left.alone) == (["1000"], True)
    await first.ack(*reply.leases)
    assert len((await take(first, 4)).leases) == 4
    assert len((await take(second, 4)).leases) == 4


async def test_idle_workers_do_not_wait_for_the_one_that_is_emptied(client):
    busy, idle = await Worker(client).join(), await Worker(client).join()
    await busy.push("page")
    [page] = await busy.lease()
    await plant(client, "22", first=1000)
    assert (await take(busy)).left.alone
    reply = await take(idle)
    assert (names(reply.leases), reply.left.alone) == (["1000"], True)
    await busy.ack(page)
    assert names((await take(busy)).leases) == ["1001"]


async def test_another_worker_is_emptied_where_the_first_has_gone(client):
    gone, other = await Worker(client).join(), await Worker(client).join()
    await gone.push(*"abcdef")
    [mine], _ = await gone.lease(1), await other.lease(1)
    await plant(client, "2", first=1000)
    assert (await take(gone)).left.alone
    assert not (await take(other, 1)).left.alone
    await gone.ack(mine)
    await gone.leave()
    assert (await take(other, 1)).left.alone


async def test_nobody_is_emptied_for_nothing(client):
    """Somebody else has taken it meanwhile."""
    busy, idle = await Worker(client).join(), await Worker(client).join()
    await busy.push(*"abcdef")
    await busy.lease(1)
    await plant(client, "21111", first=1000)
    assert (await take(busy)).left.alone
    assert (await take(idle)).left.alone
    assert len((await take(busy, 4)).leases) == 4
    assert not await client.hexists(KEYS.state, "alone")


async def test_worker_that_cannot_be_emptied_goes_on_after_a_minute(client):
    """What it holds may wait for what is pending."""
    worker = await Worker(client).join()
    await worker.push(*"abcdef")
    await worker.lease(1)
    await plant(client, "2", first=1000)
    assert (await take(worker)).left.alone

    async def after(seconds: int) -> LeaseReply:
        now, _ = await client.time()
        since = f"{worker.number} {(now - seconds) * 1000}"
        await client.hset(KEYS.state, "alone", since)
        return await take(worker, 1)

    assert (await after(50)).left.alone
    assert names((await after(70)).leases) == ["b"]
    assert names((await after(110)).leases) == ["c"]
    assert (await after(130)).left.alone
    await client.hset(KEYS.state, "alone", "what no worker writes")
    assert (await take(worker, 1)).left.alone


async def test_group_waits_behind_many_that_must_be_alone(client):
    """Only so many are looked at; those in front come first, and then these."""
    worker = await Worker(client).join()
    await plant(client, "2" * 20 + "1" * 3)
    seen = []
    while (reply := await take(worker)).leases:
        assert len(reply.leases) == 1 or not reply.left.alone
        seen += names(reply.leases)
        await worker.ack(*reply.leases)
    assert sorted(seen, key=int) == [f"{n}" for n in range(1, 24)]


async def test_paused_workers_take_no_suspects(client):
    worker = await Worker(client).join()
    await plant(client, "12")
    await worker.call(worker.frontier.pause(True))
    assert await take(worker) == LeaseReply(True, [], Left(0, 2))


class Simulated:
    """A worker that crawls what it holds in any order, and dies of poison."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.held: list[Lease] = []

    async def lease(self, want: int) -> None:
        if any(lease.alone for lease in self.held):
            return
        most = SUSPECTS - sum(lease.suspect for lease in self.held)
        self.held += (await take(self.worker, want, max(0, most))).leases
        alone = [lease for lease in self.held if lease.alone]
        assert not alone or len(self.held) == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
async def test_no_innocent_is_set_aside_however_many_poisons_there_are(
    client, limit, seed
):
    print(f"seed {seed}")
    source = random.Random(1000 * limit + seed)
    requests = [f"r{n}" for n in range(40)]
    poisons = set(source.sample(requests, source.choice([1, 4, 10])))
    options = {"max_deliveries": limit}
    source.shuffle(requests)
    observer = await Worker(client, **options).join()
    await observer.push(*requests)
    crawled: list[str] = []
    deaths: list[str] = []
    workers = [Simulated(await Worker(client, **options).join()) for _ in range(3)]
    for _ in range(5000):
        at = source.randrange(len(workers))
        one = workers[at]
        if source.random() < 0.4 or not one.held:
            await one.lease(source.choice([1, 4, 16]))
            found = await places(client)
            if not any(found.values()):
                break
            continue
        lease = source.choice(one.held)
        [name] = names([lease])
        if name not in poisons:
            one.held.remove(lease)
            await one.worker.ack(lease)
            crawled.append(name)
            continue
        deaths.append(name)
        await one.worker.dies(observer)
        workers[at] = Simulated(await Worker(client, **options).join())
    letters = [letter["payload"].decode() for letter in await dead_letters(client)]
    assert sorted([*crawled, *letters]) == sorted(requests)
    if limit > 1:
        assert set(letters) == poisons
        assert all(deaths.count(name) <= limit for name in poisons)
    else:
        assert set(letters) >= poisons  # none is handed out twice
