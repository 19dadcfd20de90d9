"""What lease and commit cost at long queues, and for how long Redis is blocked.

Costs are microseconds per call by ``INFO commandstats``, of calls with 100 requests; a
commit acknowledges 100 leases as well. The machine is not the same a minute later, so a
second Redis with a short queue is measured by turns. For the blocks see ``blocking``.
"""

from __future__ import annotations

import contextlib
import math
import random
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import BATCH, NewRequest, Settlement
from tests.benchmarks.blocking import blocks
from tests.benchmarks.figures import Curve, Figure
from tests.benchmarks.filling import PRIORITIES, Shop, fill_pending, product
from tests.benchmarks.light import Connection, LightClient, fingerprint
from tests.benchmarks.meter import scripts, server_name
from tests.support.redis_server import RedisServer

#: The last but one is that of the figure. Redis doubles the hash table of a set with
#: 8,388,608 members and moves it, a step with each command: at 10 million it is at that,
#: at 12 it is not.
SIZES = (10_000, 100_000, 1_000_000, 4_000_000, 8_000_000, 10_000_000, 12_000_000)
QUICK_SIZES = (10_000, 50_000, 60_000)
#: Blocks of calls that are measured at each size, and calls in one of them.
_BLOCKS, _CALLS = 40, 10


def run(quick: bool, pairs: int) -> list[Figure | Curve]:
    """The curve of costs, and the longest times for which Redis is blocked."""
    report: list[Figure | Curve] = []
    with contextlib.ExitStack() as ends:
        folders = [
            Path(ends.enter_context(tempfile.TemporaryDirectory())) for _ in "12"
        ]
        server, short = (ends.enter_context(RedisServer(f)) for f in folders)
        with Connection(server.port) as connection:
            name = server_name(connection)
        report += _costs(server.port, short.port, QUICK_SIZES if quick else SIZES)
        report += blocks(server, 50_000 if quick else 1_000_000)
    for figure in report:
        if isinstance(figure, Figure):
            figure.note = f"{name}; {figure.note}"
    return report


@dataclass(frozen=True)
class Point:
    """Median us of a call at *size* pending requests, and of one at the shortest queue."""

    size: int
    ours: float
    base: float
    #: Median of the ratios of neighbours.
    ratio: float


def _costs(port: int, short_port: int, sizes: tuple[int, ...]) -> list[Figure | Curve]:
    """The costs at a queue that grows, each beside those at one that stays short."""
    found: dict[str, list[Point]] = {"lease": [], "commit": []}
    with LightClient(port) as client, LightClient(short_port) as short:
        for each in (client, short):
            each.register()
        fill_pending(short.connection, 0, sizes[0])
        numbers, filled = count(), 0
        for size in sizes:
            fill_pending(client.connection, filled, size)
            filled = size
            pairs = [
                (_cost(client, numbers), _cost(short, numbers)) for _ in range(_BLOCKS)
            ]
            for name, points in found.items():
                points.append(_point(size, [(a[name], b[name]) for a, b in pairs]))
    series = {
        f"{name}{text}": [(p.size, value(p)) for p in points]
        for name, points in found.items()
        for text, value in (
            ("", lambda p: p.ours),
            (f", {sizes[0]:,} pending, beside it", lambda p: p.base),
        )
    }
    return [
        *(_against_short(name, points) for name, points in found.items()),
        Curve(
            title=f"What a call of {BATCH} requests takes of Redis",
            x_label="pending requests",
            y_label="microseconds per call",
            series=series,
            file="long_queues",
            log_x=True,
        ),
    ]


def _point(size: int, pairs: list[tuple[float, float]]) -> Point:
    ours, base = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Point(size, ours, base, statistics.median(a / b for a, b in pairs))


def _against_short(name: str, points: list[Point]) -> Figure:
    least, most = points[0].size, points[-2]
    grows = math.log(most.size) / math.log(least)
    return Figure(
        name=f"{name} of {BATCH} requests, {most.size:,} pending, against {least:,}",
        ours=most.ours,
        unit="us per call",
        base=most.base,
        base_name=f"{least:,} pending",
        ratio=most.ratio,
        target="about 1",
        met=most.ratio <= grows,
        samples=[round(point.ratio, 2) for point in points],
        note=f"two Redis by turns, {_BLOCKS} times {_CALLS} calls each; met if it grows no"
        f" more than the logarithm of the number, which grows {grows:.2f} times. Ratios: "
        + ", ".join(f"{point.size:,} {point.ratio:.2f}" for point in points),
    )


def _cost(client: LightClient, numbers: Iterator[int]) -> dict[str, float]:
    """Mean us of a lease, and of a commit of as many acks and requests."""
    spider, chance = Shop(), random.Random(0)
    payload = PayloadCodec(spider).encode(product(spider, 0))
    before = scripts(client.connection)
    batches = [client.lease(BATCH) for _ in range(_CALLS)]
    between = scripts(client.connection)
    for leases in batches:
        assert len(leases) == BATCH
        requests = [
            NewRequest(payload, chance.randrange(PRIORITIES), fingerprint(number))
            for _, number in zip(leases, numbers, strict=False)
        ]
        commit = client.next_commit(
            requests, [Settlement(lease.id) for lease in leases]
        )
        call = client.frontier.commit(commit)
        client.exchange([call])
        assert not call.reply().duplicates
    after = scripts(client.connection)
    return {"lease": between.since(before), "commit": after.since(between)}
