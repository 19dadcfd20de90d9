"""Coming and going: register, beat, reap, leave; and Redis' clock."""

from __future__ import annotations

import asyncio

import pytest

from scrapy_dist.brokers.redis.layout import RANK
from scrapy_dist.core.frontier import (
    BATCH,
    End,
    Heartbeat,
    JoinOutcome,
    LeaveOutcome,
    NewRequest,
    Outcome,
    Settlement,
)
from tests.support.frontiers import (
    CLEARED,
    KEYS,
    SEED_KEYS,
    TTL,
    Worker,
    contents,
    dead_letters,
    names,
    pass_time,
    places,
)

DAY = 86_400.0
#: What the state knows of the crawl itself.
MARKS = (b"crawl", b"joined", b"letters")


async def joined(client, count, **options):
    return [await Worker(client, **options).join(f"host:{n}") for n in range(count)]


async def grace(client):
    """Seconds until anybody may be declared dead."""
    until = int(await client.hget(KEYS.state, "grace") or 0)
    seconds, _ = await client.time()
    return until / 1000 - seconds if until else 0


# beat


async def test_beat_tells_what_redis_knows(client):
    worker, other = await joined(client, 2)
    await worker.push("a", "b", "c")
    await worker.push("d")
    await worker.lease(2)
    await other.lease(1)
    assert await worker.heartbeat() == Heartbeat(True, 2, 2, 2, 0)
    assert await other.heartbeat() == Heartbeat(True, 0, 1, 2, 0)


async def test_unknown_worker_beats_in_vain(client):
    await joined(client, 1)
    before = await contents(client)
    assert await Worker(client).heartbeat() == Heartbeat(False, 0, 0, 0, 0)
    assert await contents(client) == before


async def test_worker_without_a_commit_number_is_told_so(client):
    """It has confirmed at least number 0, so it takes this for a rollback."""
    [worker] = await joined(client, 1)
    await client.hdel(KEYS.state, f"commit:{worker.number}")
    assert (await worker.heartbeat()).commit == -1


async def test_silent_worker_is_dead_after_the_ttl(client):
    worker, _ = await joined(client, 2)
    await pass_time(client, TTL - 10)
    beat = await worker.heartbeat()
    assert (beat.alive, beat.silent) == (2, 0)
    await pass_time(client, 11)
    beat = await worker.heartbeat()
    assert (beat.alive, beat.silent) == (1, 1)


# reap


async def test_dead_worker_loses_its_leases_to_the_suspects(client):
    doomed, other = await joined(client, 2)
    await doomed.push("a", "b", "c", "d")
    mine, theirs = await doomed.lease(), await other.lease()
    assert await doomed.dies(other) == [2, 0, 1]
    assert await places(client) == {
        "pending": [],
        "suspects": names(mine),
        "leased": names(theirs),
    }
    assert await client.zrange(KEYS.workers, 0, -1) == [other.number.encode()]
    assert set(await client.hkeys(KEYS.state)) == {
        b"active",
        b"order",
        b"worker:" + other.number.encode(),
        b"commit:" + other.number.encode(),
        b"since:" + other.number.encode(),
        b"format:" + other.number.encode(),
        b"format",
        b"ttl",
        *MARKS,
    }
    before = await contents(client)
    assert await other.reap() == [0, 0, 0]
    assert await contents(client) == before


async def test_nobody_is_reaped_where_nobody_is_dead(client):
    worker, other = await joined(client, 2)
    await other.push("a")
    await other.lease()
    before = await contents(client)
    assert await worker.reap() == [0, 0, 0]
    assert await contents(client) == before


async def test_no_worker_is_reaped_of_a_frontier_without_workers(client):
    assert await Worker(client).reap() == [0, 0, 0]
    assert await contents(client) == {}


