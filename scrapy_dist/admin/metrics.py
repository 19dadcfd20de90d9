"""How crawls stand, in the form that Prometheus reads.

Redis is asked when Prometheus asks, not more often than once a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from scrapy_dist.admin.crawls import read_each
from scrapy_dist.base.escaping import escape
from scrapy_dist.base.waits import wait_for
from scrapy_dist.base.words import span
from scrapy_dist.core.hosts import NO_HOSTS, Hosts
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable

if TYPE_CHECKING:
    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.core.status import Status

    Family = GaugeMetricFamily | CounterMetricFamily

#: Seconds for which a reading, and a list of crawls, is good.
_READING_AGE, _LIST_AGE = 1.0, 30.0
#: Seconds that a reading may take, less than Prometheus' scrape_timeout.
_TIMEOUT = 5.0
#: Crawls that are served; each is about fifteen time series.
MOST_CRAWLS = 500
#: Not ``job``, which Prometheus itself adds to what it scrapes.
_LABELS = ("spider", "frontier_job")
#: Hosts of a crawl that are looked at all; of more only some are.
_LOOK = 500
#: What part of the pending requests a host has, to be told by its name, where only some
#: are looked at: small ones would be others each time, and a series for each.
_PART = 0.01
#: What all other hosts are called.
_OTHER = "other"
#: Characters of the longest value of a label.
_LABEL = 200


@dataclass(frozen=True)
class Reading:
    """What Redis said; *up* is false if it did not answer.

    *hosts* are those of *statuses*. *unreadable* are the spider and job of crawls that
    have a key of a wrong type, and why.
    """

    up: bool
    statuses: Sequence[Status] = ()
    hosts: Sequence[Hosts] = ()
    unreadable: Sequence[tuple[str, str, str]] = ()
    #: Why it is not up.
    problem: str = ""


class Watch:
    """Reads the crawls that *find* finds, and remembers both for a while.

    *tell* is called, once, with each sentence that people should know. *hosts*: how many
    of each crawl, those with the most pending requests.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Sequence[Crawl]]],
        tell: Callable[[str], object],
        *,
        hosts: int = 20,
    ) -> None:
        self._find = find
        self._hosts = hosts
        self._tell = tell
        self._told: set[str] = set()
        self._lock = asyncio.Lock()
        self._crawls: Sequence[Crawl] = ()
        self._listed_until = self._read_until = 0.0
        self._reading = Reading(up=False)
        self._down = self._left_out = False

    async def read(self) -> Reading:
        """How all crawls stand, at most a second ago. Raises nothing of Redis."""
        async with self._lock:
            if time.monotonic() >= self._read_until:
                try:
                    self._reading = await wait_for(self._read(), _TIMEOUT)
                except asyncio.TimeoutError:
                    self._reading = Reading(
                        up=False,
                        problem=f"Redis does not answer within {span(_TIMEOUT)}.",
                    )
                except (RedisUnavailable, ConfigurationError) as e:
                    self._reading = Reading(up=False, problem=str(e))
                self._read_until = time.monotonic() + _READING_AGE
                self._report(self._reading)
            return self._reading

    def _report(self, reading: Reading) -> None:
        if reading.up and self._down:
            self._tell("Redis answers again.")
        elif not reading.up and not self._down:
            self._tell(f"{reading.problem} Serving redis_up 0 until it answers.")
        self._down = not reading.up
        problems = {problem for _, _, problem in reading.unreadable}
        for problem in sorted(problems - self._told):
            self._tell(problem)
        self._told = problems

    async def _read(self) -> Reading:
        if time.monotonic() >= self._listed_until:
            crawls = await self._find()
            left_out = len(crawls) > MOST_CRAWLS
            if left_out and not self._left_out:
                self._tell(
                    f"Redis has {len(crawls)} crawls: the first {MOST_CRAWLS} are"
                    " served, those of the project before others. Name the spiders to"
                    " choose."
                )
            self._left_out, self._crawls = left_out, crawls[:MOST_CRAWLS]
            self._listed_until = time.monotonic() + _LIST_AGE
        found, unreadable = await read_each(self._crawls, self._read_one)
        problems = [(crawl.spider, crawl.job or "", str(e)) for crawl, e in unreadable]
        return Reading(
            up=True,
            statuses=[status for status, _ in found],
            hosts=[hosts for _, hosts in found],
            unreadable=problems,
        )

    async def _read_one(self, crawl: Crawl) -> tuple[Status, Hosts]:
        status = await crawl.status()
        if not (status.pending or status.leased):
            return status, NO_HOSTS
        return status, await crawl.hosts(self._hosts, look=_LOOK, letters=0)


