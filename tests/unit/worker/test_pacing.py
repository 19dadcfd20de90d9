"""When the next exchange is due, on a clock and an event loop that tests move."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from scrapy import Request

from scrapy_dist.core.frontier import BATCH, End, NewRequest, Settlement
from scrapy_dist.worker.outbox import Outbox
from scrapy_dist.worker.pacing import Alarm, Pacing
from scrapy_dist.worker.view import Memory, View
from tests.support.engine import make_options


class Timers:
    """An event loop that does nothing but call back."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        self._calls = []
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def call_later(self, delay, callback):
        call = SimpleNamespace(at=self.now + delay, callback=callback)
        call.cancel = lambda: self._calls.remove(call) if call in self._calls else None
        self._calls.append(call)
        return call

    def leap(self, seconds):
        self.now += seconds
        for call in [call for call in self._calls if call.at <= self.now]:
            self._calls.remove(call)
            call.callback()

    def __len__(self):
        return len(self._calls)


class Paced:
    """A `Pacing`, its timers, and what it looks at."""

    def __init__(self, timers):
        self.timers = timers
        self.view, self.outbox = View(), Outbox()
        self.armed = 0
        options = make_options(
            FRONTIER_FLUSH_INTERVAL=0.03, CONCURRENT_REQUESTS=16, FRONTIER_WORKER_TTL=60
        )
        self.pacing = Pacing(self.view, self.outbox, options)
        self.pacing.start(timers, self._arm)
        self.begin()

    def _arm(self):
        self.armed += 1

    def begin(self):
        """The exchange that is due begins; whether one was."""
        due = self.is_due
        self.pacing._begin()
        return due

    @property
    def is_due(self):
        return self.pacing._event.is_set()

    def wait(self, most=100.0):
        """Seconds until an exchange is due, to the millisecond; and begin it."""
        for ms in range(int(most * 1000) + 1):
            if self.is_due:
                self.begin()
                return ms / 1000
            self.timers.leap(0.001)
        raise AssertionError(f"nothing is due in {most} s")

    def produce(self, requests=1):
        for _ in range(requests):
            self.outbox.add_request(NewRequest(b"x", 0.0), Request("http://a.invalid/"))


@pytest.fixture
def timers(monkeypatch):
    return Timers(monkeypatch)


@pytest.fixture
def paced(timers):
    return Paced(timers)


def near(seconds):
    return pytest.approx(seconds, abs=0.003)


# What is asked for


def test_first_exchange_is_due_at_once(timers):
    pacing = Pacing(View(), Outbox(), make_options())
    pacing.request()
    assert not pacing._event.is_set()  # nobody runs it yet
    pacing.start(timers, lambda: None)
    assert pacing._event.is_set()


def test_earliest_of_all_that_is_asked_for_counts(paced):
    for delay in (5.0, 0.5, 2.0):
        paced.pacing.request(delay)
    assert len(paced.timers) == 1
    assert paced.wait() == near(0.5)
    assert not paced.is_due
    assert len(paced.timers) == 0


def test_exchange_that_begins_is_what_was_asked_for(paced):
    paced.pacing.request(0.5)
    paced.pacing.request()
    assert paced.begin()
    assert len(paced.timers) == 0
    assert not paced.is_due


def test_what_waits_is_sent_in_a_moment_and_a_batch_at_once(paced):
    paced.produce()
    paced.pacing.something_waits()
    assert not paced.is_due
    assert paced.wait() == near(0.03)
    paced.produce(BATCH)
    paced.pacing.something_waits()
    assert paced.is_due


def test_moment_is_not_put_off_by_what_comes_in_it(paced):
    paced.pacing.something_waits()
    paced.timers.leap(0.02)
    paced.pacing.something_waits()
    assert paced.wait() == near(0.01)


def test_batch_waits_where_redis_is_full(paced):
    paced.view.memory = Memory.FULL
    paced.produce(BATCH + 1)
    paced.pacing.something_waits()
    assert not paced.is_due
    assert paced.wait() == near(0.03)


def test_results_for_a_full_redis_are_tried_now_and_then_and_bare_acks_soon(paced):
    paced.view.memory = Memory.FULL
    paced.produce()
    paced.outbox.take(1)
    paced.pacing.outputs_wait()
    assert paced.wait() == near(0.25)
    outbox = paced.outbox
    outbox.only_empty_ends()
    outbox.add_settlement(Settlement("1", end=End.EMPTY))
    outbox.withdraw_settlements()
    outbox.add_settlement(Settlement("1", end=End.EMPTY))
    outbox.take(1)
    paced.pacing.outputs_wait()
    assert paced.wait() == near(0.03)