@pytest.mark.parametrize(
    ("held", "replies"),
    [
        (0, [[0, 0, 1]]),
        (1, [[1, 0, 1]]),
        (BATCH - 1, [[BATCH - 1, 0, 1]]),
        (BATCH, [[BATCH, 0, 0], [0, 0, 1]]),
        (BATCH + 1, [[BATCH, 0, 0], [1, 0, 1]]),
    ],
)
async def test_some_leases_are_reaped_at_a_time(client, held, replies):
    [doomed] = await joined(client, 1)
    for n in range(held):
        await doomed.push(str(n))
        await doomed.lease()
    [other] = await joined(client, 1)
    found = [await doomed.dies(other)]
    while found[-1] != [0, 0, 0]:
        found.append(await other.reap())
    assert found == [*replies, [0, 0, 0]]
    assert await client.zcard(KEYS.suspects) == held
    assert await client.zcard(KEYS.leases) == await client.hlen(KEYS.leased) == 0


async def test_one_dead_worker_is_reaped_at_a_time(client):
    *doomed, other = await joined(client, 4)
    await other.push(*"abcdef")
    for worker in doomed:
        assert len(await worker.lease()) == 2
        await client.zadd(KEYS.workers, {worker.number: 1})
    for left in (2, 1, 0):
        assert (await other.heartbeat()).silent == left + 1
        assert await other.reap() == [2, 0, 1]
    assert (await other.heartbeat()).silent == 0
    assert sorted((await places(client))["suspects"]) == list("abcdef")


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_request_that_kills_its_workers_is_a_dead_letter(client, most):
    [worker] = await joined(client, 1, max_deliveries=most)
    await worker.push("poison", score=-1)
    for death in range(1, most + 1):
        lease = await worker.lease_one()
        assert lease.suspect == (death > 1)
        [after] = await joined(client, 1, max_deliveries=most)
        last = death == most
        assert await worker.dies(after) == [not last, last, 1]
        worker = after
    [letter] = await dead_letters(client)
    assert letter["payload"] == b"poison"
    assert letter["deliveries"] == str(most).encode()
    assert letter["reason"] == b"%d workers died while they worked on it" % most
    assert letter["worker"] == b"host:0"
    assert letter["kind"] == b"request"
    assert abs(int(letter["time"]) / 1000 - (await client.time())[0]) < 60
    assert (await worker.call(worker.frontier.drained())).is_drained


async def test_last_death_is_of_the_request_and_not_of_its_neighbours(client):
    [worker] = await joined(client, 1)
    await worker.push("poison", "a", "b", score=-1)
    for _ in range(3):
        await worker.lease()  # all of them, twice; then one alone
        [after] = await joined(client, 1)
        await worker.dies(after)
        worker = after
        for suspect in [await worker.lease_one()]:
            await worker.release(suspect)
    members = await client.zrange(KEYS.suspects, 0, -1)
    assert [member[RANK:] for member in members] == [b"2 - 0 a", b"2 - 0 b"]
    assert [letter["payload"] for letter in await dead_letters(client)] == [b"poison"]


async def test_poison_that_finds_no_room_is_handed_to_nobody(client):
    [doomed] = await joined(client, 1, max_deliveries=1, failed_limit=2)
    await doomed.push("a", "b", "c")
    await doomed.lease()
    [other] = await joined(client, 1, max_deliveries=1, failed_limit=2)
    assert await doomed.dies(other) == [1, 2, 1]
    assert [x["payload"] for x in await dead_letters(client)] == [b"a", b"b"]
    assert (await places(client))["suspects"] == ["c"]
    assert await other.call(other.frontier.readmit()) == [0, 1]
    assert await other.lease() == []
    # Somebody makes room: it has killed as many as it may, and is a dead letter now.
    await client.xtrim(KEYS.failed, 0)
    assert await other.lease() == []
    assert await other.call(other.frontier.readmit()) == [1, 0]
    [letter] = await dead_letters(client)
    assert (letter["payload"], letter["deliveries"]) == (b"c", b"1")
    assert letter["reason"] == b"1 workers died while they worked on it"
    assert (await other.call(other.frontier.drained())).is_drained


