"""What a worker asks for in one exchange, and what it makes of the answer.

The broker is played by the test, which says what comes of each `Ask`.
"""

from __future__ import annotations

import asyncio
import math

import pytest
from scrapy import Request

from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import (
    Answer,
    CommitReply,
    Counts,
    Deaths,
    End,
    Heartbeat,
    Joined,
    JoinOutcome,
    Lease,
    LeaveOutcome,
    Left,
    NewRequest,
    Outcome,
    Settlement,
)
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.worker.loop import Loop
from scrapy_dist.worker.recovery import Ending
from scrapy_dist.worker.view import Account, Memory
from tests.support.engine import Closer, FakeEngine, make_options, make_queues
from tests.support.worker import Clock

URL = "http://a.invalid/"
OPTIONS = {"CONCURRENT_REQUESTS": 16, "FRONTIER_OUTBOX_LIMIT": 1000}


class Broker:
    """A `frontier_port.Frontier`; *replies* change what the next answers are like."""

    limit = None
    process = None
    failed_key = "s:failed"

    def __init__(self):
        self.asks = []
        self.replies = []
        self.leases = frozenset()
        self.joined = Joined(JoinOutcome.JOINED)
        self.joins = []
        self.calls = []

    async def exchange(self, ask):
        self.asks.append(ask)
        reply = self.replies.pop(0) if self.replies else {}
        if isinstance(reply, BaseException):
            raise reply
        stored = [CommitReply(Outcome.STORED)] * len(ask.commits)
        if not reply.get("refused"):
            self.leases -= set(ask.releases)
        heartbeat = None
        if ask.heartbeat:
            fields = {"known": True, "commit": 1000, "held": len(self.leases)}
            fields |= {"alive": 1, "silent": 0} | reply.pop("beat", {})
            heartbeat = Heartbeat(**fields)
        left = reply.pop("left", Left()) if ask.leases else None
        claims = [True] * len(ask.claims) if ask.claims else None
        fields = {"commits": stored, "heartbeat": heartbeat, "claims": claims}
        return Answer(**(fields | {"left": left} | reply))

    async def join(self, info, **how):
        self.joins.append(how)
        return self.joined

    async def held(self):
        self.calls.append("held")
        return self.leases

    async def leave(self, **how):
        self.calls.append("leave")
        return LeaveOutcome.LEFT, 0

    async def watch(self, changed):
        self.calls.append("watch")
        return True

    async def close(self):
        self.calls.append("close")


class Round:
    """A worker on such a broker."""

    def __init__(self, broker):
        self.broker = broker
        self.engine = FakeEngine()
        self.changes = []
        self.engine.stats.take_changes = self._take_changes
        self.closer = Closer()
        self.queues = make_queues(
            self.engine, PayloadCodec(self.engine.spider), **OPTIONS
        )
        self.view, self.outbox = self.queues.view, self.queues.outbox
        self.loop = Loop(
            self.engine,
            broker,
            self.queues,
            make_options(**OPTIONS),
            self.closer,
            name="host:1",
        )
        self.due = []
        self.queues.pacing.request = lambda delay=0.0: self.due.append(delay)

    def _take_changes(self):
        taken, self.changes = self.changes, []
        return taken

    async def ask(self, *, take=True, **reply):
        """One exchange, answered so; what was asked."""
        self.due.clear()
        if reply:
            self.broker.replies.append(reply)
        await self.loop.exchange.run_once(take=take)
        return self.broker.asks[-1]

    async def fail(self, error=None):
        """One that has no answer."""
        self.broker.replies.append(error or RedisUnavailable("away"))
        with pytest.raises(RedisUnavailable) as caught:
            await self.loop.exchange.run_once()
        self.loop._failed(caught.value)

    def works(self):
        """The loop has taken notice of an answer."""
        self.loop.recovery.answered()
        self.queues.pacing.answered()

    def produce(self, count=1):
        for _ in range(count):
            self.outbox.add_request(NewRequest(b"x", 0.0), Request(URL))

    def lease(self, id_="1"):
        """A lease that both know of."""
        self.broker.leases |= {id_}
        payload = PayloadCodec(self.engine.spider).encode(Request(URL + id_))
        self.queues.accept([Lease(id_, payload)])

    def begin(self):
        request, _ = self.queues.next()
        self.engine.requests.add(request)
        return request


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def round_(broker):
    return Round(broker)


