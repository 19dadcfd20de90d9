"""Random deaths, freezes and cuts of workers, Redis and connections, all in one crawl."""

from __future__ import annotations

import os
import time

import pytest

from tests.support.chaos import Chaos, Plan


@pytest.mark.timeout(360)
def test_nothing_is_lost_in_chaos(tmp_path, site):
    """CHAOS_SEED repeats the faults of an earlier run, in their order.

    It takes half a minute; where workers take ten seconds to start, minutes.
    """
    seed = int(os.environ.get("CHAOS_SEED") or time.time_ns() % 1_000_000)
    chaos = Chaos(tmp_path, site, Plan(seed, pages=600))
    print(f"CHAOS_SEED={seed}")
    outcome = chaos.run()
    print(outcome.summary())
    if outcome.problems:
        print(chaos.logs())

    assert outcome.problems == []
    assert outcome.ends["poisoned"] >= chaos.plan.max_deliveries
    assert outcome.faults.total() >= 5