async def test_seed_that_kills_its_workers_is_a_dead_letter(client):
    [doomed] = await joined(client, 1, max_deliveries=1)
    await client.rpush(SEED_KEYS[0], b"seed")
    await doomed.seeds()
    [other] = await joined(client, 1, max_deliveries=1)
    assert await doomed.dies(other) == [0, 1, 1]
    [letter] = await dead_letters(client)
    assert (letter["payload"], letter["kind"]) == (b"seed", b"seed")


async def test_ack_that_was_cut_in_half_is_not_crawled_again(client):
    [doomed] = await joined(client, 1)
    await doomed.push("done", "open")
    done, _ = await doomed.lease()
    await client.hdel(KEYS.leased, done.id)
    [other] = await joined(client, 1)
    assert await doomed.dies(other) == [1, 0, 1]
    assert await places(client) == {"pending": [], "suspects": ["open"], "leased": []}


async def test_zombie_changes_nothing_with_what_it_lost(client):
    zombie, other = await joined(client, 2)
    await zombie.push("a")
    a = await zombie.lease_one()
    await zombie.dies(other)
    before = await contents(client)
    child = NewRequest(b"child", 0, "fp")
    reply = await zombie.commit([child], [Settlement(a.id, items=[("s:items", b"i")])])
    assert reply.outcome is Outcome.UNKNOWN_WORKER
    assert await zombie.release(a) == 0
    assert not (await zombie.heartbeat()).known
    assert await zombie.lease() == []
    assert (await contents(client)).keys() == before.keys()
    assert await places(client) == {"pending": [], "suspects": ["a"], "leased": []}

    assert (await zombie.register()).others == 1
    assert await zombie.release(a) == 0
    assert (await zombie.ack(a)).not_owned == 1
    assert (await places(client))["suspects"] == ["a"]


async def test_worker_that_beats_again_before_it_is_ended_keeps_what_is_left(client):
    [late] = await joined(client, 1)
    for n in range(BATCH + 5):
        await late.push(str(n))
        await late.lease()
    [other] = await joined(client, 1)
    assert await late.dies(other) == [BATCH, 0, 0]
    beat = await late.heartbeat()
    assert (beat.known, beat.held, beat.commit) == (True, 5, BATCH + 5)
    assert await other.reap() == [0, 0, 0]
    assert len(await late.frontier.leases_held()) == 5


# Redis' clock, and Redis away


async def test_nobody_is_dead_for_one_ttl_after_redis_was_away(client):
    team = await joined(client, 3)
    await pass_time(client, 3600)
    for n, worker in enumerate(team):
        await pass_time(client, TTL / 4)
        beat = await worker.heartbeat()
        assert (beat.known, beat.silent) == (True, 0)
        assert beat.alive == n + 1
        assert await worker.reap() == [0, 0, 0]
    assert await client.zcard(KEYS.workers) == 3


async def test_who_is_still_silent_after_the_grace_is_dead(client):
    worker, doomed = await joined(client, 2)
    await doomed.push("a")
    await doomed.lease()
    await pass_time(client, 3600)
    for _ in range(5):
        assert await worker.reap() == [0, 0, 0]
        assert (await worker.heartbeat()).silent == 0
        await pass_time(client, TTL / 5)
    await pass_time(client, 1)
    assert (await worker.heartbeat()).silent == 1
    assert await worker.reap() == [1, 0, 1]


async def test_worker_that_joins_after_a_silence_gives_the_others_time(client):
    team = await joined(client, 2)
    await team[0].push("a")
    await team[0].lease()
    await pass_time(client, 3600)
    newcomer = Worker(client)
    assert (await newcomer.register()).others == 0
    assert (await newcomer.heartbeat()).silent == 0
    assert await newcomer.reap() == [0, 0, 0]
    assert (await team[0].heartbeat()).held == 1


async def test_reap_that_follows_an_old_answer_ends_nobody(client):
    """Workers reap, then beat: since the beat that said so, Redis may have been away."""
    team = await joined(client, 3)
    await team[2].dies(team[0])
    await pass_time(client, 3600)
    assert await team[1].reap() == [0, 0, 0]
    for worker in team[:2]:
        assert (await worker.heartbeat()).known


