"""Moments and numbers have one form everywhere."""

from __future__ import annotations

import math
import re
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import scrapy_dist
from scrapy_dist.base import times, words
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
    assert times.logged(moment) == "2026-11-21 09:15:02Z"


@pytest.fixture
def zone(monkeypatch):
    """``zone(name)``: the clock of this machine is that of *name*."""

    def change(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("there", "hours", "told"),
    [
        ("UTC", 1, "09:15:02"),
        ("Europe/Berlin", 1, "10:15:02"),
        ("UTC", 24, "2026-11-21 09:15:02"),
        ("UTC", -24, "2026-11-21 09:15:02"),
        # Midnight is that of the people who look.
        ("Pacific/Auckland", 1, "22:15:02"),
        ("Pacific/Auckland", 3, "2026-11-21 22:15:02"),
        ("Nowhere/AtAll", 1, "09:15:02"),
    ],
)
def test_people_read_their_own_clock_and_the_date_if_it_is_not_today(
    zone, there, hours, told
):
    zone(there)
    assert times.shown(MOMENT, MOMENT + timedelta(hours=hours)) == told


def test_moments_of_now_and_of_the_ends_of_the_calendar_are_told(zone):
    zone("Pacific/Auckland")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", times.shown(datetime.now(timezone.utc)))
    for year, day in ((1, 1), (9999, 31)):
        moment = datetime(year, 1 if day == 1 else 12, day, 23, 0, 0, 0, timezone.utc)
        shown = times.shown(moment)
        assert shown.endswith(f"{moment:%H:%M:%S}Z") or re.match(r"\d+-", shown)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        *((None, "-"), (math.nan, "-"), (math.inf, "forever"), (-1, "0 s"), (0, "0 s")),
        *((0.04, "0 s"), (0.3, "0.3 s"), (1, "1 s"), (2.5, "2.5 s"), (9.96, "10 s")),
        *((12.7, "12 s"), (59.99, "59 s"), (60, "1 min"), (185, "3 min 5 s")),
        *((3600, "1 h"), (7800, "2 h 10 min"), (86_399, "23 h 59 min")),
        *((86_400, "1 d"), (360_000, "4 d 4 h"), (1e9, "11,574 d 1 h")),
    ],
)
def test_lengths_of_time_have_two_units_at_the_most(seconds, told):
    assert words.age(seconds) == told


def test_a_chosen_time_is_told_as_it_was_chosen():
    assert [*map(words.span, (None, 0.25, 5, 90))] == [
        "-",
        "0.25 s",
        "5 s",
        "1 min 30 s",
    ]


def test_rates_and_numbers():
    rates = {
        0: "0.0",
        41.46: "41.5",
        999.94: "999.9",
        999.96: "1,000",
        12_345.6: "12,346",
    }
    assert {value: words.rate(value) for value in rates} == rates
    assert words.number(1_234_567) == "1,234,567"
    told = words.counts({"pending": 1234, "seeds": 1}, {"seeds": "seed"})
    assert told == ["1,234 pending", "1 seed"]


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0 workers"), (1, "1 worker"), (2000, "2,000 workers")]
)
def test_one_is_not_told_as_many(value, told):
    assert words.count(value, "worker") == told


def test_many_may_be_called_otherwise():
    assert words.count(1, "worker is", "workers are") == "1 worker is"
    assert words.count(2, "worker is", "workers are") == "2 workers are"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_kind_of_damage_is_told_of_one_and_of_many(kind):
    assert kind.one != kind.many
    assert kind.remedy


#: Forms that `words` has better: 3 page(s), 5 seconds as a rounded number.
OTHER_FORMS = re.compile(r"%[ds] \w+\(s\)|\} \w+\(s\)|:g\} s\b|:g\} seconds|f\} s\b")


def test_no_message_has_a_form_of_its_own():
    root = Path(scrapy_dist.__file__).parent
    found = {
        f"{path.relative_to(root)}: {line.strip()}"
        for path in root.rglob("*.py")
        if path.name != "words.py"
        for line in path.read_text("utf-8").splitlines()
        if OTHER_FORMS.search(line)
    }
    assert not found
