"""Pages that one core of Redis serves, whoever the clients are.

Light clients run exchanges in a closed loop, over plain sockets: commit, beat, lease.
Pages are counted against the CPU seconds of Redis (INFO), so the cost of the clients,
and what else the machine does, hardly matter. An exchange is

* with 1 new link a page: one commit of 100 acks and 100 new requests, a beat, a lease of
  100 requests;
* with 20 links a page, 19 of them seen before: four commits of 5 acks and 100 requests
  each, a beat, a lease of 20 requests. There is no local LRU: all links go to Redis.

scrapy-redis is played by its commands for the same pages: a pop (MULTI, ZRANGE,
ZREMRANGEBYRANK, EXEC), SADD for each link, ZADD for each new one, each in a round trip.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING

from scrapy_dist.core.frontier import BATCH, End, NewRequest, Outcome, Settlement
from scrapy_dist.core.slots import NO_SLOT
from tests.benchmarks.figures import Curve, Figure
from tests.benchmarks.filling import fill_hosts
from tests.benchmarks.light import (
    KEYS,
    Connection,
    LightClient,
    encode,
    fill_seen,
    fingerprint,
)
from tests.benchmarks.meter import cpu_seconds, server_name
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.core.frontier import Commit, CommitReply, Lease
    from tests.benchmarks.light import Word

#: Bytes of a payload.
PAYLOAD = 400
#: Requests pending at the start, and all the time.
PENDING = 30_000
#: Processes of clients; more would only take CPU from each other and from Redis.
PROCESSES = 2
#: Workers of the curve.
WORKERS = (1, 2, 4, 8, 16, 32, 64)
PREDECESSOR_NAME = "scrapy-redis (its commands)"
#: Requests seen before that one client links to.
_POOL = 100_000
#: Seconds between the order to begin and the beginning, so that all begin together.
_LEAD = 0.3


@dataclass(frozen=True)
class Load:
    """Who does what: *pages* of an exchange, *links* of a page, *known* seen before.

    *seen*: fingerprints that are in Redis at the start.
    """

    pages: int = BATCH
    links: int = 1
    known: int = 0
    clients: int = 4
    seconds: float = 2.0
    seen: int = 0
    compact: bool = False
    #: Hosts, and pending requests of each; a page links to its own host. 0: as many
    #: requests as *PENDING*.
    hosts: int = 1
    of_host: int = 0
    #: Bytes of a payload.
    payload: int = PAYLOAD

    @property
    def pages_of_commit(self) -> int:
        return min(self.pages, max(1, BATCH // self.links))


@dataclass(frozen=True)
class Run:
    """What came of it; *cpu* and *wall* in seconds."""

    pages: int
    cpu: float
    wall: float

    @property
    def capacity(self) -> float:
        """Pages per CPU second of Redis."""
        return self.pages / self.cpu

    @property
    def rate(self) -> float:
        return self.pages / self.wall


def _differing(payload: bytes, number: int) -> bytes:
    """*payload* with *number* at its end: those of real requests differ.

    Lua takes longer for strings that are alike: it looks at some of their bytes only, and
    then searches among all that have those.
    """
    return payload[:-8] + number.to_bytes(8, "big")


class Player:
    """A light client and what it has in hand."""

    def __init__(self, port: int, load: Load, number: int) -> None:
        self.client = LightClient(port, compact=load.compact)
        self.pages = 0
        self._load = load
        # An earlier run may have left its fingerprints.
        self._next = random.getrandbits(62)
        self._payload = random.Random(number).randbytes(load.payload)
        self._held: Sequence[Lease] = ()
        self._commits: list[Commit] = []
        self._calls: list[Call[CommitReply]] = []
        self._known: list[NewRequest] = []
        if load.known:
            numbers = random.Random(number).choices(
                range(load.seen), k=min(_POOL, load.seen)
            )
            self._known = [self._request(n) for n in numbers]
        self.client.register()

    def fileno(self) -> int:
        """For ``select``."""
        return self.client.connection.fileno()

    def begin(self) -> None:
        """Send an exchange."""
        load, client = self._load, self.client
        step = load.pages_of_commit
        for first in range(0, len(self._held), step):
            pages = self._held[first : first + step]
            commit = client.next_commit(
                self._links(pages), [Settlement(page.id, end=End.ACK) for page in pages]
            )
            self._commits.append(commit)
        grow = client.frontier.grow()
        self._calls = [client.frontier.commit(commit) for commit in self._commits]
        beat = client.frontier.heartbeat()
        self._lease = client.frontier.lease(load.pages, suspects=8)
        self._grow = [grow] if grow is not None else []
        client.send([*self._grow, *self._calls, beat, self._lease])

    def end(self) -> None:
        """Take its replies in; what is to be sent again goes with the next exchange."""
        self.client.receive()
        for grow in self._grow:
            grow.reply()
        done = 0
        for call in self._calls:
            reply = call.reply()
            if reply.outcome is Outcome.AGAIN:
                break
            assert reply.outcome is Outcome.STORED, reply
            self.pages += len(self._commits[done].settlements)
            done += 1
        del self._commits[:done]
        self._held = self._lease.reply().leases

    def close(self) -> None:
        self.client.connection.close()

    def _links(self, pages: Sequence[Lease]) -> list[NewRequest]:
        load = self._load
        known = len(pages) * load.known
        links = random.choices(self._known, k=known) if known else []
        for page in pages:
            for _ in range(load.links - load.known):
                self._next += 1
                links.append(self._request(self._next, page.slot))
        return links

    def _request(self, number: int, slot: int = NO_SLOT) -> NewRequest:
        mark = fingerprint(number, compact=self._load.compact)
        return NewRequest(_differing(self._payload, number), 0.0, mark, slot=slot)


class Predecessor:
    """scrapy-redis, by its commands; one round trip after another."""

    def __init__(self, port: int, load: Load, number: int) -> None:
        self.pages = 0
        self._connection = Connection(port)
        self._load = load
        self._next = (number + 1) << 32
        self._random = random.Random(number)
        self._payload = self._random.randbytes(PAYLOAD)
        self._steps: Iterator[list[tuple[Word, ...]]] = iter(())
        self._count = 0

    def fileno(self) -> int:
        """For ``select``."""
        return self._connection.fileno()

    def begin(self) -> None:
        """Send what makes the next round trip."""
        step = next(self._steps, None)
        if step is None:
            self._steps = self._page()
            step = next(self._steps)
        self._count = len(step)
        self._connection.send(b"".join(map(encode, step)))

    def end(self) -> None:
        for _ in range(self._count):
            self._connection.read()

    def close(self) -> None:
        self._connection.close()

    def _page(self) -> Iterator[list[tuple[Word, ...]]]:
        queue, seen, load = KEYS.requests, KEYS.dupefilter, self._load
        yield [
            ("MULTI",),
            ("ZRANGE", queue, 0, 0),
            ("ZREMRANGEBYRANK", queue, 0, 0),
            ("EXEC",),
        ]
        for _ in range(load.known):
            yield [("SADD", seen, fingerprint(self._random.randrange(load.seen)))]
        for _ in range(load.links - load.known):
            self._next += 1
            # Pickles differ in their URLs.
            payload = self._next.to_bytes(8, "big") + self._payload[8:]
            yield [("SADD", seen, fingerprint(self._next))]
            yield [("ZADD", queue, 0, payload)]
        self.pages += 1


def _play(
    kind: type[Player | Predecessor],
    port: int,
    load: Load,
    numbers: Sequence[int],
    begins: float,
) -> tuple[int, float]:
    """The clients *numbers* of one process: pages, and seconds."""
    players = [kind(port, load, number) for number in numbers]
    with DefaultSelector() as selector:
        for player in players:
            selector.register(player, EVENT_READ)
        time.sleep(max(0.0, begins - time.time()))
        started = time.monotonic()
        for player in players:
            player.begin()
        waiting = len(players)
        while waiting:
            for key, _ in selector.select():
                player = key.fileobj
                player.end()
                if time.monotonic() - started < load.seconds:
                    player.begin()
                else:
                    waiting -= 1
        elapsed = time.monotonic() - started
    for player in players:
        player.close()
    return sum(player.pages for player in players), elapsed


class Court:
    """A Redis, and the processes whose clients play on it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        server = self._stack.enter_context(RedisServer(Path(folder)))
        self.port = server.port
        self.connection = self._stack.enter_context(Connection(self.port))
        context = get_context("spawn")
        self._pool = self._stack.enter_context(ProcessPoolExecutor(PROCESSES, context))
        # Imports are not to be measured.
        for done in [self._pool.submit(time.sleep, 0.2) for _ in range(PROCESSES)]:
            done.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._stack.__exit__(None, None, None)

    def run(
        self, kind: type[Player | Predecessor], load: Load, *, keep: bool = False
    ) -> Run:
        """Play *load* on a frontier that holds what *load* needs; *keep*: as it is."""
        if not keep:
            self._fill(load)
        before = cpu_seconds(self.connection)
        begins = time.time() + _LEAD
        shares = [range(n, load.clients, PROCESSES) for n in range(PROCESSES)]
        played = [
            self._pool.submit(_play, kind, self.port, load, list(share), begins)
            for share in shares
            if share
        ]
        results = [each.result() for each in played]
        cpu = cpu_seconds(self.connection) - before
        pages = sum(pages for pages, _ in results)
        return Run(pages, cpu, max(wall for _, wall in results))

    def _fill(self, load: Load) -> None:
        self.connection.command("FLUSHALL")
        with LightClient(self.port, compact=load.compact) as filler:
            filler.register()
            fill_seen(filler, 0, load.seen, compact=load.compact)
            if load.of_host:
                fill_hosts(self.connection, load.hosts, load.of_host, load.payload)
                return
            payload = random.Random(0).randbytes(PAYLOAD)
            for first in range(0, PENDING, BATCH):
                numbers = range(first, first + BATCH)
                filler.store(
                    [[NewRequest(_differing(payload, n), 0.0) for n in numbers]]
                )
            filler.leave()


