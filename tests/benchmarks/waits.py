"""How long things take, and what a worker needs while it waits."""

from __future__ import annotations

import random
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.benchmarks.bench import MEMORY, OURS, THEIRS, Bench, Run
from tests.benchmarks.fill import fill
from tests.benchmarks.pairs import Pair, alternate, below
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from tests.benchmarks.figures import Figure

#: Seconds for which Redis is frozen.
FREEZE = 3.0
#: Limit of what one million pending requests may add to a worker's memory, in MB: what
#: two runs of the same crawl differ by.
MEMORY_NOISE = 4.0


def gaps(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """The longest time for which the event loop did nothing else."""
    size = 300 if quick else 500

    def run(library: str, *, freeze: bool) -> Run:
        bench.clear()
        path, ms = f"/shop/{size}/0", 1 if library == OURS else 0
        if not freeze:
            return bench.run(library, path, size, ms=ms, tick=True)
        half = bench.shop.load()["requests"] + size / 2
        crawl = bench.start(library, path, size, ms=ms, tick=True)
        wait_until(lambda: bench.shop.load()["requests"] >= half, "half", 120)
        bench.redis.freeze()
        try:
            time.sleep(FREEZE)
        finally:
            bench.redis.thaw()
        result = crawl.result()
        assert result.pages == size
        return result

    others = {
        "normal": partial(run, OURS, freeze=False),
        f"Redis frozen for {FREEZE:g} s": partial(run, OURS, freeze=True),
    }
    theirs = "scrapy-redis"
    if bench.python_of_theirs is not None and not quick:
        others[theirs] = partial(run, THEIRS, freeze=True)
    found = alternate(partial(run, MEMORY, freeze=False), others, pairs)
    frozen = found.pop(theirs, None)
    note = ""
    if frozen is not None:
        gap = statistics.median(pair.other.gap for pair in frozen)
        note = f"; scrapy-redis 0.9.1, frozen: {gap:.0f} ms"
    return [_gap(name, runs, note) for name, runs in found.items()]


def _gap(name: str, pairs: list[Pair[Run]], note: str) -> Figure:
    """The gap outside garbage collections, which are the longest in any crawl."""
    ours = [pair.other.gap_without_gc for pair in pairs]
    base = [pair.base.gap_without_gc for pair in pairs]
    whole = [pair.other.gap - pair.base.gap for pair in pairs]
    collecting = statistics.median(pair.base.gap for pair in pairs)
    return below(
        f"longest gap of the event loop beyond that in memory, {name}",
        [mine - other for mine, other in zip(ours, base, strict=True)],
        unit="ms",
        at_most=10,
        note=f"{statistics.median(ours):.1f} ms, in memory {statistics.median(base):.1f},"
        f" outside garbage collections; with them {statistics.median(whole):+.1f} on"
        f" {collecting:.0f}{note}",
    )


def latency(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """From a push of a seed until the idle worker's request is at the site."""
    count = 40 if quick else 250
    bench.clear()
    crawl = bench.start(OURS, "", count, spider="pushed", stop=True)
    crawl.wait_open()
    time.sleep(1)
    pushed = {}
    with bench.redis.client() as client:
        client.ping()
        for n in range(count):
            # Just gone to sleep, and asleep for a while.
            time.sleep(random.uniform(0.03, 0.2))
            pushed[f"/seed/{n}"] = time.monotonic()
            client.rpush("bench:start_urls", f"{bench.shop.url}/seed/{n}")
    crawl.result()
    arrivals = bench.shop.arrivals()
    samples = sorted((arrivals[path] - pushed[path]) * 1000 for path in pushed)
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    figure = below(
        "a pushed seed reaches an idle worker (p99, loopback)",
        [cuts[98]],
        unit="ms",
        at_most=50,
        note=f"from rpush to the request at the site; p50 {cuts[49]:.1f} ms, longest"
        f" {samples[-1]:.1f} ms of {count}",
    )
    figure.samples = [round(sample, 2) for sample in samples]
    return [figure]


def end(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """From the last page of three workers until all of them have closed."""
    size, samples = 150 if quick else 400, []
    for _ in range(pairs):
        bench.clear()
        path = f"/shop/{size}/0"
        crawls = [bench.start(OURS, path, size, ms=1) for _ in range(3)]
        runs = [crawl.result() for crawl in crawls]
        assert sum(run.pages for run in runs) == size
        samples.append(max(run.closed for run in runs) - max(run.last for run in runs))
    return [
        below(
            "last page to all workers closed (3 workers)",
            samples,
            unit="s",
            at_most=1,
            note=f"end of the last callback to the last spider_closed; longest"
            f" {max(samples):.2f} s",
        )
    ]


def idle(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """What a worker that has nothing to do asks of Redis."""
    seconds = 6 if quick else 20
    bench.clear()
    distance = bench.distance(0)
    crawl = bench.start(OURS, "", 0, spider="pushed", url=distance.url)
    crawl.wait_open()
    time.sleep(3)
    before, started = distance.commands, time.monotonic()
    time.sleep(seconds)
    commands = distance.commands - before
    rate = commands / (time.monotonic() - started)
    crawl.ask_to_close()
    crawl.result()
    return [
        below(
            "commands per second of an idle worker",
            [rate],
            unit="commands/s",
            at_most=2,
            note=f"{commands} in {seconds} s, counted by a proxy; a script is one",
        )
    ]


def memory(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """RAM of a worker while very much is pending in Redis."""
    pending, pages = (50_000 if quick else 1_000_000), 200
    with RedisServer(bench.folder / "full") as server:
        fill(server.url, pending, bench.shop.url)

        def run(url: str) -> Run:
            return bench.run(OURS, "/shop/2000/0", pages, url=url, stop=True)

        def empty() -> Run:
            bench.clear()
            fill(bench.redis.url, 2 * pages, bench.shop.url)
            return run(bench.redis.url)

        found = alternate(empty, {"full": partial(run, server.url)}, pairs)["full"]
        with server.client() as client:
            left = client.zcard("bench:requests")
    base = statistics.median(pair.base.rss for pair in found) / 1e6
    return [
        below(
            f"extra memory of the worker at {pending:,} pending requests",
            [(pair.other.rss - pair.base.rss) / 1e6 for pair in found],
            unit="MB",
            at_most=MEMORY_NOISE,
            note=f"RSS after {pages} pages; {base:.0f} MB with a nearly empty frontier;"
            f" {left:,} pending at the end; {MEMORY_NOISE:g} MB is the noise of two runs",
        )
    ]