async def live(client, living, seconds, dead=()):
    """*living* beat and reap as workers do; returns when *dead* had lost all leases."""
    found = None
    for step in range(int(seconds / (TTL / 4))):
        for worker in living:
            beat = await worker.heartbeat()
            assert beat.known
            assert beat.held == 1
            if beat.silent:
                await worker.reap()
                await worker.reap()
        held = [await worker.frontier.leases_held() for worker in dead]
        if found is None and not any(held):
            found = step * TTL / 4
        await pass_time(client, TTL / 4)
    return found


@pytest.mark.parametrize("jump", [DAY, -DAY, 2 * TTL, -2 * TTL, TTL / 2, -TTL / 2])
@pytest.mark.parametrize("silence", [0.0, TTL / 2, TTL + 1])
async def test_clock_of_redis_jumps(client, jump, silence):
    """The living keep their leases, the dead are found within about two TTLs."""
    *living, doomed = await joined(client, 4)
    await doomed.push("a", "b", "c", "d")
    for worker in (*living, doomed):
        assert len(await worker.lease(1)) == 1
    await live(client, living, silence)
    await pass_time(client, jump)
    found = await live(client, living, 3 * TTL, [doomed])
    assert found is not None
    assert found <= 2.25 * TTL
    assert await client.zcard(KEYS.workers) == 3
    # And as if nothing had been from then on: the next death, found in time.
    dies = living.pop()
    assert await live(client, living, 2 * TTL, [dies]) <= 1.25 * TTL


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_clock_of_redis_jumps_while_a_dead_worker_is_being_reaped(client, jump):
    *living, doomed = await joined(client, 3)
    for n in range(BATCH):
        await doomed.push(str(n))
        await doomed.lease(1)
    while await doomed.lease(1):
        pass
    for worker in living:
        await worker.push("x", score=-1)
        assert len(await worker.lease(1)) == 1
    await doomed.dies(living[0])
    await pass_time(client, jump)
    assert (await living[0].reap())[2] in (0, 1)
    await live(client, living, 3 * TTL, [doomed])
    assert await client.zcard(KEYS.workers) == 2


async def test_grace_of_the_future_ends_when_the_clock_goes_back(client):
    worker, _ = await joined(client, 2)
    await pass_time(client, 3600)
    await worker.heartbeat()
    assert TTL - 2 < await grace(client) <= TTL + 1
    await pass_time(client, -DAY)
    await worker.heartbeat()
    assert await grace(client) <= TTL + 1


async def test_idle_goes_on_when_the_clock_goes_back(client):
    """A spider that may be idle for so long closes today, not tomorrow."""
    [worker] = await joined(client, 1)
    await pass_time(client, -DAY)
    await worker.heartbeat()
    await pass_time(client, 30)
    assert (await worker.call(worker.frontier.drained())).idle >= 29


# register


async def test_registering_tells_who_is_there_and_what_is_pending(client):
    first = Worker(client)
    reply = await first.register("me")
    assert (reply.others, reply.outcome, reply.pending) == (0, JoinOutcome.JOINED, 0)
    await first.push("a", "b")
    reply = await Worker(client).register()
    assert (reply.others, reply.outcome, reply.pending) == (1, JoinOutcome.JOINED, 2)
    assert await client.hget(KEYS.state, f"worker:{first.number}") == b"me"


async def test_registering_again_keeps_leases_and_sets_the_commit_number(client):
    worker, _ = await joined(client, 2)
    await worker.push("a")
    [a] = await worker.lease()
    worker.commits = 7
    reply = await worker.register()
    assert (reply.others, reply.outcome) == (1, JoinOutcome.JOINED)
    beat = await worker.heartbeat()
    assert (beat.known, beat.commit, beat.held, beat.alive) == (True, 7, 1, 2)
    assert (await worker.ack(a)).outcome is Outcome.STORED


async def test_who_has_missed_two_beats_is_not_present(client):
    [silent] = await joined(client, 1)
    await pass_time(client, TTL / 2 - 2)
    assert (await Worker(client).register()).others == 1
    await pass_time(client, 3)
    assert (await Worker(client).register()).others == 1  # the one before
    await silent.heartbeat()
    assert (await Worker(client).register()).others == 3