def run(quick: bool, pairs: int) -> list[Figure | Curve]:
    """Capacity for lean and for rich pages, and the rate against the workers."""
    seconds = 0.4 if quick else 2.0
    lean = Load(seconds=seconds)
    rich = Load(
        pages=20,
        links=20,
        known=19,
        seconds=seconds,
        seen=20_000 if quick else 1_000_000,
    )
    with Court() as court:
        server = server_name(court.connection)
        report: list[Figure | Curve] = [
            _against_predecessor(court, LEAN_NAME, lean, pairs, target=100_000),
            _against_predecessor(court, RICH_NAME, rich, pairs, target=17_000),
            _beside(court, "with 16 pages an exchange, 1 new link", lean, 16, pairs),
            _beside(court, "with 20 links, CompactDupeFilter", rich, 0, pairs),
        ]
        capacity = report[0]
        assert isinstance(capacity, Figure)
        for figure in report:
            assert isinstance(figure, Figure)
            figure.note = f"{server}; {figure.note}"
        report += _growing(court, lean, capacity.ours, quick=quick)
    return report


LEAN_NAME = (
    "frontier capacity, one Redis core, light clients, 1 new link per page, 400 byte"
    " payloads"
)
RICH_NAME = "the same with 20 links a page, 19 of them seen before, no local LRU"