def stored(*outcomes, **fields):
    return [CommitReply(outcome, **fields) for outcome in outcomes]


# What is asked for


async def test_a_worker_with_free_places_asks_for_leases_and_one_that_closes_not(
    round_,
):
    ask = await round_.ask()
    assert (ask.leases >= 16, ask.suspects) == (True, 8)
    assert (ask.heartbeat, ask.count) == (True, True)
    ask = await round_.ask(take=False)
    assert (ask.leases, ask.suspects, ask.seeds, ask.count) == (0, 0, 0, False)
    assert ask.heartbeat


async def test_a_full_outbox_is_sent_before_anything_is_leased(round_):
    round_.produce(999)
    assert (await round_.ask(commits=stored(*[Outcome.AGAIN] * 4))).leases > 0
    round_.produce()
    ask = await round_.ask(commits=stored(*[Outcome.AGAIN] * 4))
    assert (ask.leases, len(ask.commits)) == (0, 4)
    await round_.ask()
    assert (await round_.ask()).leases > 0


async def test_one_commit_at_a_time_is_tried_while_redis_is_full(round_):
    round_.produce(500)
    assert len((await round_.ask(commits=stored(*[Outcome.FULL] * 4))).commits) == 4
    assert round_.view.memory is Memory.FULL
    assert len((await round_.ask()).commits) == 1
    assert len((await round_.ask()).commits) == 4


async def test_commits_tell_that_a_worker_lives_and_it_beats_now_and_then(
    round_, monkeypatch
):
    clock = Clock(monkeypatch)
    assert (await round_.ask()).heartbeat
    round_.produce()
    assert not (await round_.ask()).heartbeat
    assert (await round_.ask()).heartbeat  # nothing else says so
    clock.leap(0.3)
    round_.produce()
    assert (await round_.ask()).heartbeat
    round_.produce()
    assert not (await round_.ask()).heartbeat
    round_.produce()
    assert (await round_.ask(take=False)).heartbeat


async def test_after_a_failure_a_beat_comes_before_new_leases(round_):
    await round_.ask()
    await round_.fail()
    round_.produce()
    ask = await round_.ask()
    assert (ask.heartbeat, ask.leases, ask.seeds) == (True, 0, 0)
    round_.works()
    assert 0.0 in round_.due
    assert (await round_.ask()).leases > 0


async def test_it_tells_of_itself_once_a_second(round_, monkeypatch):
    clock = Clock(monkeypatch)
    assert (await round_.ask()).info
    assert not (await round_.ask()).info
    clock.leap(1.1)
    await round_.fail()
    assert (await round_.ask()).info  # nobody knows whether it was heard
    assert not (await round_.ask()).info


async def test_stats_are_sent_once_a_second_at_the_end_at_once_and_each_once(
    round_, monkeypatch
):
    clock = Clock(monkeypatch)
    round_.changes = [("inc", "a", "1")]
    await round_.fail()
    assert (await round_.ask()).stats == [("inc", "a", "1")]
    round_.changes = [("inc", "b", "1")]
    assert (await round_.ask()).stats == []
    clock.leap(1.1)
    assert (await round_.ask()).stats == [("inc", "b", "1")]
    round_.changes = [("inc", "c", "1")]
    assert (await round_.ask(take=False)).stats == [("inc", "c", "1")]
    assert (await round_.ask(take=False)).stats == []


