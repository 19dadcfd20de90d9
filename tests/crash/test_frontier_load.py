"""Many workers of the protocol at once, some dying and some frozen: nothing is lost."""

from __future__ import annotations

from tests.benchmarks.load import run


def test_nothing_is_lost_under_load(own_redis):
    total = run(own_redis.url, workers=24, seconds=6, processes=1)
    assert total.pages > 100
    assert total.deaths + total.freezes
