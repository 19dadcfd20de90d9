"""The benchmarks of real crawls work, in small. What they find is not tested here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import redis

from tests.benchmarks import host_crawls, waits
from tests.benchmarks.bench import MEMORY, OURS, Bench
from tests.benchmarks.distance import CommandCount, Distance
from tests.benchmarks.fill import fill
from tests.benchmarks.pairs import Pair, alternate, compare
from tests.benchmarks.shop import LINKS, links
from tests.support.redis_state import count_pending, count_seen
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as found:
        yield found


def test_a_run_counts_pages_cpu_round_trips_and_gaps(bench: Bench) -> None:
    bench.clear()
    run = bench.run(OURS, "/shop/40/0", 40, ms=1, tick=True)
    assert run.pages == 40
    assert 0 < run.seconds < run.closed - run.first
    assert 0 < run.cpu_us < 1e6
    assert run.redis["calls"] > 0
    assert 0 < run.redis["scripts"] <= run.redis["cpu"] + 0.01
    assert run.round_trips >= run.stats["frontier/exchanges"] > 0
    assert run.gap >= run.gap_without_gc > 0


def test_the_memory_scheduler_crawls_the_same_pages_without_redis(bench: Bench) -> None:
    bench.clear()
    run = bench.run(MEMORY, "/shop/40/0", 40)
    assert run.pages == 40
    assert run.redis["calls"] == 0
    assert run.stats["scheduler/dequeued/memory"] == 40


def test_three_workers_end_together(bench: Bench) -> None:
    (figure,) = waits.end(bench, 1, quick=True)
    assert 0 < figure.ours < 20
    assert figure.target == "<= 1"


def test_a_filled_frontier_is_crawled(bench: Bench) -> None:
    bench.clear()
    fill(bench.redis.url, 250, bench.shop.url)
    with bench.redis.client() as client:
        assert count_pending(client, "bench") == 250
        assert count_seen(client, "bench") == 250
    run = bench.run(OURS, "/shop/2000/0", 20, stop=True)
    assert run.stats["finish_reason"] == "enough"
    assert run.rss > 10_000_000


def test_each_page_of_the_shop_can_be_reached_and_links_to_twenty() -> None:
    found, ahead = {"/shop/300/0"}, ["/shop/300/0"]
    while ahead:
        page = links("shop", 300, int(ahead.pop().rsplit("/", 1)[1]))
        assert len(page) == LINKS
        ahead += set(page) - found
        found |= set(page)
    assert len(found) == 300


def test_the_distance_adds_its_round_trip_and_counts(redis_server: RedisServer) -> None:
    with Distance(redis_server.port, 20) as distance:
        assert distance.measured_ms(3) >= 20
        trips = distance.round_trips
        with redis.Redis.from_url(distance.url) as client:
            client.ping()
            after_opening, commands = distance.round_trips, distance.commands
            pipeline = client.pipeline(transaction=False)
            for _ in range(3):
                pipeline.echo("x" * 100_000)
            assert len(pipeline.execute()) == 3
    assert after_opening > trips
    wait_until(lambda: distance.commands == commands + 3, "three commands")
    assert distance.round_trips == after_opening + 1


def test_commands_are_counted_however_they_are_cut() -> None:
    data = b"*2\r\n$4\r\nECHO\r\n$5\r\na\r\nb*\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n"
    for size in range(1, len(data)):
        count = CommandCount()
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        assert sum(count.feed(part) for part in parts) == 3


def test_every_run_has_a_neighbour_of_what_it_is_compared_with() -> None:
    order: list[str] = []

    def note(name: str) -> int:
        order.append(name)
        return len(order)

    names = ["one", "two", "three"]
    others = {name: lambda name=name: note(name) for name in names}
    pairs = alternate(lambda: note("base"), others, 2)
    assert " ".join(order) == "base one two base three one base two three base"
    for name in names:
        assert len(pairs[name]) == 2
        assert all(abs(pair.base - pair.other) == 1 for pair in pairs[name])


def test_a_ratio_is_the_median_of_the_pairs_and_not_of_the_sides() -> None:
    pairs = [Pair(10.0, 9.0), Pair(100.0, 95.0), Pair(20.0, 19.6)]
    figure = compare("rate", pairs, float, unit="", base_name="x", at_least=0.96)
    assert figure.ratio == pytest.approx(0.95)
    assert (figure.ours, figure.base, figure.met) == (19.6, 20.0, False)


def test_a_crawl_of_hosts_is_measured_beside_the_memory_scheduler(bench: Bench) -> None:
    visit = host_crawls.Visit("two", 2, 2, 2, latencies="/1/2")
    figure = host_crawls._of_visit(bench, visit, 1, 2)
    assert figure.ours > 0
    assert figure.note.endswith("5 pages, queued host after host")


def test_gaps_at_the_site_are_counted(bench: Bench) -> None:
    seen = host_crawls.manners(bench, 2, 2, 3, politeness=False)
    assert len(seen.gaps) == len(seen.starts) == 4
    assert 0 <= seen.short(seen.gaps) <= 4
    assert seen.rate > 0