async def fill(client):
    """An interrupted crawl; returns its worker."""
    [worker] = await joined(client, 1)
    doomed = await Worker(client).join()
    await doomed.push("s")
    await doomed.lease()
    await doomed.dies(worker)
    await worker.commit(
        [NewRequest(b"a", 0, "fp-a", 1), NewRequest(b"b", 0, "fp-b")],
        items=[("s:items", b"item")],
    )
    await worker.lease(1, suspect=False)
    await worker.call(worker.frontier.count([("inc", "n", "1")]))
    await client.rpush(SEED_KEYS[0], "seed")
    await client.xadd(KEYS.failed, {"payload": "x"})
    return worker


async def test_flush_deletes_an_earlier_crawl_but_no_seeds_items_or_dead_letters(
    client,
):
    await fill(client)
    await pass_time(client, TTL)
    worker = Worker(client)
    reply = await worker.register(flush=True)
    assert (reply.others, reply.outcome, reply.pending) == (0, JoinOutcome.FLUSHED, 0)
    kept = {SEED_KEYS[0], KEYS.items, KEYS.failed}
    assert set(await contents(client)) == {*kept, KEYS.workers, KEYS.state}
    assert await client.zrange(KEYS.workers, 0, -1) == [worker.number.encode()]
    assert set(await client.hkeys(KEYS.state)) == {
        b"active",
        f"worker:{worker.number}".encode(),
        f"commit:{worker.number}".encode(),
        f"since:{worker.number}".encode(),
        f"format:{worker.number}".encode(),
        b"format",
        b"ttl",
        *MARKS,
    }


async def test_flush_is_refused_while_another_worker_is_present(client):
    other = await fill(client)
    before = await contents(client)
    worker = Worker(client)
    reply = await worker.register(flush=True)
    assert (reply.others, reply.outcome, reply.pending) == (
        1,
        JoinOutcome.NOT_FLUSHED,
        1,
    )
    after = await contents(client)
    for key in {*before} - {KEYS.workers, KEYS.state}:
        assert after[key] == before[key]
    assert (await other.heartbeat()).known


async def test_interrupted_crawl_is_continued(client):
    await fill(client)
    before = await contents(client)
    await pass_time(client, 3600)
    reply = await Worker(client).register()
    assert (reply.others, reply.outcome, reply.pending) == (0, JoinOutcome.JOINED, 1)
    after = await contents(client)
    for key in {*before} - {KEYS.workers, KEYS.state}:
        assert after[key] == before[key]


async def finished_crawl(client):
    """Its first worker left, its last one was killed: nobody could clear it."""
    first, last = await joined(client, 2)
    await first.commit([NewRequest(b"a", 0, "fp-a", 1)])
    await first.ack(await first.lease_one())
    assert not await first.leave(finished=True)
    await pass_time(client, TTL)
    return last


async def test_finished_crawl_that_nobody_cleared_is_not_continued(client):
    await finished_crawl(client)
    worker = Worker(client)
    assert (await worker.register()).outcome is JoinOutcome.FLUSHED
    assert set(await contents(client)) == {KEYS.workers, KEYS.state, KEYS.history}
    assert await client.hget(KEYS.state, "finished") is None
    again = Worker(client)
    assert (await again.register()).outcome is JoinOutcome.JOINED


async def test_finished_crawl_that_is_kept_takes_start_requests_once_more(client):
    await finished_crawl(client)
    worker = Worker(client)
    assert (await worker.register(persist=True)).outcome is JoinOutcome.JOINED
    assert await client.smembers(KEYS.dupefilter) == {b"fp-a"}
    start = [NewRequest(b"a", 0, "fp-a", 1), NewRequest(b"a", 0, "fp-a")]
    assert (await worker.commit(start)).duplicates == [1]
    other = Worker(client)
    assert (await other.register(persist=True)).outcome is JoinOutcome.JOINED
    assert (await other.commit(start)).duplicates == [0, 1]