def _against_predecessor(
    court: Court, name: str, load: Load, pairs: int, *, target: float
) -> Figure:
    runs = [
        (court.run(Predecessor, load), court.run(Player, load)) for _ in range(pairs)
    ]
    samples = [ours.capacity for _, ours in runs]
    median = statistics.median(samples)
    return Figure(
        name=name,
        ours=median,
        unit="pages per CPU second",
        base=statistics.median(theirs.capacity for theirs, _ in runs),
        base_name=PREDECESSOR_NAME,
        ratio=statistics.median(
            ours.capacity / theirs.capacity for theirs, ours in runs
        ),
        target=f">= {target:,.0f}",
        met=median >= target,
        samples=[round(sample) for sample in samples],
        note=f"an exchange: {load.pages} pages in {load.pages // load.pages_of_commit}"
        f" commits, a beat, a lease; {load.clients} clients; {load.seen:,} fingerprints"
        f" before; {1e6 / median:.1f} us of Redis a page",
    )


def _beside(court: Court, name: str, load: Load, pages: int, pairs: int) -> Figure:
    """A figure without a target, to know what the others depend on."""
    other = replace(load, pages=pages) if pages else replace(load, compact=True)
    runs = [court.run(Player, other) for _ in range(pairs)]
    median = statistics.median(run.capacity for run in runs)
    return Figure(
        name=f"frontier capacity {name}",
        ours=median,
        unit="pages per CPU second",
        samples=[round(run.capacity) for run in runs],
        note=f"{1e6 / median:.1f} us of Redis a page",
    )


def _growing(
    court: Court, load: Load, capacity: float, *, quick: bool
) -> list[Figure | Curve]:
    """1, 2, 4 … 64 workers, as fast as they can."""
    runs = {}
    for workers in WORKERS[::2] if quick else WORKERS:
        runs[workers] = court.run(Player, replace(load, clients=workers))
    ratios = {workers: run.capacity / capacity for workers, run in runs.items()}
    worst = min(ratios, key=lambda workers: ratios[workers])
    busiest = max(runs.values(), key=lambda run: run.rate)
    figure = Figure(
        name="1 to 64 light workers on one Redis: total rate against the capacity figure",
        ours=ratios[worst],
        unit="pages per CPU second of Redis, to the capacity",
        target=">= 0.9",
        met=ratios[worst] >= 0.9,
        samples=[round(ratio, 3) for ratio in ratios.values()],
        note=f"the lowest, with {worst} workers; highest rate {busiest.rate:,.0f} pages/s"
        f" with Redis at {busiest.cpu / busiest.wall:.0%} of a core: {os.cpu_count()}"
        " cores do the clients' work as well, and that is what limits it",
    )
    curve = Curve(
        title="Light workers on one Redis",
        x_label="workers",
        y_label="pages per second",
        series={
            "per CPU second of Redis": [(n, run.capacity) for n, run in runs.items()],
            f"by the clock, {os.cpu_count()} cores for Redis and workers": [
                (n, run.rate) for n, run in runs.items()
            ],
        },
        file="workers",
        log_x=True,
        level=(capacity, f"capacity ({load.clients} workers)"),
    )
    return [figure, curve]
