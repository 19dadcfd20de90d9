"""How much one worker crawls in a second, and what it costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tests.benchmarks.bench import (
    MEMORY,
    OTHER_PYTHON,
    OURS,
    SIGNED,
    THEIRS,
    UNFROZEN,
    Bench,
    Run,
)
from tests.benchmarks.light import LightClient
from tests.benchmarks.pairs import Pair, alternate, below, compare
from tests.benchmarks.shop import LATER

if TYPE_CHECKING:
    from tests.benchmarks.figures import Figure

#: Round trips to Redis, in ms, and the ratio of pages/s that must be reached there.
DISTANCES = {0: 0.97, 1: 0.97, 10: 0.95, 50: 0.95}
#: Those at which scrapy-redis takes part. It is slow: it crawls fewer pages.
THEIR_DISTANCES = (0, 1)

MEMORY_NAME, THEIR_NAME = "memory scheduler", "scrapy-redis 0.9.1"


def speed(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """Pages of 20 links: pages/s, CPU of worker and Redis, round trips."""
    size = 400 if quick else 1200
    their_size = 200 if quick else 250

    def run(library: str, ms: int, pages: int) -> Run:
        bench.clear()
        return bench.run(library, f"/shop/{pages}/0", pages, ms=ms)

    others: dict[str, Callable[[], Run]] = {
        f"{library} {ms}": partial(run, library, ms, size)
        for library in (OURS, UNFROZEN)
        for ms in DISTANCES
    }
    if bench.python_of_theirs is not None:
        for ms in THEIR_DISTANCES:
            others[f"{THEIRS} {ms}"] = partial(run, THEIRS, ms, their_size)
    found = alternate(partial(run, MEMORY, 0, size), others, pairs)
    # Three figures are differences of a few percent between these.
    loopback = {f"{OURS} 0": others[f"{OURS} 0"]}
    more = alternate(partial(run, MEMORY, 0, size), loopback, 2 * pairs)
    found[f"{OURS} 0"] += more[f"{OURS} 0"]
    figures = []
    for library, name, targets in (
        (OURS, "pages/s of one worker, 20 links a page", DISTANCES),
        (UNFROZEN, "the same with FRONTIER_GC_FREEZE = False", {}),
    ):
        for ms in DISTANCES:
            pairs_found = found[f"{library} {ms}"]
            figures.append(
                compare(
                    f"{name}, Redis {_away(ms)}",
                    pairs_found,
                    lambda run: run.rate,
                    unit="pages/s",
                    base_name=MEMORY_NAME,
                    at_least=targets.get(ms),
                    note=_circumstances(bench, pairs_found, ms),
                )
            )
    for ms in THEIR_DISTANCES:
        theirs = found.get(f"{THEIRS} {ms}")
        if theirs is None:
            figures[0].note += f"; no scrapy-redis here, see {OTHER_PYTHON}"
            continue
        name = f"the same, Redis {_away(ms)}, against scrapy-redis"
        ours = found[f"{OURS} {ms}"][: len(theirs)]
        figures.append(_beside(name, ours, theirs))
    figures.append(_round_trips(found))
    figures.append(_redis_cpu(found))
    figures.append(_worker_cpu(found))
    return figures


def signed(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """The same pages with FRONTIER_SECRET, beside those without."""
    size = 400 if quick else 1200

    def run(library: str) -> Run:
        bench.clear()
        return bench.run(library, f"/shop/{size}/0", size)

    found = alternate(partial(run, OURS), {SIGNED: partial(run, SIGNED)}, 2 * pairs)
    more = [pair.other.cpu_us - pair.base.cpu_us for pair in found[SIGNED]]
    return [
        compare(
            "pages/s of one worker with FRONTIER_SECRET, Redis on loopback",
            found[SIGNED],
            lambda run: run.rate,
            unit="pages/s",
            base_name="without",
            at_least=0.97,
            note=f"CPU of the worker per page {statistics.median(more):+.0f} us",
        )
    ]


def _away(ms: int) -> str:
    return f"{ms} ms away" if ms else "on loopback"


def _circumstances(bench: Bench, pairs: list[Pair[Run]], ms: int) -> str:
    site = statistics.median(pair.other.site_cpu for pair in pairs)
    more = statistics.median(p.other.cpu_us / p.base.cpu_us - 1 for p in pairs)
    base = statistics.median(pair.base.cpu_us for pair in pairs)
    note = f"CPU of the worker per page {more:+.1%} of {base:.0f} us"
    note += f"; the site used {site:.0%} of a core"
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
            note=_circumstances(bench, found[OURS], 1),
        )
    ]
    if THEIRS in found:
        name = "the same against scrapy-redis"
        figures.append(_beside(name, found[OURS], found[THEIRS]))
    return figures


def chain(bench: Bench, pairs: int, *, quick: bool) -> list[Figure]:
    """Pages that link only to the next.

    A worker that is alone goes ahead of Redis; beside another one it waits at every hop.
    """
    size = 200 if quick else 500

    def run(library: str, kind: str, pages: int, ms: int) -> Run:
        bench.clear()
        return bench.run(library, f"/{kind}/{pages}/0", pages, ms=ms)

    def run_beside_another() -> Run:
        bench.clear()
        with LightClient(bench.redis.port) as other:
            other.register()
            return bench.run(OURS, f"/chain/{size}/0", size, ms=1)

    beside = "beside another worker"
    others = {OURS: partial(run, OURS, "chain", size, 1), beside: run_beside_another}
    if bench.python_of_theirs is not None:
        others[THEIRS] = partial(run, THEIRS, "chain", size, 1)
    found = alternate(partial(run, MEMORY, "chain", size, 0), others, pairs)
    name = f"pages/s of a chain of {size} pages, Redis 1 ms away"
    figures = [_chained(bench, name, found[OURS], 0.90)]
    if THEIRS in found:
        name = "the same against scrapy-redis"
        figures.append(_beside(name, found[OURS], found[THEIRS]))
    name = "the same while another, idle worker is there"
    figures.append(_chained(bench, name, found[beside], None))
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
    link = statistics.median(pair.other.seconds / pair.other.pages for pair in pairs)
    base = statistics.median(pair.base.seconds / pair.base.pages for pair in pairs)
    trips = statistics.median(p.other.round_trips / p.other.pages for p in pairs)
    return compare(
        name,
        pairs,
        lambda run: run.rate,
        unit="pages/s",
        base_name=MEMORY_NAME,
        at_least=target,
        note=f"{link * 1000:.2f} ms a hop, {base * 1000:.2f} ms in memory,"
        f" {trips:.2f} round trips; {_circumstances(bench, pairs, 1)}",
    )
