"""The settings of a polite crawl are Scrapy's own; what cannot hold is refused by name."""

from __future__ import annotations

import pytest
from scrapy import Spider
from scrapy.settings import Settings

from scrapy_dist.core.politeness import Rules
from scrapy_dist.core.politeness_settings import PolitenessOptions
from scrapy_dist.core.slots import Slots, slot_number
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.queue import PriorityQueue, SlotQueue


def read(settings=None, discipline=SlotQueue, **spider):
    found = Settings({"FRONTIER_POLITENESS": True, **(settings or {})})
    slots = Slots.from_settings(found, discipline)
    made = Spider("s")
    vars(made).update(spider)
    return PolitenessOptions.from_settings(found, made, discipline, slots)


def test_rules_are_those_of_scrapys_settings():
    assert read().rules == Rules(0.0, 8)
    found = read({"DOWNLOAD_DELAY": "0.5", "CONCURRENT_REQUESTS_PER_DOMAIN": 3})
    assert (found.rules, found.learns, found.own) == (Rules(0.5, 3), False, {})


def test_attributes_of_the_spider_come_first():
    settings = {"DOWNLOAD_DELAY": 3, "CONCURRENT_REQUESTS_PER_DOMAIN": 3}
    found = read(settings, download_delay=0, max_concurrent_requests=5)
    assert found.rules == Rules(0.0, 5)


def test_autothrottle_begins_with_its_own_delay_and_one_owner_learns_it():
    auto = {"AUTOTHROTTLE_ENABLED": True}
    assert read(auto).rules == Rules(5.0, 8)
    assert read(auto | {"DOWNLOAD_DELAY": 9}).rules == Rules(9.0, 8)
    found = read(
        auto | {"AUTOTHROTTLE_START_DELAY": 0, "DOWNLOAD_SLOTS": {"a": {"delay": 0}}}
    )
    assert found.learns
    assert 0 < found.rules.delay < 0.01
    assert 0 < found.own[slot_number("a")].delay < 0.01


def test_download_slots_have_what_they_do_not_say_of_the_others():
    slots = {"a": {"delay": 2}, "b": {"concurrency": "4"}, "c": {"jitter": 0}}
    found = read({"DOWNLOAD_DELAY": 1, "DOWNLOAD_SLOTS": slots})
    assert found.own == {
        slot_number("a"): Rules(2.0, 8),
        slot_number("b"): Rules(1.0, 4),
        slot_number("c"): Rules(1.0, 8),
    }


@pytest.mark.filterwarnings("ignore:The CONCURRENT_REQUESTS_PER_IP")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"CONCURRENT_REQUESTS_PER_IP": 4}, ["CONCURRENT_REQUESTS_PER_IP = 4", "SLOT"]),
        ({"FRONTIER_TURN": 0}, ["FRONTIER_TURN = 0", "at least 0.1"]),
        ({"FRONTIER_TURN": "long"}, ["FRONTIER_TURN = 'long'"]),
        ({"DOWNLOAD_DELAY": -1}, ["DOWNLOAD_DELAY = -1", "seconds"]),
        ({"DOWNLOAD_DELAY": float("inf")}, ["DOWNLOAD_DELAY = inf", "seconds"]),
        ({"DOWNLOAD_DELAY": "1 s"}, ["DOWNLOAD_DELAY = '1 s'", "seconds"]),
        ({"CONCURRENT_REQUESTS_PER_DOMAIN": 0}, ["_PER_DOMAIN = 0", "at least 1"]),
        (
            {"AUTOTHROTTLE_ENABLED": True, "AUTOTHROTTLE_START_DELAY": "x"},
            ["AUTOTHROTTLE_START_DELAY = 'x'"],
        ),
        ({"DOWNLOAD_SLOTS": {"a": 3}}, ["DOWNLOAD_SLOTS has 'a': 3", "dict"]),
        ({"DOWNLOAD_SLOTS": {3: {}}}, ["DOWNLOAD_SLOTS has 3"]),
        (
            {"DOWNLOAD_SLOTS": {"a": {"delay": "x"}}},
            ["DOWNLOAD_SLOTS['a']['delay'] = 'x'"],
        ),
        (
            {"DOWNLOAD_SLOTS": {"a": {"delay": float("nan")}}},
            ["DOWNLOAD_SLOTS['a']['delay'] = nan"],
        ),
        (
            {"DOWNLOAD_SLOTS": {"a": {"concurrency": 0}}},
            ["DOWNLOAD_SLOTS['a']['concurrency'] = 0"],
        ),
        (
            {"FRONTIER_SLOT": "domain", "DOWNLOAD_SLOTS": {"www.a.com": {}}},
            ["DOWNLOAD_SLOTS['www.a.com']", "'a.com'", "FRONTIER_SLOT"],
        ),
    ],
)
def test_what_cannot_hold_is_refused_by_name(settings, words):
    with pytest.raises(ConfigurationError) as caught:
        read(settings)
    assert [word for word in words if word not in str(caught.value)] == []


def test_flat_discipline_has_no_slots():
    with pytest.raises(ConfigurationError, match=r"FRONTIER_POLITENESS.*PriorityQueue"):
        read(discipline=PriorityQueue)


def test_slots_that_are_domains_may_have_rules():
    settings = {"FRONTIER_SLOT": "domain", "DOWNLOAD_SLOTS": {"a.com": {"delay": 2}}}
    assert read(settings).own == {slot_number("a.com"): Rules(2.0, 8)}
