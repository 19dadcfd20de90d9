"""About how long a request waits, as far as can be told."""

from __future__ import annotations

import pytest

from scrapy_dist.core.hosts import Host
from scrapy_dist.core.inspection import Waiting


def waiting(host=None, **changed):
    told = {"paused": False, "alive": 2, "pages_per_second": 10.0, "pending": 1000}
    return Waiting(**{**told, "before": 20, "host": host, **changed})


@pytest.mark.parametrize(
    ("delay", "wait", "seconds"),
    [(0.5, 0.0, 10.0), (0.5, 3.0, 13.0), (0.5, None, 10.0), (2.0, 1.0, 41.0)],
)
def test_by_the_delay_of_its_host(delay, wait, seconds):
    host = Host("a", 1, 30, delay=delay, wait=wait)
    assert waiting(host).seconds == seconds
    # Whatever the others do, while the workers come to all that may be asked.
    assert waiting(host, pages_per_second=0.0, slots=50).seconds == seconds
    assert waiting(host, pages_per_second=5.0, slots=50, ready=1).seconds == seconds


def test_by_the_pages_of_the_last_minute_where_workers_come_to_few_of_the_hosts():
    host = Host("a", 1, 1, delay=1.0)
    late = waiting(host, before=0, turn=900, ready=990, slots=1000, pending=5000)
    assert late.seconds == 90.0
    assert waiting(host, before=2, turn=900, ready=990, pending=5000).seconds == 288.0
    assert waiting(host, before=2, turn=900, ready=990, pending=900).seconds == 90.0
    # Of one that rests longer than that only the delay counts.
    assert (
        waiting(Host("a", 1, 1, delay=1.0, wait=99.0), before=0, turn=9).seconds == 99
    )


def test_what_its_owner_holds_is_before_it():
    host = Host("a", 1, 30, leased=8, owners=("web:1",), delay=0.5, wait=None)
    assert waiting(host).seconds == 13.5
    # Without an owner they have begun.
    assert waiting(Host("a", 1, 30, leased=8, delay=0.5)).seconds == 10.0


def test_by_the_pages_of_the_last_minute():
    assert waiting().seconds == 2.0
    assert waiting(Host("a", 1, 30), slots=4, turn=3).seconds == 8.3
    # Those of its host that are in the hands of workers are before it, too.
    assert waiting(Host("a", 1, 30, leased=5), slots=4).seconds == 10.0
    # No more than all that is pending are before it.
    assert waiting(Host("a", 1, 30), slots=500).seconds == 100.0
    assert waiting(Host("a", 1, 30, delay=0.0, wait=5.0), before=0).seconds == 5.0
    assert waiting(pages_per_second=0.0).seconds is None


@pytest.mark.parametrize("changed", [{"paused": True}, {"alive": 0}])
def test_nobody_knows_while_nobody_works(changed):
    for host in (None, Host("a", 1, 30, delay=0.5)):
        assert waiting(host, **changed).seconds is None
        assert waiting(host, **changed).as_json()["seconds"] is None