async def test_silent_workers_are_reaped_but_not_by_one_that_closes(round_):
    assert not (await round_.ask(beat={"silent": 1})).reap
    assert any(delay <= 0.1 for delay in round_.due)
    assert not (await round_.ask(take=False, beat={"silent": 1})).reap
    assert (await round_.ask(deaths=Deaths(ended=1))).reap
    assert not (await round_.ask()).reap


async def test_workers_whose_processes_are_gone_are_told_until_redis_has_heard(round_):
    near = round_.loop.neighbours
    near.gone[("7", "9 9")] = None
    assert not (await round_.ask(take=False)).gone
    round_.broker.replies.append({"refused": "WRONGTYPE"})
    with pytest.raises(RedisUnavailable):
        await round_.ask()
    ask = await round_.ask()
    assert (ask.gone, ask.reap) == ([("7", "9 9")], True)
    assert near.gone == {}
    assert not (await round_.ask()).reap


async def test_it_is_asked_who_is_here_when_workers_have_come(round_):
    round_.loop.neighbours.seen = True
    assert not (await round_.ask(beat={"met": 2})).meet
    assert 0.0 in round_.due
    assert (await round_.ask(met=(2, []), beat={"met": 2})).meet
    assert not (await round_.ask(beat={"met": 2})).meet
    assert not (await round_.ask(take=False, beat={"met": 3})).meet
    assert not (await round_.ask(take=False, beat={"met": 3})).meet


async def test_a_request_without_a_lease_is_told_until_what_it_led_to_is_stored(round_):
    assert (await round_.ask()).busy is None
    round_.queues.pinned.keep(Request(URL), (), "")
    assert (await round_.ask()).busy is True
    page = round_.begin()
    round_.produce()
    round_.engine.requests.discard(page)
    assert (await round_.ask(commits=stored(Outcome.AGAIN))).busy is not False
    assert (await round_.ask()).busy is not False
    assert 0.0 in round_.due  # Redis is to hear that it is over
    assert (await round_.ask()).busy is False
    assert (await round_.ask()).busy is None
    assert 0.0 not in round_.due


async def test_failed_suspects_that_wait_for_room_are_taken_up(round_, caplog):
    await round_.ask(left=Left(suspects=3, waiting=3))
    assert (round_.view.waiting, round_.view.suspects) == (3, 3)
    assert "s:failed is full" in caplog.text
    ask = await round_.ask(readmitted=0, left=Left())
    assert ask.readmit
    assert round_.view.waiting == 0
    assert not (await round_.ask()).readmit


async def test_a_readmission_counts_though_nothing_was_leased(round_):
    round_.view.waiting = 3
    await round_.ask(readmitted=1, left=None)
    assert round_.view.waiting == 1


# What becomes of the answer


async def test_releases_and_rejects_are_told_until_redis_has_heard_and_no_longer(
    round_,
):
    for id_ in "12":
        round_.lease(id_)
    first, second = (round_.queues.leases.records[id_] for id_ in "12")
    round_.queues.inbox.close()
    first.settled = True
    round_.outbox.releases.append("1")
    round_.queues.rejects.add(second, "bad")
    await round_.fail()
    round_.broker.replies.append({"refused": "WRONGTYPE"})
    with pytest.raises(RedisUnavailable):
        await round_.ask()
    assert set(round_.queues.leases.records) == {"1", "2"}
    round_.broker.leases = frozenset()
    ask = await round_.ask()
    assert ask.releases == ["1"]
    assert [reject.lease for reject in ask.rejects] == ["2"]
    assert round_.queues.leases.records == {}
    ask = await round_.ask()
    assert (ask.releases, ask.rejects) == ([], [])


async def test_claims_without_an_answer_are_made_again(round_):
    round_.lease()
    page = round_.begin()
    records = round_.queues.leases.handed[page]
    round_.queues.pinned.keep(Request(URL + "kept"), records, "fp")
    for reply in ({"claims": None}, RedisUnavailable("away"), asyncio.CancelledError()):
        round_.broker.replies.append(reply)
        if isinstance(reply, dict):
            await round_.loop.exchange.run_once()
            assert any(delay <= round_.view.pause for delay in round_.due)
        else:
            with pytest.raises(type(reply)):
                await round_.loop.exchange.run_once()
    ask = await round_.ask()
    assert [claim.fingerprint for claim in ask.claims] == ["fp"]
    assert (await round_.ask()).claims == []
    assert round_.queues.next() is not None