async def test_finished_crawl_to_which_work_came_is_continued(client):
    last = await finished_crawl(client)
    await last.push("more")
    await pass_time(client, TTL)
    reply = await Worker(client).register()
    assert (reply.outcome, reply.pending) == (JoinOutcome.JOINED, 1)
    assert await client.smembers(KEYS.dupefilter) == {b"fp-a"}


# leave


async def records(client):
    return [fields for _, fields in await client.xrange(KEYS.history)]


async def test_finished_crawl_leaves_one_record_for_a_day(client):
    await client.xadd(KEYS.failed, {"payload": "of an earlier crawl"})
    first, last = await joined(client, 2)
    await first.commit(
        [NewRequest(b"a", 0, "fp-a"), NewRequest(b"b", 0, "fp-b")],
        items=[("s:items", b"i")],
    )
    await first.ack(await first.lease_one())
    bad = await first.lease_one()
    page = Settlement(
        bad.id, (), [("s:items", b"i"), ("s:items", b"j")], End.FAILED, "it raised"
    )
    await first.commit(pages=[page])
    assert not await first.leave(finished=True)
    assert await records(client) == []
    call = last.frontier.leave(finished=True, reason="idle")
    assert (await last.call(call)) == (LeaveOutcome.DELETED, 2)
    [record] = await records(client)
    assert record.pop(b"crawl").decode() == first.frontier.crawl == last.frontier.crawl
    assert int(record.pop(b"start")) <= int(record.pop(b"end"))
    assert record == {
        b"reason": b"idle",
        b"pages": b"2",
        b"items": b"3",
        b"failed": b"1",
        b"workers": b"2",
    }
    assert 86390 < await client.ttl(KEYS.history) <= 86400


async def test_newest_hundred_records_of_a_day_are_kept(client):
    await client.xadd(KEYS.history, {"crawl": "old"}, id="1-0")
    for n in range(102):
        worker = await Worker(client).join()
        call = worker.frontier.leave(finished=True, reason=str(n))
        assert await worker.call(call) == (LeaveOutcome.DELETED, 0)
    reasons = [int(record[b"reason"]) for record in await records(client)]
    assert reasons == [*range(2, 102)]


@pytest.mark.parametrize("persist", [False, True])
@pytest.mark.parametrize("others", ["left", "killed", "began another"])
async def test_worker_that_was_away_when_its_crawl_finished_does_not_join_again(
    client, persist, others
):
    away, last, killed = await joined(client, 3)
    await away.push("a")
    await away.lease_one()
    assert await away.dies(last) == [1, 0, 1]
    await last.ack(await last.lease_one(suspect=True))
    if others != "killed":
        await killed.leave(finished=True, persist=persist)
    assert await last.leave(finished=True, persist=persist) is (
        others != "killed" and not persist
    )
    await pass_time(client, TTL)
    if others == "began another":
        new = Worker(client)
        await new.register(persist=persist)
        await new.push("b")
        assert new.frontier.crawl != away.frontier.crawl
    before = await contents(client)
    crawl = away.frontier.crawl
    for _ in range(2):  # a reply may be lost
        assert (await away.register(persist=persist)).outcome is JoinOutcome.MISSED
        assert away.frontier.crawl == crawl
        [record] = await records(client)
        assert record[b"crawl"].decode() == crawl
    if others != "killed":
        assert await contents(client) == before


async def test_worker_that_was_away_joins_again_while_its_crawl_goes_on(client):
    away, other = await joined(client, 2)
    await other.push("a")
    await away.dies(other)
    assert (await away.register()).outcome is JoinOutcome.JOINED
    assert await client.hget(KEYS.state, "joined") == b"2"
    await away.dies(other)
    await client.flushdb()  # and where nobody knows what became of it
    assert (await away.register()).outcome is JoinOutcome.JOINED