@dataclass(frozen=True)
class _Collector(Collector):
    read: Callable[[], Reading]

    def collect(self) -> Iterator[Metric]:
        reading = self.read()
        up = GaugeMetricFamily(
            f"{_PREFIX}redis_up", "Whether Redis answered (1) or not (0)."
        )
        up.add_metric([], float(reading.up))
        yield up
        for name, (field, meaning) in _GAUGES.items():
            yield _filled(_gauge(name, meaning), reading.statuses, field)
        pages = CounterMetricFamily(
            f"{_PREFIX}pages",
            "Requests that workers have acknowledged since the crawl began.",
            labels=_LABELS,
        )
        yield _filled(pages, reading.statuses, "pages")
        yield from _by_state(reading.statuses)
        yield from _hosts(reading)
        yield _readable(reading)


def registry(read: Callable[[], Reading]) -> CollectorRegistry:
    """What serves the metrics of the reading that *read* gives each time."""
    found = CollectorRegistry()
    found.register(_Collector(read))
    return found


async def exposition(watch: Watch) -> tuple[bytes, bool]:
    """The metrics as Prometheus reads them, and whether Redis answered."""
    reading = await watch.read()
    return generate_latest(registry(lambda: reading)), reading.up


_PREFIX = "scrapy_frontier_"
#: Name of the gauges that each crawl has one of, field of Status, and meaning.
_GAUGES = {
    "pending_requests": ("pending", "Requests that wait for a worker."),
    "leased_requests": ("leased", "Requests in the hands of workers."),
    "suspect_requests": (
        "suspect",
        "Requests whose worker died, and that wait for another one.",
    ),
    "failed_requests": (
        "failed",
        "Dead letters that are kept, FRONTIER_FAILED_LIMIT at the most.",
    ),
    "seen_requests": ("seen", "Fingerprints of requests that the crawl has seen."),
    "seeds": ("seeds", "Seeds that wait for a worker."),
    "items": ("items", "Items that wait for a reader."),
    "tasks": ("tasks", "Tasks that are known: seeds with an id."),
    "tasks_open": ("tasks_open", "Tasks that have not ended."),
    "pages_per_second": (
        "pages_per_second",
        "Pages per second of all living workers over the last minute.",
    ),
    "paused": ("paused", "Whether the crawl is paused (1) or not (0)."),
}
_HOST_GAUGES = {
    "hosts": (
        "slots",
        "Hosts (or what FRONTIER_SLOT says) with pending requests or an owner.",
    ),
    "hosts_waiting": ("waiting", "Hosts that no worker may ask yet, as they rest."),
    "hosts_owned": ("owned", "Hosts that a worker has, with FRONTIER_POLITENESS."),
}


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, meaning, labels=(*_LABELS, *labels))


def _filled(family: Family, statuses: Iterable[Status], field: str) -> Family:
    for status in statuses:
        family.add_metric(_labels(status), float(getattr(status, field)))
    return family


def _label(name: str, taken: str | None = None) -> str:
    """*name* as a label; one that is escaped, cut or *taken* gets a mark: none is twice."""
    shown = escape(name)
    if shown == name and len(name) <= _LABEL and name != taken:
        return name
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{shown[: _LABEL - 9]}…{mark}"


def _labels(status: Status) -> tuple[str, str]:
    return _label(status.spider), _label(status.job or "")


def _by_state(statuses: Iterable[Status]) -> Iterator[GaugeMetricFamily]:
    workers = _gauge(
        "workers",
        "Workers that are alive, or dead: silent for FRONTIER_WORKER_TTL.",
        "state",
    )
    tasks = _gauge("tasks_by_state", "Tasks that are known, by their state.", "state")
    for status in statuses:
        alive = len(status.alive)
        workers.add_metric((*_labels(status), "alive"), alive)
        workers.add_metric((*_labels(status), "dead"), len(status.workers) - alive)
        for state, number in status.tasks_by_state.items():
            tasks.add_metric((*_labels(status), state), number)
    yield workers
    yield tasks


def _hosts(reading: Reading) -> Iterator[GaugeMetricFamily]:
    for name, (field, meaning) in _HOST_GAUGES.items():
        gauge = _gauge(name, meaning)
        for status, hosts in zip(reading.statuses, reading.hosts, strict=True):
            gauge.add_metric(_labels(status), getattr(hosts, field))
        yield gauge
    largest = _gauge(
        "host_pending_requests",
        "Requests that wait for a worker, of the largest hosts; of the rest as"
        f" {_OTHER!r}.",
        "host",
    )
    for status, hosts in zip(reading.statuses, reading.hosts, strict=True):
        pending: Counter[str] = Counter()
        least = hosts.pending * _PART if hosts.slots > _LOOK else 0
        for host in hosts.hosts:
            is_told = host.pending >= least
            pending[_label(host.name, _OTHER) if is_told else _OTHER] += host.pending
        pending[_OTHER] += hosts.rest
        for label, value in pending.items():
            largest.add_metric((*_labels(status), label), value)
    yield largest


def _readable(reading: Reading) -> GaugeMetricFamily:
    readable = _gauge(
        "readable",
        "Whether the keys of the crawl are those of a frontier (1) or not (0).",
    )
    for status in reading.statuses:
        readable.add_metric(_labels(status), 1)
    for spider, job, _ in reading.unreadable:
        readable.add_metric((_label(spider), _label(job)), 0)
    return readable