def test_nothing_is_due_any_more_after_the_stop_and_who_waits_goes_on(paced):
    paced.pacing.request(0.5)
    paced.view.pending = 0
    paced.pacing.hungry(vain=True, lead_time=0.0)
    paced.pacing.stop()
    assert len(paced.timers) == 0
    assert paced.is_due
    paced.pacing.request(0.1)
    paced.pacing.hungry(vain=True, lead_time=0.0)
    assert len(paced.timers) == 0


async def test_what_comes_together_is_one_exchange(paced):
    waiting = asyncio.ensure_future(paced.pacing.wait())
    paced.pacing.request()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    paced.pacing.something_waits()
    await waiting
    assert not paced.is_due
    assert len(paced.timers) == 0


async def test_what_is_due_later_is_not_forgotten_by_an_exchange(paced):
    waiting = asyncio.ensure_future(paced.pacing.wait())
    paced.pacing.request()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    paced.pacing.request(1.0)
    await waiting
    assert paced.wait() == near(1.0)


# Failures


def test_tries_become_rare_while_redis_is_away_and_frequent_when_it_is_back(paced):
    waits = []
    for _ in range(8):
        paced.pacing.failed()
        paced.pacing.request()  # somebody has something to send
        waits.append(paced.wait())
    assert 0.05 <= waits[0] <= 0.15 + 0.002
    assert 2.5 <= waits[-1] <= 7.5 + 0.002
    paced.pacing.answered()
    assert paced.begin()  # what brings leases
    paced.pacing.answered()
    assert not paced.is_due
    paced.pacing.request()
    assert paced.begin()
    paced.pacing.failed()
    assert paced.wait() <= 0.15 + 0.002


def test_workers_that_lost_redis_together_do_not_come_back_together(timers):
    waits = set()
    for _ in range(5):
        paced = Paced(timers)
        paced.pacing.failed()
        waits.add(paced.pacing._due)
    assert len(waits) == 5


def test_tries_are_not_rarer_than_the_beats_that_others_wait_for(timers):
    pacing = Pacing(View(), Outbox(), make_options(FRONTIER_WORKER_TTL=0.5))
    pacing.start(timers, lambda: None)
    for _ in range(9):
        pacing._begin()
        pacing.failed()
        assert pacing._due - timers.now <= 1.5 * 0.125 + 0.001


# Round trips and beats


def test_stall_of_redis_is_no_round_trip(paced):
    """What a worker asks for follows the round trip: a stall must not multiply it."""
    pacing, view = paced.pacing, paced.view
    pacing.exchanged(0.01)
    assert view.round_trip == 0.01
    pacing.exchanged(42.0)
    assert view.round_trip < 0.02
    for _ in range(100):
        pacing.exchanged(0.3)  # a distance that has grown is believed
    assert view.round_trip == pytest.approx(0.3, rel=0.1)
    for _ in range(100):
        pacing.exchanged(42.0)
    assert view.round_trip <= 1.0
    assert pacing.exchanges == 202


def test_first_round_trip_is_no_stall_either(paced):
    paced.pacing.exchanged(42.0)
    assert paced.view.round_trip == 1.0


def test_beat_is_due_a_while_after_the_last_one(paced):
    assert paced.pacing.beat_is_due
    paced.pacing.beaten(paced.timers.now)
    paced.timers.leap(0.2)
    assert not paced.pacing.beat_is_due
    paced.timers.leap(0.06)
    assert paced.pacing.beat_is_due


def test_worker_that_rests_beats(paced):
    paced.pacing.rest()
    assert paced.wait() == near(5.0)


def test_busy_workers_exchange_less_often_while_there_is_enough_for_all(paced):
    view, pacing = paced.view, paced.pacing
    for pending, seeds, alive, pause in (
        (31, 0, 1, 0.03),
        (32, 0, 1, 0.06),
        (32, 0, 2, 0.03),
        (0, 31, 1, 0.03),
        (0, 32, 1, 0.06),
        (16, 16, 1, 0.06),
    ):
        view.pending, view.seeds_left, view.alive = pending, seeds, alive
        pacing.rest()
        assert view.pause == pause
        paced.begin()


def test_what_silent_workers_hold_is_asked_for_soon(paced):
    paced.pacing.others_are_silent()
    assert paced.wait() == near(0.03)


