"""Moments and numbers have one form everywhere."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from scrapy_dist.base import times
from scrapy_dist.commands.terminal import text
from scrapy_dist.core.findings import KINDS

MOMENT = datetime(2026, 11, 21, 9, 15, 2, 123_000, timezone.utc)


def test_a_moment_of_redis_is_read_to_the_millisecond():
    assert times.from_ms(MOMENT.timestamp() * 1000) == MOMENT


@pytest.mark.parametrize("ms", [None, 0, -1, 10**30, 253_402_300_800_000])
def test_what_is_no_time_is_unknown(ms):
    assert times.from_ms(ms) is None
    assert times.iso(times.from_ms(ms)) is None
    assert times.shown(times.from_ms(ms)) == "-"


@pytest.mark.parametrize("hours", [0, 2, -7])
def test_a_moment_is_told_in_utc_whatever_zone_it_is_in(hours):
    moment = MOMENT.astimezone(timezone(timedelta(hours=hours)))
    assert times.iso(moment) == "2026-11-21T09:15:02.123Z"
    assert times.shown(moment) == "2026-11-21 09:15:02Z"


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0 workers"), (1, "1 worker"), (2000, "2,000 workers")]
)
def test_one_is_not_told_as_many(value, words):
    assert text.count(value, "worker") == words


def test_many_may_be_called_otherwise():
    assert text.count(1, "worker is", "workers are") == "1 worker is"
    assert text.count(2, "worker is", "workers are") == "2 workers are"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_kind_of_damage_is_told_of_one_and_of_many(kind):
    assert kind.one != kind.many
    assert kind.remedy