async def test_crawl_is_no_more_finished_when_seeds_came_after_that(client):
    """One left when nothing was left, the other went on, and was killed."""
    first, other = await joined(client, 2)
    await first.commit([NewRequest(b"a", 0, "fp-a")])
    await first.ack(await first.lease_one())
    assert not await first.leave(finished=True)
    await asyncio.sleep(0.002)
    await client.rpush(SEED_KEYS[0], "seed")
    [seed] = await other.seeds(1)
    await other.ack(seed)
    await pass_time(client, TTL)
    assert (await Worker(client).register()).outcome is JoinOutcome.JOINED
    assert await client.smembers(KEYS.dupefilter) == {b"fp-a"}


async def test_spider_that_is_shut_down_while_it_waits_keeps_what_it_knows(client):
    first, other = await joined(client, 2)
    await first.commit([NewRequest(b"a", 0, "fp-a")])
    await first.ack(await first.lease_one())
    assert not await first.leave(finished=True)
    assert await other.call(other.frontier.leave(finished=False)) == (
        LeaveOutcome.KEPT,
        1,
    )
    assert await client.hget(KEYS.state, "finished") is None
    assert (await Worker(client).register()).outcome is JoinOutcome.JOINED


@pytest.mark.parametrize("seed", [True, False])
async def test_what_waits_besides_requests_is_no_end(client, seed):
    """A seed; a worker that is busy with a request that no lease stands for."""
    worker, other = await joined(client, 2)
    if seed:
        await client.rpush(SEED_KEYS[0], "seed")
    else:
        await other.call(other.frontier.heartbeat(busy=True))
    state = await worker.call(worker.frontier.drained())
    assert (state.seeds, state.leased) == (int(seed), int(not seed))
    await pass_time(client, TTL / 2 + 1)  # the other is not present
    assert await worker.call(worker.frontier.leave(finished=True)) == (
        LeaveOutcome.LEFT,
        0,
    )
    assert await client.exists(KEYS.state)


@pytest.mark.parametrize("end", ["says so", "leaves", "dies"])
async def test_busy_worker_counts_until_it_says_so_or_is_gone(client, end):
    busy, other = await joined(client, 2)
    await busy.call(busy.frontier.heartbeat(busy=True))
    await busy.call(busy.frontier.heartbeat())
    assert not (await other.call(other.frontier.drained())).is_drained
    if end == "says so":
        await busy.call(busy.frontier.heartbeat(busy=False))
    elif end == "leaves":
        await busy.leave(finished=True)
    else:
        await busy.dies(other)
    assert (await other.call(other.frontier.drained())).is_drained
    assert not await client.exists(KEYS.control)


@pytest.mark.keeps("s:foreign", "other", reason="keys of others")
@pytest.mark.parametrize("persist", [False, True])
async def test_last_one_out_of_a_finished_crawl_deletes_exactly_the_frontier(
    client, persist
):
    first, last = await joined(client, 2)
    await first.commit(
        [NewRequest(b"a", 0, "fp-a", 1)], items=[("s:items", b"i"), ("other", b"i")]
    )
    await first.ack(await first.lease_one())
    await first.call(first.frontier.count([("inc", "n", "1")]))
    await client.xadd(KEYS.failed, {"payload": "x"})
    await client.set("s:foreign", "x")
    assert not await first.leave(finished=True, persist=persist)
    before = await contents(client)
    assert await last.leave(finished=True, persist=persist) is not persist
    after = await contents(client)
    kept = {"s:items", "other", KEYS.failed, "s:foreign"}
    if persist:
        kept |= {KEYS.dupefilter, KEYS.started, KEYS.stats, KEYS.state}
        assert set(after[KEYS.state]) == {
            b"active",
            b"order",
            b"finished",
            b"recorded",
            *MARKS,
            b"pages",
            b"format",
            b"items",
            b"ttl",
        }
    assert set(after) == {*kept, KEYS.history}
    assert all(after[key] == before[key] for key in kept - {KEYS.state})
    # A reply may be lost: to leave once more changes nothing.
    assert await last.leave(finished=True, persist=persist) is not persist
    assert await contents(client) == after


