"""How many requests a worker wants to have in hand."""

from __future__ import annotations

import time

import pytest

from scrapy_dist.worker.prefetch import Prefetch, Rate


def demand(rate: float) -> Prefetch:
    result = Prefetch(16)
    result.rate.value = lambda: rate
    return result


@pytest.mark.parametrize(
    ("rate", "round_trip", "pause", "ahead"),
    [
        (0.0, 1.0, 1.0, 0),  # nothing was handed out lately
        (10.0, 0.001, 0.05, 1),  # a slow crawl takes next to nothing in advance
        (100.0, 0.001, 0.05, 5),
        (100.0, 0.1, 0.05, 20 + 5),
        (100.0, 0.1, 0.1, 20 + 10),
        (1000.0, 0.01, 0.1, 20 + 32),  # twice CONCURRENT_REQUESTS, beyond the reserve
    ],
)
def test_look_ahead_is_two_round_trips_and_what_is_used_between_exchanges(
    rate, round_trip, pause, ahead
):
    assert demand(rate).in_hand(0, round_trip, pause) == 16 + ahead


def test_look_ahead_ends_when_as_many_wait_for_the_spider_as_are_fetched():
    wants = {n: demand(1000.0).in_hand(n, 0.001, 0.05) for n in (8, 16, 32, 40, 66)}
    assert wants == {8: 42, 16: 34, 32: 34, 40: 26, 66: 0}


def test_worker_that_ran_dry_asks_for_twice_as_much_the_next_time():
    """Its rate tells what it got, not what it could do."""
    dry = demand(100.0)
    assert dry.in_hand(0, 0.1, 0.05) == 16 + 25
    dry.missed()
    dry.answered()
    assert dry.in_hand(0, 0.1, 0.05) == 16 + 50
    assert dry.reserve(0.1) == 40
    dry.answered()
    assert dry.in_hand(0, 0.1, 0.05) == 16 + 25


@pytest.mark.parametrize(("concurrency", "most"), [(8, 100), (16, 128), (100, 800)])
def test_reserve_is_bounded_whatever_the_clock_says(concurrency, most):
    busy = Prefetch(concurrency)
    busy.rate.value = lambda: 1000.0
    assert busy.reserve(42.0) == most
    assert busy.in_hand(0, 42.0, 0.05) == concurrency + most + min(2 * concurrency, 50)


def test_rate_is_that_of_the_last_second(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rate = Rate()
    assert rate.value() == 0.0
    for _ in range(10):
        rate.add()
    assert rate.value() == 50.0  # as if in 0.2 s: a moment tells nothing
    now += 1.0
    assert rate.value() == 10.0
    for _ in range(20):
        rate.add()
    now += 0.5
    assert rate.value() == 40.0  # faster than before: that counts at once
    now += 0.5
    assert rate.value() == 20.0
    now += 1.0
    assert rate.value() == 0.0
