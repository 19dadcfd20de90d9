"""Items of a task, read no further than a message takes them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("pika")

from scrapy_dist.bridge.bodies import MOST_BYTES, MOST_ITEMS, Results
from scrapy_dist.bridge.line import RedisSide
from scrapy_dist.bridge.notices import Notices


class Port:
    def __init__(self, items):
        self.items = items
        self.asked = []

    async def results(self, task, start, count):
        self.asked.append((start, count))
        return self.items[start : start + count]


async def first(items, count=None):
    """The first ones of a task with *items*, and how many were read at a time."""
    port = Port(items)
    notices = Notices(print, print)
    task = SimpleNamespace(items=len(items) if count is None else count)
    found = await Results(port, RedisSide("r", notices)).first(task)
    return found, [count for _, count in port.asked]


@pytest.mark.parametrize(
    ("count", "asked"), [(0, []), (1, [1]), (4, [4]), (30, [4, 26]), (500, [4, 96])]
)
async def test_small_items_need_two_calls(count, asked):
    items = [b"%d" % n for n in range(count)]
    assert await first(items) == (items[:MOST_ITEMS], asked)


async def test_large_items_are_read_a_few_at_a_time_and_those_that_fit_are_kept():
    items = [b"x" * 50_000] * 100
    found, asked = await first(items)
    assert len(found) == MOST_BYTES // 50_000
    assert asked == [4, 1, 1]
    assert await first([b"x" * (MOST_BYTES + 1)] * 100) == ([], [4])


async def test_items_that_are_gone_are_not_waited_for():
    assert await first([b"1", b"2"], count=50) == ([b"1", b"2"], [4])
