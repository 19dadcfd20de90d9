"""Pages that one core of Redis serves if they are of many hosts, and what a host takes.

Light clients, as in ``capacity``: exchanges of 100 pages, one new link a page, to the
page's own host, so that each host has as many requests pending as at the start.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from scrapy_dist.brokers.redis.scripts import load as load_script
from tests.benchmarks.capacity import Court, Load, Player
from tests.benchmarks.figures import Figure
from tests.benchmarks.filling import fill_hosts
from tests.benchmarks.light import KEYS, Connection, LightClient
from tests.benchmarks.meter import server_name, used_memory
from tests.benchmarks.pairs import below

#: Seconds of a quick run.
SECONDS = 0.4
#: Most lease calls whose time is looked at.
_CALLS = 20_000


@dataclass(frozen=True)
class Town:
    """*hosts* with *of_host* pending requests each, and the pages/s it must reach."""

    hosts: int
    of_host: int
    target: int
    payload: int = 400

    def __str__(self) -> str:
        hosts = "1 host" if self.hosts == 1 else f"{self.hosts:,} hosts"
        return f"{hosts} with {self.of_host:,} pending request(s) each"


TOWNS = (Town(1, 30_000, 100_000), Town(20_000, 1, 60_000))
#: 10 million requests take 4 GB and two minutes.
LARGE = Town(1_000_000, 10, 40_000, payload=200)


def run(*, quick: bool, rounds: int) -> list[Figure]:
    """Capacity, the longest lease calls, and bytes, for each town."""
    seconds = SECONDS if quick else 2.0
    figures = []
    with Court() as court:
        server = server_name(court.connection)
        for town in TOWNS if quick else (*TOWNS, LARGE):
            figures += _of_town(court, town, seconds, rounds)
        figures.append(_bytes_of_host(court.connection, 20_000))
        figures += _beside_a_large_host(court, 20_000 if quick else 1_000_000)
    for figure in figures:
        figure.note = "; ".join(filter(None, [server, figure.note]))
    return figures


def _of_town(court: Court, town: Town, seconds: float, rounds: int) -> list[Figure]:
    load = Load(
        seconds=seconds, hosts=town.hosts, of_host=town.of_host, payload=town.payload
    )
    samples = []
    for number in range(rounds):
        # What is pending stays as it was, so a large town is built once.
        keep = number > 0 and town is LARGE
        samples.append(court.run(Player, load, keep=keep).capacity)
    median = statistics.median(samples)
    capacity = Figure(
        name=f"pages per Redis core, {town}",
        ours=median,
        unit="pages per CPU second",
        target=f">= {town.target:,}",
        met=median >= town.target,
        samples=[round(sample) for sample in samples],
        note=f"1 new link a page, {town.payload} byte payloads; {load.clients} clients;"
        f" {1e6 / median:.1f} us of Redis a page",
    )
    # SLOWLOG takes time itself: not while pages are counted.
    times = lease_times(court, load, keep=True)
    ninety_ninth = times[len(times) * 99 // 100]
    lease = below(
        f"99th percentile of a lease of 100, {town}",
        [ninety_ninth / 1000],
        unit="ms",
        at_most=5,
        note=f"{len(times):,} calls by SLOWLOG, median {times[len(times) // 2] / 1000:.2f},"
        f" longest {times[-1] / 1000:.2f}",
    )
    return [capacity, lease]


def lease_times(court: Court, load: Load, *, keep: bool) -> Sequence[int]:
    """Microseconds that Redis was in each lease call of *load*, the shortest first."""
    with _lease_log(court.connection) as times:
        court.run(Player, load, keep=keep)
    return times


@contextmanager
def _lease_log(connection: Connection) -> Iterator[list[int]]:
    """Yield what has the microseconds of each lease call in the block, when it is over."""
    times: list[int] = []
    command = connection.command
    limit = command("CONFIG", "GET", "slowlog-max-len")[1]
    command("CONFIG", "SET", "slowlog-max-len", 3 * _CALLS)
    command("SLOWLOG", "RESET")
    command("CONFIG", "SET", "slowlog-log-slower-than", 0)
    try:
        yield times
    finally:
        command("CONFIG", "SET", "slowlog-log-slower-than", -1)
    entries = command("SLOWLOG", "GET", 3 * _CALLS)
    command("SLOWLOG", "RESET")
    command("CONFIG", "SET", "slowlog-max-len", limit)
    sha = load_script("lease").sha.encode()
    times += sorted(entry[2] for entry in entries if entry[3][1:2] == [sha])


def _beside_a_large_host(court: Court, count: int) -> list[Figure]:
    """When a thousand hosts with a request each are served beside one with *count*."""
    court.connection.command("FLUSHALL")
    fill_hosts(court.connection, 1, count, 200)
    fill_hosts(court.connection, 1001, 1, 200)
    found, leases = set(), 0
    with LightClient(court.port) as client, _lease_log(court.connection) as times:
        client.register()
        while len(found) < 1001:
            found.update(lease.slot for lease in client.lease())
            leases += 1
    host = f"1,000 hosts with a request beside one with {count:,}"
    return [
        below(
            f"leases of 100 until all were served, {host}",
            [leases],
            unit="leases",
            at_most=11,
        ),
        below(
            f"longest of these leases, {host}", [times[-1] / 1000], unit="ms", at_most=5
        ),
    ]


def _bytes_of_host(connection: Connection, hosts: int) -> Figure:
    """What *hosts* with a request each take, less what so many of one host take."""
    took = []
    for count, of_host in ((1, hosts), (hosts, 1)):
        connection.command("FLUSHALL")
        time.sleep(0.1)
        before = used_memory(connection)
        fill_hosts(connection, count, of_host, 200)
        took.append(used_memory(connection) - before)
    each = (took[1] - took[0]) / hosts
    entries = connection.command("MEMORY", "USAGE", KEYS.slots, "SAMPLES", 0)
    return below(
        f"bytes in Redis per host, {hosts:,} of them",
        [each],
        unit="bytes",
        at_most=140,
        note=f"S:slots itself {entries / hosts:.0f}",
    )