async def test_claims_in_a_refused_exchange_are_made_again_too(round_):
    round_.lease()
    records = round_.queues.leases.handed[round_.begin()]
    round_.queues.pinned.keep(Request(URL + "kept"), records, "fp")
    round_.broker.replies.append({"claims": None, "refused": "WRONGTYPE"})
    with pytest.raises(RedisUnavailable):
        await round_.ask()
    assert len((await round_.ask()).claims) == 1


async def test_refused_commit_is_kept_and_nothing_is_leased_meanwhile(round_, caplog):
    round_.produce()
    reply = stored(Outcome.REFUSED, reason="WRONGTYPE")
    for _ in range(2):
        round_.broker.replies.append({"commits": reply})
        with pytest.raises(RedisUnavailable):
            await round_.ask()
        assert round_.view.account is Account.RECONCILING
    assert round_.broker.asks[-1].leases == 0
    assert caplog.text.count("Redis refuses") == 1
    await round_.ask()
    assert "held" in round_.broker.calls
    assert len(round_.outbox) == 0
    assert (await round_.ask()).leases > 0


async def test_commits_behind_one_without_room_or_answer_wait_for_it(round_):
    for outcome in (Outcome.FULL, Outcome.AGAIN):
        round_.produce(150)
        await round_.ask(commits=stored(outcome, Outcome.GAP))
        assert len(round_.outbox) == 150
        assert round_.view.account is Account.JOINED
        while len(round_.outbox):
            await round_.ask()


async def test_full_redis_has_memory_when_it_has_stored_something_new(round_):
    round_.produce(2)
    original = round_.outbox
    await round_.ask(commits=stored(Outcome.FULL))
    assert round_.view.memory is Memory.FULL
    await round_.ask(commits=stored(Outcome.STORED, duplicates=(0, 1)))
    assert round_.view.memory is Memory.FULL
    assert len(original) == 0
    round_.produce()
    await round_.ask()
    assert round_.view.memory is Memory.ENOUGH


async def test_pages_are_looked_through_when_redis_is_full(round_):
    round_.lease()
    page = round_.begin()
    round_.engine.downloads.add(page)
    [record] = round_.queues.leases.handed[page]
    record.produced = True
    round_.produce()
    await round_.ask(commits=stored(Outcome.FULL))
    assert not record.produced


@pytest.mark.parametrize(
    "reply",
    [
        {"commits": stored(Outcome.UNKNOWN_WORKER)},
        {"commits": stored(Outcome.GAP)},
        {"commits": stored(Outcome.STORED, not_owned=1)},
        {"beat": {"known": False}},
        {"beat": {"commit": 0}},
        {"leases": [Lease("1", b"")]},
    ],
    ids=str,
)
async def test_worker_that_redis_does_not_know_registers_again(round_, reply):
    round_.lease()
    round_.begin()
    round_.lease("2")
    round_.produce()
    await round_.ask()
    round_.produce()
    round_.outbox.add_settlement(Settlement("3", end=End.ACK))
    round_.queues.pacing._beat_at = -math.inf
    await round_.ask(**dict(reply))
    assert round_.view.account is Account.REJOINING
    assert 0.0 in round_.due
    assert set(round_.outbox.releases) >= {"2"}
    round_.broker.leases = frozenset({"1", "2", "9"})
    number = round_.outbox.number
    ask = await round_.ask()
    [how] = round_.broker.joins
    assert how == {"commit": number, "flush": False, "persist": False, "age": 0.0}
    assert round_.view.account is Account.JOINED
    assert ask.releases.count("2") == 1
    assert "9" in ask.releases
    assert "1" in round_.queues.leases.records
    assert not round_.view.alone


