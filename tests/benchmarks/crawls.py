"""Real crawls, side by side with Scrapy's memory scheduler and with scrapy-redis.

    python -m tests.benchmarks.crawls [--quick] [--pairs 5] [--only SECTION] [--json FILE]

Every run is a process of its own that crawls a loopback site; a proxy puts Redis some
milliseconds away. Runs alternate, and figures are medians of ratios of neighbours: quote
those, single figures of a busy machine mean nothing. scrapy-redis takes part if this
Python has it, or if SCRAPY_REDIS_PYTHON names one that has.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.bench import MEMORY, OTHER_PYTHON, OURS, THEIRS, Bench, Run
from tests.benchmarks.fill import fill
from tests.benchmarks.pairs import Pair, alternate, below, compare
from tests.benchmarks.shop import LATER
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.figures import Figure

#: Round trips to Redis, in ms, and the ratio of pages/s that must be reached there.
DISTANCES = {0: 0.97, 1: 0.97, 10: 0.95, 50: 0.95}
#: Those at which scrapy-redis takes part. It is slow: it crawls fewer pages.
THEIR_DISTANCES = (0, 1)
#: Seconds for which Redis is frozen.
FREEZE = 3.0
#: Limit of what one million pending requests may add to a worker's memory, in MB: what
#: two runs of the same crawl differ by.
MEMORY_NOISE = 4.0

MEMORY_NAME, THEIR_NAME = "memory scheduler", "scrapy-redis 0.9.1"


def speed(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """Pages of 20 links: pages/s, CPU of worker and Redis, round trips."""
    size = 400 if quick else 1500
    their_size = 200 if quick else 400

    def run(library: str, ms: int, pages: int) -> Run:
        bench.clear()
        return bench.run(library, f"/shop/{pages}/0", pages, ms=ms)

    others: dict[str, Callable[[], Run]] = {
        f"{OURS} {ms}": partial(run, OURS, ms, size) for ms in DISTANCES
    }
    if bench.python_of_theirs is not None:
        for ms in THEIR_DISTANCES:
            others[f"{THEIRS} {ms}"] = partial(run, THEIRS, ms, their_size)
    found = alternate(partial(run, MEMORY, 0, size), others, pairs)
    figures = [
        compare(
            f"pages/s of one worker, 20 links a page, Redis {_away(ms)}",
            found[f"{OURS} {ms}"],
            lambda run: run.rate,
            unit="pages/s",
            base_name=MEMORY_NAME,
            at_least=target,
            note=_circumstances(bench, found[f"{OURS} {ms}"], ms),
        )
        for ms, target in DISTANCES.items()
    ]
    for ms in THEIR_DISTANCES:
        theirs = found.get(f"{THEIRS} {ms}")
        if theirs is None:
            figures[0].note += f"; no scrapy-redis here, see {OTHER_PYTHON}"
            continue
        name = f"the same, Redis {_away(ms)}, against scrapy-redis"
        figures.append(_beside(name, found[f"{OURS} {ms}"], theirs))
    figures.append(_round_trips(found))
    figures.append(_redis_cpu(found))
    figures.append(_worker_cpu(found))
    return figures


def _away(ms: int) -> str:
    return f"{ms} ms away" if ms else "on loopback"


def _circumstances(bench: Bench, pairs: list[Pair[Run]], ms: int) -> str:
    site = statistics.median(pair.other.site_cpu for pair in pairs)
    note = f"the site used {site:.0%} of a core"
    if ms:
        note += f", a PING took {bench.distance(ms).measured_ms(20):.2f} ms"
    return note


def _beside(name: str, ours: list[Pair[Run]], theirs: list[Pair[Run]]) -> Figure:
    """Our rate beside that of scrapy-redis, which ran in the same rounds."""
    pairs = [
        Pair(their.other, our.other) for our, their in zip(ours, theirs, strict=True)
    ]
    to_memory = statistics.median(p.other.rate / p.base.rate for p in theirs)
    return compare(
        name,
        pairs,
        lambda run: run.rate,
        unit="pages/s",
        base_name=THEIR_NAME,
        note=f"scrapy-redis: {to_memory:.2f} of the memory scheduler,"
        f" {pairs[0].base.pages} pages",
    )


def _theirs(
    found: dict[str, list[Pair[Run]]], ms: int, value: Callable[[Run], float]
) -> float | None:
    runs = found.get(f"{THEIRS} {ms}")
    return (
        None if runs is None else statistics.median(value(pair.other) for pair in runs)
    )


def _round_trips(found: dict[str, list[Pair[Run]]]) -> Figure:
    def counted(run: Run) -> float:
        return run.round_trips / run.pages

    ours = [pair.other for pair in found[f"{OURS} 1"]]
    exchanges = [run.stats["frontier/exchanges"] / run.pages for run in ours]
    return below(
        "round trips to Redis per page of 20 links, busy worker",
        [counted(run) for run in ours],
        unit="round trips",
        at_most=0.2,
        base=_theirs(found, 1, counted),
        base_name=THEIR_NAME,
        note="counted by a proxy 1 ms away, opening and closing included; stat"
        f" frontier/exchanges: {statistics.median(exchanges):.3f}",
    )


def _redis_cpu(found: dict[str, list[Pair[Run]]]) -> Figure:
    ours = [pair.other for pair in found[f"{OURS} 0"]]
    idle = [pair.base.redis_us for pair in found[f"{OURS} 0"]]
    scripts = [run.redis["scripts"] * 1e6 / run.pages for run in ours]
    return below(
        "Redis CPU per page of 20 links",
        [run.redis_us for run in ours],
        unit="us",
        at_most=45,
        base=_theirs(found, 0, lambda run: run.redis_us),
        base_name=THEIR_NAME,
        note=f"INFO cpu; of it scripts {statistics.median(scripts):.1f} us; an idle"
        f" Redis used {statistics.median(idle):.1f} us in the time of a page",
    )


def _worker_cpu(found: dict[str, list[Pair[Run]]]) -> Figure:
    def extra(ms: int) -> list[float]:
        return [
            (pair.other.cpu_us / pair.base.cpu_us - 1) * 100
            for pair in found[f"{OURS} {ms}"]
        ]

    loopback = found[f"{OURS} 0"]
    more = statistics.median(p.other.cpu_us - p.base.cpu_us for p in loopback)
    base = statistics.median(p.base.cpu_us for p in loopback)
    note = f"{more:.0f} us on {base:.0f}; " + ", ".join(
        f"{ms} ms away {statistics.median(extra(ms)):.1f} %" for ms in DISTANCES if ms
    )
    theirs = found.get(f"{THEIRS} 0")
    if theirs is not None:
        their = statistics.median(p.other.cpu_us / p.base.cpu_us - 1 for p in theirs)
        note += f"; scrapy-redis {their * 100:.0f} %"
    return below(
        "extra CPU per page in the worker, over the memory scheduler",
        extra(0),
        unit="%",
        at_most=3,
        note=note,
    )


def seeds(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """URLs pushed to Redis against the same URLs from the spider."""
    count = 400 if quick else 1500

    def run(library: str, pages: int) -> Run:
        bench.clear()
        if library == MEMORY:
            return bench.run(MEMORY, "", pages, spider="listed")
        with bench.redis.client() as client:
            urls = [f"{bench.shop.url}/seed/{n}" for n in range(pages)]
            client.rpush("bench:start_urls", *urls)
        return bench.run(library, "", pages, spider="pushed", ms=1, stop=True)

    others = {OURS: partial(run, OURS, count)}
    if bench.python_of_theirs is not None:
        others[THEIRS] = partial(run, THEIRS, min(count, 400))
    found = alternate(partial(run, MEMORY, count), others, pairs)
    figures = [
        compare(
            "seeds/s by rpush, 1 ms away, against the same URLs from the spider",
            found[OURS],
            lambda run: run.rate,
            unit="seeds/s",
            base_name=MEMORY_NAME,
            at_least=0.95,
        )
    ]
    if THEIRS in found:
        name = "the same against scrapy-redis"
        figures.append(_beside(name, found[OURS], found[THEIRS]))
    return figures


def chain(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """Pages that link only to the next: every hop waits for Redis."""
    size = 200 if quick else 500

    def run(library: str, kind: str, pages: int, ms: int) -> Run:
        bench.clear()
        return bench.run(library, f"/{kind}/{pages}/0", pages, ms=ms)

    others = {OURS: partial(run, OURS, "chain", size, 1)}
    if bench.python_of_theirs is not None:
        others[THEIRS] = partial(run, THEIRS, "chain", size, 1)
    found = alternate(partial(run, MEMORY, "chain", size, 0), others, pairs)
    name = f"pages/s of a chain of {size} pages, Redis 1 ms away"
    figures = [_chained(bench, name, found[OURS], 0.90)]
    if THEIRS in found:
        name = "the same against scrapy-redis"
        figures.append(_beside(name, found[OURS], found[THEIRS]))
    size = min(size, 200)
    found = alternate(
        partial(run, MEMORY, "later", size, 0),
        {OURS: partial(run, OURS, "later", size, 1)},
        pairs,
    )
    name = f"the same on a site that answers after {LATER * 1000:g} ms"
    return [*figures, _chained(bench, name, found[OURS], None)]


def _chained(
    bench: Bench, name: str, pairs: list[Pair[Run]], target: float | None
) -> Figure:
    hop = statistics.median(pair.other.seconds / pair.other.pages for pair in pairs)
    base = statistics.median(pair.base.seconds / pair.base.pages for pair in pairs)
    trips = statistics.median(p.other.round_trips / p.other.pages for p in pairs)
    return compare(
        name,
        pairs,
        lambda run: run.rate,
        unit="pages/s",
        base_name=MEMORY_NAME,
        at_least=target,
        note=f"{hop * 1000:.2f} ms a hop, {base * 1000:.2f} ms in memory,"
        f" {trips:.2f} round trips; {_circumstances(bench, pairs, 1)}",
    )


def gaps(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """The longest time for which the event loop did nothing else."""
    size = 300 if quick else 800

    def run(library: str, *, freeze: bool) -> Run:
        bench.clear()
        path, ms = f"/shop/{size}/0", 0 if library == MEMORY else 1
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
        note = f"; {THEIR_NAME}, frozen: {gap:.0f} ms"
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


SECTIONS = {
    section.__name__: section
    for section in (speed, seeds, chain, gaps, latency, end, idle, memory)
}


def run(quick: bool, pairs: int, only: str = "") -> list[Figure]:
    """All figures, or those of one section."""
    figures = []
    with Bench() as bench:
        for name, section in SECTIONS.items():
            if only in ("", name):
                figures += section(bench, pairs, quick=quick)
    return figures


def show(figures: list[Figure]) -> None:
    """One row a figure, and its circumstances below it."""
    print(f"{'':66}{'ours':>9}{'base':>9}{'ratio':>7}  target")
    for figure in figures:
        base = "" if figure.base is None else f"{figure.base:.4g}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
        name = f"{figure.name}, {figure.unit}"
        print(
            f"{name:66}{figure.ours:9.4g}{base:>9}{ratio:>7}  {figure.target} {verdict}"
        )
        print(f"    {figure.note}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="short runs, rough figures"
    )
    parser.add_argument("--pairs", type=int, default=5, help="rounds, default 5")
    parser.add_argument("--only", choices=SECTIONS, default="", help="one section")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    figures = run(options.quick, options.pairs, options.only)
    show(figures)
    if options.json:
        rows = [figure.as_dict() for figure in figures]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
