"""What requests and fingerprints take of Redis' memory.

Differences of ``used_memory``: what Redis has asked its allocator for, rounded up to the
allocator's sizes. Requests are encoded by the codec of a real spider, fingerprints are
stored by real commits. What an entry takes depends on how many there are: a hash table of
Redis has a power of two of places, and for a while two tables when it grows. So the
figure goes up and down with the number; the plot shows it.
"""

from __future__ import annotations

import pickle
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scrapy_dist.brokers.redis.layout import encode_score
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import BATCH, NewRequest
from tests.benchmarks.figures import Curve, Figure
from tests.benchmarks.filling import Shop, product
from tests.benchmarks.light import KEYS, Connection, LightClient, fill_seen, fingerprint
from tests.benchmarks.meter import cpu_seconds, server_name, used_memory
from tests.support.redis_server import RedisServer

PREDECESSOR_NAME = "scrapy-redis (its pickle)"
DEFAULT, COMPACT = "default set", "CompactDupeFilter"
#: Sizes at which a table shows its figures, and those that the plot has as well.
SIZES = (10_000, 1_000_000, 10_000_000)
QUICK_SIZES = (10_000, 50_000)
BETWEEN = (20_000, 50_000, 100_000, 200_000, 500_000, 2_000_000, 5_000_000)
#: Fingerprints in one measurement of what a check costs.
_CHECKS = 50_000


def run(quick: bool, pairs: int) -> list[Figure | Curve]:
    """Bytes per pending request, and bytes and CPU per fingerprint."""
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        with Connection(server.port) as connection:
            name = server_name(connection)
            pending = _pending(connection, 20_000 if quick else 200_000)
        default = _fingerprints(server.port, compact=False, quick=quick)
        compact = _fingerprints(server.port, compact=True, quick=quick)
    report: list[Figure | Curve] = [pending]
    report += _bytes_of(DEFAULT, default)
    report += _bytes_of(COMPACT, compact, at_most=10)
    report += _cpu_of(default, compact)
    for figure in report:
        if isinstance(figure, Figure):
            figure.note = "; ".join(filter(None, [name, figure.note]))
    report.append(
        Curve(
            title="Redis' memory for a fingerprint",
            x_label="fingerprints",
            y_label="bytes per fingerprint",
            series={
                label: [(each.size, each.bytes) for each in found]
                for label, found in ((DEFAULT, default), (COMPACT, compact))
            },
            file="fingerprints",
            log_x=True,
            level=(10, "target of CompactDupeFilter"),
        )
    )
    return report


def _pending(connection: Connection, count: int) -> Figure:
    spider = Shop()
    codec = PayloadCodec(spider)

    def ours(number: int) -> bytes:
        order = (number + 10**14).to_bytes(8, "big").hex()
        rank = encode_score(0.0) + order.encode()
        return rank + codec.encode(product(spider, number))

    def theirs(number: int) -> bytes:
        return pickle.dumps(product(spider, number).to_dict(spider=spider), protocol=-1)

    took = _bytes_of_members(connection, ours, count)
    base = _bytes_of_members(connection, theirs, count)
    url = product(spider, 0).url
    return Figure(
        name="bytes in Redis per pending request (a product URL, Referer, depth)",
        ours=took,
        unit="bytes",
        base=base,
        base_name=PREDECESSOR_NAME,
        ratio=took / base,
        target="<= 250",
        met=took <= 250,
        samples=[took],
        note=f"{count:,} pending; the member has {len(ours(0))} bytes,"
        f" scrapy-redis' {len(theirs(0))}; {url} ({len(url)} characters), callback"
        f" parse_product",
    )


def _bytes_of_members(
    connection: Connection, member: Callable[[int], bytes], count: int
) -> float:
    """Bytes for each of *count* members of one sorted set."""
    key, step = KEYS.requests, 1000
    connection.command("FLUSHALL")
    before = 0
    for first in range(0, count + step, step):
        if first == step:
            # The first thousand has warmed the server up.
            connection.command("DEL", key)
            before = used_memory(connection)
        numbers = range(first, first + step)
        connection.commands([("ZADD", key, 0, member(number)) for number in numbers])
    return (used_memory(connection) - before) / count


