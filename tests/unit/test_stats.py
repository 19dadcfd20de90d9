"""What RedisStatsCollector tells of its values, and what it forgets."""

from __future__ import annotations

from datetime import datetime, timezone

import fakeredis
import pytest
from scrapy import Spider

from scrapy_dist.stats import RedisStatsCollector
from tests.support.engine import make_crawler


class Books(Spider):
    name = "s"


@pytest.fixture
def stats() -> RedisStatsCollector:
    made = RedisStatsCollector(make_crawler(Books(), STATS_KEY="%(spider)s:st"))
    made.server = fakeredis.FakeRedis()
    return made


def test_increments_add_up_until_they_are_taken(stats):
    stats.inc_value("n")
    stats.inc_value("n", 4, start=10)
    stats.inc_value("other", -1)
    assert stats.take_changes() == [("inc", "n", "5"), ("inc", "other", "-1")]
    assert stats.take_changes() == []
    stats.inc_value("n")
    assert stats.take_changes() == [("inc", "n", "1")]


def test_the_largest_and_the_smallest_are_told_and_not_the_last(stats):
    for value in (3, 9, 4):
        stats.max_value("high", value)
        stats.min_value("low", value)
    assert stats.take_changes() == [("max", "high", "9"), ("min", "low", "3")]
    assert (stats.get_value("high"), stats.get_value("low")) == (9, 3)


def test_values_are_told_as_digits_or_text_and_none_is_not_told(stats):
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    stats.set_stats({"flag": True, "moment": moment, "nothing": None, "text": "é"})
    stats.set_value("ratio", 0.5)
    assert stats.take_changes() == [
        ("set", "flag", "1"),
        ("set", "moment", repr(moment.timestamp())),
        ("set", "text", "é"),
        ("set", "ratio", "0.5"),
    ]
    assert stats.get_stats()["moment"] is moment


def test_clearing_forgets_what_is_here_what_waits_and_what_is_in_redis(stats):
    stats.server.hset("s:st", "old", 1)
    stats.server.hset("other:st", "old", 1)
    stats.inc_value("n")
    stats.clear_stats()
    assert stats.get_stats() == {}
    assert stats.take_changes() == []
    assert stats.server.keys() == [b"other:st"]


def test_it_knows_its_spider_from_the_crawler(stats):
    assert stats.spider is None
    stats.open_spider()
    assert stats.spider is not None
    assert stats.spider.name == "s"
