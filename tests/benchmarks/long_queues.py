"""What lease and commit cost at long queues, and for how long Redis is blocked.

Costs are microseconds per call by ``INFO commandstats``, of calls with 100 requests; a
commit acknowledges 100 leases as well. For the blocks see ``blocking``.
"""

from __future__ import annotations

import math
import random
import statistics
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from scrapy_dist.frontier import BATCH, NewRequest, Page
from scrapy_dist.payload import PayloadCodec
from tests.benchmarks.blocking import blocks
from tests.benchmarks.figures import Curve, Figure
from tests.benchmarks.filling import PRIORITIES, Shop, fill_pending, product
from tests.benchmarks.light import Connection, LightClient, fingerprint
from tests.benchmarks.meter import scripts, server_name
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
QUICK_SIZES = (10_000, 50_000)
#: Blocks of calls that are measured at each size, and calls in one of them.
_BLOCKS, _CALLS = 20, 10


def run(quick: bool, pairs: int) -> list[Figure | Curve]:
    """The curve of costs, and the longest times for which Redis is blocked."""
    report: list[Figure | Curve] = []
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        with Connection(server.port) as connection:
            name = server_name(connection)
        report += _costs(server.port, QUICK_SIZES if quick else SIZES)
        report += blocks(server, 50_000 if quick else 1_000_000)
    for figure in report:
        if isinstance(figure, Figure):
            figure.note = f"{name}; {figure.note}"
    return report


def _costs(port: int, sizes: tuple[int, ...]) -> list[Figure | Curve]:
    found: dict[str, list[tuple[float, float]]] = {"lease": [], "commit": []}
    with LightClient(port) as client:
        client.register()
        numbers, filled = count(), 0
        for size in sizes:
            fill_pending(client.connection, filled, size)
            filled = size
            for name, cost in _cost(client, numbers).items():
                found[name].append((size, cost))
    return [
        *(_against_short(name, points) for name, points in found.items()),
        Curve(
            title=f"What a call of {BATCH} requests takes of Redis",
            x_label="pending requests",
            y_label="microseconds per call",
            series=found,
            file="long_queues",
            log_x=True,
        ),
    ]


def _against_short(name: str, points: list[tuple[float, float]]) -> Figure:
    (least, base), (most, ours) = points[0], points[-1]
    grows = math.log(most) / math.log(least)
    return Figure(
        name=f"{name} of {BATCH} requests, {most:,} pending, against {least:,}",
        ours=ours,
        unit="us per call",
        base=base,
        base_name=f"{least:,} pending",
        ratio=ours / base,
        target="about 1",
        met=ours / base <= grows,
        samples=[round(cost, 1) for _, cost in points],
        note=f"medians of {_BLOCKS} times {_CALLS} calls; met if it grows no more than the"
        f" logarithm of the number, which grows {grows:.2f} times",
    )


def _cost(client: LightClient, numbers: Iterator[int]) -> dict[str, float]:
    """Median us of a lease, and of a commit of as many acks and requests."""
    spider, chance = Shop(), random.Random(0)
    payload = PayloadCodec(spider).encode(product(spider, 0))
    samples: dict[str, list[float]] = {"lease": [], "commit": []}
    for _ in range(_BLOCKS):
        before = scripts(client.connection)
        batches = [client.lease(BATCH) for _ in range(_CALLS)]
        between = scripts(client.connection)
        for leases in batches:
            assert len(leases) == BATCH
            requests = [
                NewRequest(payload, chance.randrange(PRIORITIES), fingerprint(number))
                for _, number in zip(leases, numbers, strict=False)
            ]
            commit = client.next_commit(requests, [Page(lease.id) for lease in leases])
            call = client.frontier.commit(commit)
            client.exchange([call])
            assert not call.reply().filtered
        after = scripts(client.connection)
        samples["lease"].append(between.since(before))
        samples["commit"].append(after.since(between))
    return {name: statistics.median(costs) for name, costs in samples.items()}