@dataclass(frozen=True)
class Sample:
    """A set of *size* fingerprints; *check* in us of Redis' CPU.

    *is_shown*: in the table, not only in the plot; else nothing was checked.
    """

    size: int
    bytes: float
    check: float
    buckets: int
    is_shown: bool


def _fingerprints(port: int, *, compact: bool, quick: bool) -> list[Sample]:
    sizes = QUICK_SIZES if quick else SIZES
    stops = sorted({*sizes, *(size for size in BETWEEN if size < sizes[-1])})
    # Redis keeps statistics of each command after its first use, 50 kB for one, those in
    # scripts too: do once what is measured.
    _fill(port, 0, 1, compact=compact)
    _fill(port, 1, sizes[0], compact=compact)
    _memory(port)
    with Connection(port) as connection:
        connection.command("FLUSHALL")
    # What is not fingerprints is there after the first commit.
    _fill(port, 0, 1, compact=compact)
    before, filled, samples = _memory(port), 1, []
    for size in stops:
        buckets = _fill(port, filled, size, compact=compact)
        filled = size
        took = (_memory(port) - before) / size
        shown = size in sizes
        check = _check(port, size, compact=compact) if shown else 0.0
        samples.append(Sample(size, took, check, buckets, shown))
    with Connection(port) as connection:
        if not compact:
            # What scrapy-redis keeps, and reads.
            assert connection.command("SISMEMBER", KEYS.dupefilter, fingerprint(0))
        connection.command("FLUSHALL")
    return samples


def _fill(port: int, first: int, last: int, *, compact: bool) -> int:
    """Let the frontier see requests *first* to *last* - 1; returns the buckets."""
    with LightClient(port, compact=compact) as client:
        client.register()
        fill_seen(client, first, last, compact=compact)
        client.leave()
        shape = client.frontier.shape
        return shape.buckets if shape is not None else 0


def _memory(port: int) -> int:
    """Bytes in use when the buffers of the client before are gone."""
    time.sleep(0.2)
    with Connection(port) as connection:
        return used_memory(connection)


def _check(port: int, size: int, *, compact: bool) -> float:
    """CPU of Redis, in us, for a fingerprint that it knows; 100 in a commit."""
    numbers = random.Random(size).choices(range(size), k=_CHECKS)
    known = [
        NewRequest(b"x", 0.0, fingerprint(number, compact=compact))
        for number in numbers
    ]
    with LightClient(port, compact=compact) as client:
        client.register()
        client.store([known[:BATCH]])
        before = cpu_seconds(client.connection)
        for first in range(0, _CHECKS, 4 * BATCH):
            part = known[first : first + 4 * BATCH]
            client.store([part[i : i + BATCH] for i in range(0, len(part), BATCH)])
        cpu = cpu_seconds(client.connection) - before
        assert not client.connection.command("ZCARD", KEYS.requests)
        client.leave()
    return cpu * 1e6 / _CHECKS


def _bytes_of(
    name: str, samples: list[Sample], *, at_most: float | None = None
) -> list[Figure]:
    """A figure for each size; without *at_most*: it is the set of scrapy-redis."""
    return [
        Figure(
            name=f"bytes per fingerprint, {name}, {sample.size:,} of them",
            ours=sample.bytes,
            unit="bytes",
            target="the same set" if at_most is None else f"<= {at_most:g}",
            met=True if at_most is None else sample.bytes <= at_most,
            samples=[round(sample.bytes, 2)],
            note=f"{sample.buckets:,} buckets" if sample.buckets else "",
        )
        for sample in samples
        if sample.is_shown
    ]


def _cpu_of(default: list[Sample], compact: list[Sample]) -> list[Figure]:
    """What a check takes, beside the default set of the same size."""
    return [
        Figure(
            name=f"CPU per check, {COMPACT}, {ours.size:,} fingerprints",
            ours=ours.check,
            unit="us",
            base=base.check,
            base_name=DEFAULT,
            ratio=ours.check / base.check,
            samples=[round(ours.check, 3)],
            note="all that a commit of 100 seen fingerprints takes, for each of them",
        )
        for base, ours in zip(default, compact, strict=True)
        if ours.is_shown
    ]