async def test_results_survive_a_rollback_and_finished_pages_go_back(round_):
    round_.produce()
    round_.outbox.add_settlement(Settlement("3", end=End.ACK))
    await round_.ask(commits=stored(Outcome.UNKNOWN_WORKER))
    assert round_.outbox.releases == ["3"]
    ask = await round_.ask()
    assert [len(commit.requests) for commit in ask.commits] == [1]


async def test_other_workers_are_asked_for_after_it_has_registered_again(round_):
    round_.loop.neighbours.seen = True
    await round_.ask(met=(0, []))
    assert round_.loop.neighbours.ask_in() is None
    await round_.ask(beat={"known": False})
    await round_.ask()
    assert round_.loop.neighbours.ask_in() is not None


async def test_busy_is_told_again_after_it_has_registered_again(round_):
    round_.queues.pinned.keep(Request(URL), (), "")
    assert (await round_.ask(beat={"known": False})).busy is True
    round_.produce()
    round_.queues.pacing.beaten(math.inf)
    ask = await round_.ask()
    assert (ask.heartbeat, ask.busy) == (True, True)


async def test_leases_are_compared_when_their_number_differs(round_, broker):
    round_.lease()
    round_.lease("2")
    await round_.ask()
    assert broker.calls == []
    broker.leases = frozenset({"2", "3"})
    await round_.ask(beat={"held": 3})
    assert round_.view.account is Account.RECONCILING
    assert any(delay <= round_.view.pause for delay in round_.due)
    broker.replies.append({"beat": {"held": 2}})
    round_.outbox.releases.append("3")
    await round_.loop.exchange.run_once(take=False)
    assert broker.calls == ["held"]
    assert broker.asks[-1].releases == ["3"]
    assert set(round_.queues.leases.records) == {"2"}


async def test_crawl_that_has_ended_meanwhile_is_over(round_, broker):
    await round_.ask(beat={"known": False})
    broker.joined = Joined(JoinOutcome.MISSED)
    count = len(broker.asks)
    await round_.loop.exchange.run_once()
    assert round_.view.is_over
    assert round_.closer.reasons == [Ending.MISSED]
    await round_.loop.exchange.run_once()
    assert len(broker.asks) == count


@pytest.mark.parametrize("outcome", [JoinOutcome.REFUSED, JoinOutcome.NOT_NOW])
async def test_worker_that_may_not_join_again_keeps_trying(round_, broker, outcome):
    await round_.ask(beat={"known": False})
    broker.joined = Joined(outcome, refusal="another format")
    for _ in range(2):
        with pytest.raises(RedisUnavailable, match="another format"):
            await round_.loop.exchange.run_once()
    final = outcome is JoinOutcome.REFUSED
    assert round_.closer.reasons == ([Ending.FORMAT] if final else [])
    assert round_.view.account is Account.REJOINING


async def test_a_worker_is_alone_until_another_one_has_come(round_):
    round_.view.alone = True
    for alive, alone in ((1, True), (2, False), (1, False)):
        await round_.ask(beat={"alive": alive})
        assert round_.view.alone is alone
    assert round_.view.alive == 1


async def test_processes_that_cannot_be_waited_for_are_looked_at(round_, monkeypatch):
    looked = []
    monkeypatch.setattr(round_.loop.neighbours, "look", lambda: looked.append(True))
    await round_.ask()
    assert looked == [True]


# When the next one is due


async def test_what_the_broker_has_not_ended_goes_on_at_once(round_):
    await round_.ask(goes_on=True)
    assert 0.0 in round_.due
    await round_.ask()
    assert 0.0 not in round_.due


async def test_idle_worker_looks_again_when_it_is_told_to(round_):
    seen = []
    round_.queues.on_drained = lambda counts: seen.append(counts) or 42.0
    counts = Counts(pending=1)
    await round_.ask(counts=counts)
    assert seen == [counts]
    assert 42.0 in round_.due