async def test_interrupted_worker_leaves_the_frontier_as_it_is(client):
    [worker] = await joined(client, 1)
    await worker.commit([NewRequest(b"a", 0, "fp-a")])
    await worker.ack(await worker.lease_one())
    assert not await worker.leave(finished=False)
    assert await client.smembers(KEYS.dupefilter) == {b"fp-a"}
    assert set(await client.hkeys(KEYS.state)) == {
        b"active",
        b"order",
        b"pages",
        b"format",
        b"ttl",
        *MARKS,
    }
    assert await client.exists(KEYS.workers) == 0
    assert (await Worker(client).register()).outcome is JoinOutcome.JOINED


@pytest.mark.parametrize("left", ["pending", "suspect", "leased by another"])
async def test_frontier_with_something_left_is_not_deleted(client, left):
    worker, other = await joined(client, 2)
    await other.push("a")
    if left != "pending":
        await other.lease_one()
    if left == "suspect":
        await other.dies(worker)
    await pass_time(client, TTL / 2 + 1)  # the other is not present
    assert not await worker.leave(finished=True)
    assert sum(map(len, (await places(client)).values())) == 1
    assert await client.hget(KEYS.state, "finished") is None


async def test_silent_worker_does_not_keep_a_finished_crawl(client):
    worker, _ = await joined(client, 2)
    await pass_time(client, TTL / 2 - 2)
    await worker.heartbeat()
    third = await Worker(client).join()
    assert not await third.leave(finished=True)
    await pass_time(client, 4)
    await worker.heartbeat()
    assert await worker.leave(finished=True)
    assert set(await contents(client)) == {KEYS.history}


async def test_worker_that_leaves_with_leases_is_long_dead(client):
    """It lost the reply that brought them. Whoever beats next may reap them."""
    worker, other = await joined(client, 2)
    await worker.push("a")
    await worker.lease_one()
    assert not await worker.leave(finished=True)
    beat = await other.heartbeat()
    assert (beat.alive, beat.silent) == (1, 1)
    assert await other.reap() == [1, 0, 1]
    assert (await places(client))["suspects"] == ["a"]


async def test_last_worker_that_leaves_with_leases_is_reaped_by_the_next(client):
    [worker] = await joined(client, 1)
    await worker.push("a")
    await worker.lease_one()
    assert not await worker.leave(finished=False)
    [after] = await joined(client, 1)
    for _ in range(6):
        await after.heartbeat()
        await after.reap()
        await pass_time(client, TTL / 4)
    assert (await places(client))["suspects"] == ["a"]


async def test_only_what_belongs_to_this_frontier_is_in_the_list():
    assert len(CLEARED) == 11


async def ended_before(client, seconds):
    """The record of the last crawl says that it ended *seconds* earlier."""
    [(id_, record)] = await client.xrevrange(KEYS.history, count=1)
    await client.xdel(KEYS.history, id_)
    await client.xadd(
        KEYS.history, {**record, b"end": int(record[b"end"]) - seconds * 1000}
    )


@pytest.mark.parametrize("persist", [False, True])
async def test_worker_that_was_started_before_the_end_is_late(client, persist):
    [first] = await joined(client, 1)
    await first.push("a")
    [lease] = await first.lease()
    await first.ack(lease)
    await first.leave(finished=True, persist=persist)
    await ended_before(client, 5)
    before = await contents(client)
    late = Worker(client)
    assert (await late.register(persist=persist, age=6)).outcome is JoinOutcome.LATE
    assert late.frontier.crawl == first.frontier.crawl
    assert await contents(client) == before
    # One that was started since, a program that crawls again, and a crawl that goes on.
    assert (await Worker(client).register(persist=persist, age=4)).outcome in (
        JoinOutcome.JOINED,
        JoinOutcome.FLUSHED,
    )
    assert (
        await Worker(client).register(persist=persist, age=6)
    ).outcome is JoinOutcome.JOINED


@pytest.mark.parametrize("age", [0, 4])
async def test_new_crawl_begins_after_the_last_one(client, age):
    [first] = await joined(client, 1)
    await first.leave(finished=True)
    await ended_before(client, 5)
    assert (await Worker(client).register(age=age)).outcome is JoinOutcome.JOINED