# A worker that wants more


def test_worker_looks_again_while_others_have_their_share_and_less_often_in_vain(paced):
    paced.view.pending = 5
    waits = []
    for _ in range(8):
        paced.pacing.hungry(vain=True, lead_time=0.0)
        waits.append(paced.wait())
    assert waits == sorted(waits)
    assert waits[0] == near(0.03)
    assert waits[-1] == near(0.2)
    paced.pacing.sated()
    paced.pacing.hungry(vain=False, lead_time=0.0)
    assert paced.wait() == near(0.03)
    assert paced.pacing.alarm is Alarm.OFF


def test_seeds_are_looked_for_again_too_and_nothing_while_the_crawl_is_paused(paced):
    paced.view.seeds_left = 1
    paced.pacing.hungry(vain=True, lead_time=0.0)
    assert paced.wait() == near(0.03)
    paced.view.paused = True
    paced.pacing.hungry(vain=True, lead_time=0.0)
    assert paced.pacing.alarm is Alarm.PLANNED


def test_alarm_is_set_when_nothing_has_come_for_a_moment(paced):
    paced.pacing.hungry(vain=True, lead_time=0.0)
    paced.pacing.hungry(vain=False, lead_time=0.0)
    assert len(paced.timers) == 1
    paced.timers.leap(0.015)
    assert (paced.armed, paced.pacing.alarm) == (0, Alarm.PLANNED)
    paced.timers.leap(0.006)
    assert (paced.armed, paced.pacing.alarm) == (1, Alarm.ON)
    assert not paced.is_due
    paced.pacing.armed(watched=True)
    assert paced.begin()  # something may have come before
    paced.pacing.hungry(vain=True, lead_time=0.0)
    assert len(paced.timers) == 0  # it is on


def test_exchange_comes_before_a_planned_alarm_and_leaves_one_that_is_set(paced):
    paced.pacing.hungry(vain=True, lead_time=0.0)
    paced.pacing.unplan_alarm()
    assert paced.pacing.alarm is Alarm.OFF
    assert len(paced.timers) == 0
    paced.pacing.hungry(vain=True, lead_time=0.0)
    paced.timers.leap(1)
    paced.pacing.unplan_alarm()
    assert paced.pacing.alarm is Alarm.ON


@pytest.mark.parametrize(("lead_time", "round_trip"), [(0.5, 0.0), (0.0, 0.5)])
def test_alarm_waits_for_a_worker_that_will_ask_by_itself(paced, lead_time, round_trip):
    paced.view.round_trip = round_trip
    paced.pacing.hungry(vain=True, lead_time=lead_time)
    paced.timers.leap(0.99)
    assert paced.armed == 0
    paced.timers.leap(0.02)
    assert paced.armed == 1


def test_worker_polls_where_redis_cannot_wake_it(paced):
    paced.pacing.hungry(vain=True, lead_time=0.0)
    paced.timers.leap(1)
    paced.pacing.armed(watched=False)
    assert paced.pacing.alarm is Alarm.OFF
    assert paced.wait() == near(0.25)
    paced.pacing.hungry(vain=True, lead_time=0.0)
    assert paced.pacing.alarm is Alarm.PLANNED


def test_alarm_wakes_at_once_and_a_moment_later_who_has_just_asked_in_vain(paced):
    pacing = paced.pacing
    pacing.exchanged(0.001)
    pacing.hungry(vain=True, lead_time=0.0)
    paced.timers.leap(1)
    pacing.woken()
    assert pacing.alarm is Alarm.OFF
    assert paced.begin()
    for _ in range(5):
        pacing.hungry(vain=True, lead_time=0.0)
        pacing.unplan_alarm()
    pacing.exchanged(0.001)
    pacing.woken()
    assert paced.wait() == near(0.02)


def test_late_alarm_takes_a_planned_one_along(paced):
    paced.pacing.hungry(vain=True, lead_time=0.0)
    paced.pacing.woken()
    assert paced.pacing.alarm is Alarm.OFF
    paced.begin()
    paced.timers.leap(1)
    assert paced.armed == 0


def test_answer_to_an_alarm_that_has_rung_asks_for_nothing(paced):
    paced.pacing.hungry(vain=True, lead_time=0.0)
    paced.timers.leap(1)
    paced.pacing.woken()
    paced.begin()
    paced.pacing.armed(watched=True)
    assert not paced.is_due