async def test_what_is_to_be_told_is_told_soon(round_):
    round_.engine.is_closing = True
    await round_.ask()
    assert min(round_.due) > 1  # only the beat
    round_.outbox.releases += ["1"] * 150
    await round_.ask()
    assert min(round_.due) <= round_.view.pause
    round_.outbox.releases.clear()
    round_.produce(450)
    await round_.ask()
    assert min(round_.due) <= round_.view.pause


async def test_worker_that_is_refused_does_not_look_for_work(round_, monkeypatch):
    hungry = []
    monkeypatch.setattr(
        round_.queues.pacing, "hungry", lambda **how: hungry.append(how["vain"])
    )
    await round_.ask()
    await round_.ask(leases=[Lease("1", b"")])
    assert hungry == [True, False]
    round_.loop.recovery.refusal = "WRONGTYPE"
    round_.loop.recovery.taken = lambda waiting: None
    await round_.ask(beat={"held": 1})
    assert len(hungry) == 2


# The loop


async def until(predicate):
    for _ in range(10_000):
        if predicate():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not happen")


async def test_failure_is_told_and_tried_again_until_it_works(broker, caplog):
    caplog.set_level("INFO")
    round_ = Round(broker)
    del round_.queues.pacing.request
    round_.queues.pacing._retry_longest = 0.0
    broker.replies += [RedisUnavailable("away"), RedisUnavailable("away")]
    round_.loop.start()
    await until(lambda: "Redis is back." in caplog.messages)
    assert caplog.text.count("No exchange with Redis") == 1
    await until(lambda: broker.asks[-1].leases > 0)
    assert [ask.leases > 0 for ask in broker.asks[:4]] == [True, False, False, True]
    assert round_.queues.pacing._not_before == 0.0  # the pause is over
    await round_.loop.stop(1.0)


async def test_refusal_is_not_told_as_a_redis_that_is_away(broker, caplog):
    round_ = Round(broker)
    del round_.queues.pacing.request
    round_.produce()
    broker.replies.append({"commits": stored(Outcome.REFUSED, reason="WRONGTYPE")})
    round_.loop.start()
    await until(lambda: "Redis refuses" in caplog.text)
    await round_.loop.stop(1.0)
    assert "No exchange with Redis" not in caplog.text


async def test_loop_that_is_cancelled_says_goodbye_and_one_that_is_stopped_not(broker):
    for stops in (True, False):
        round_ = Round(Broker())
        round_.loop.start()
        await asyncio.sleep(0)
        if stops:
            await round_.loop.stop(1.0)
        else:
            await round_.loop.end_early()
        assert ("leave" in round_.broker.calls) is not stops


async def test_stop_ends_all_that_runs(broker):
    round_ = Round(broker)
    closed = []
    round_.loop.neighbours.close = lambda: closed.append(True)
    round_.loop.start()
    await asyncio.sleep(0)
    await round_.loop.stop(1.0)
    assert broker.calls == ["close"]
    assert closed == [True]
    assert round_.loop._task.done()


async def test_exchange_that_hangs_is_given_up_at_the_stop_without_a_goodbye(broker):
    asked = asyncio.Event()

    async def hang(ask):
        asked.set()
        await asyncio.Event().wait()

    broker.exchange = hang
    round_ = Round(broker)
    del round_.queues.pacing.request
    round_.loop.start()
    await asked.wait()
    await round_.loop.stop(0.01)
    assert broker.calls == ["close"]
    assert round_.loop._task.done()


async def test_finish_sends_all_that_is_left_and_compares_leases(round_, broker):
    round_.produce(1000)
    round_.outbox.releases += ["1"] * 250
    round_.view.account = Account.RECONCILING
    assert await round_.loop.finish(60.0)
    assert len(round_.outbox) == 0
    assert round_.outbox.releases == []
    assert broker.calls == ["held"]
    assert not any(ask.leases for ask in broker.asks)


async def test_finish_waits_for_the_comparison_that_the_last_beat_asks_for(
    round_, broker
):
    broker.replies.append({"beat": {"held": 1}})
    broker.leases = frozenset({"1"})
    assert await round_.loop.finish(60.0)
    assert [ask.releases for ask in broker.asks if ask.releases] == [["1"]]


async def test_finish_gives_up_in_time_and_says_why(
    round_, broker, monkeypatch, caplog
):
    clock, limits = Clock(monkeypatch), []

    async def sleep(seconds):
        limits.append(broker.limit)
        clock.leap(10)

    monkeypatch.setattr("scrapy_dist.worker.loop.asyncio.sleep", sleep)
    broker.replies += [RedisUnavailable("no route")] * 9
    assert not await round_.loop.finish(60.0)
    assert "does not take the last results (no route)" in caplog.text
    assert limits[0] == limits[1] < limits[2]


async def test_finish_waits_while_redis_is_full(round_, broker, monkeypatch, caplog):
    clock, slept = Clock(monkeypatch), []

    async def sleep(seconds):
        slept.append(seconds)
        clock.leap(10)

    monkeypatch.setattr("scrapy_dist.worker.loop.asyncio.sleep", sleep)
    round_.produce()
    broker.replies += [{"commits": stored(Outcome.FULL)}] * 99
    assert not await round_.loop.finish(60.0)
    assert 6 <= len(slept) <= 7
    assert "does not take the last results (it is full)" in caplog.text


async def test_nothing_is_finished_or_given_back_in_a_crawl_that_is_over(
    round_, broker
):
    round_.loop.recovery.came_late()
    assert not await round_.loop.finish(60.0)
    await round_.loop.say_goodbye()
    assert (broker.asks, broker.calls) == ([], ["close"])


async def test_goodbye_commits_what_is_finished_and_gives_the_rest_back(
    round_, broker, caplog
):
    caplog.set_level("INFO")
    round_.produce(450)
    broker.leases = frozenset({"1", "2"})
    await round_.loop.say_goodbye()
    assert sum(len(ask.commits) for ask in broker.asks) == 5
    assert broker.asks[-1].releases == ["1", "2"]
    assert broker.calls == ["held", "leave", "close"]
    assert "gives 2 requests back" in caplog.text
    assert len(round_.outbox) == 0


async def test_goodbye_stops_at_a_commit_that_is_not_stored(round_, broker):
    round_.produce(250)
    outcomes = (Outcome.STORED, Outcome.FULL, Outcome.STORED)
    broker.replies.append({"commits": stored(*outcomes)})
    await round_.loop.say_goodbye()
    assert len(round_.outbox) == 150
    assert broker.calls[-2:] == ["leave", "close"]


async def test_goodbye_without_redis_is_told(round_, broker, caplog):
    broker.replies.append(RedisUnavailable("no route"))
    round_.produce()
    await round_.loop.say_goodbye()
    assert "ends without a goodbye (no route)" in caplog.text
    assert broker.calls == ["close"]


async def test_refused_results_do_not_keep_the_leases(round_, broker, caplog):
    broker.leases = frozenset({"1"})
    broker.replies.append({"commits": stored(Outcome.REFUSED, reason="WRONGTYPE")})
    round_.produce()
    await round_.loop.say_goodbye()
    assert "are not stored (WRONGTYPE" in caplog.text
    assert broker.asks[-1].releases == ["1"]


async def test_hungry_worker_lets_redis_wake_it(broker):
    round_ = Round(broker)
    del round_.queues.pacing.request
    round_.loop.start()
    await until(lambda: broker.asks)
    await asyncio.wait_for(_watching(broker), 30)
    await until(lambda: len(broker.asks) > 1)  # it looks once more
    await round_.loop.stop(1.0)


async def _watching(broker):
    while "watch" not in broker.calls:
        await asyncio.sleep(0.005)
