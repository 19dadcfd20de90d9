"""What a crawl in memory consists of, and the steps that change it."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from scrapy_dist import defaults
from scrapy_dist.base import times
from scrapy_dist.brokers.memory.seats import Seats
from scrapy_dist.brokers.memory.task_table import TaskTable
from scrapy_dist.core.frontier import Counts, LeaseId, NewRequest
from scrapy_dist.core.slots import NO_SLOT
from scrapy_dist.core.status import Finished

if TYPE_CHECKING:
    from scrapy_dist.core.tasks import Task

#: Records of finished crawls that are kept.
_RECORDS = 100


def wall_clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Entry:
    """A request, wherever it is; *order* gives its place among those of equal *score*.

    *claims* are fingerprints that were seen on its behalf, see `State.claim`. *task*: the
    token of the task that it is of.
    """

    order: int
    score: float
    payload: bytes
    slot: int = NO_SLOT
    deaths: int = 0
    claims: set[str] = field(default_factory=set)
    is_seed: bool = False
    task: str = ""

    @property
    def id(self) -> LeaseId:
        return f"{self.order:016x}"

    def __lt__(self, other: Entry) -> bool:
        return (self.score, self.order) < (other.score, other.order)


class Pending:
    """Pending requests by slot; slots take turns, see lease.lua."""

    def __init__(self) -> None:
        #: Heaps; the slot that was handed out, or came in, the longest ago is the first.
        self.slots: dict[int, list[Entry]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, entry: Entry) -> None:
        heapq.heappush(self.slots.setdefault(entry.slot, []), entry)
        self._count += 1

    def take(self, want: int, enough: Collection[int], size: int) -> list[Entry]:
        """Take at most *want* out, equal shares of the next slots, but of none in *enough*.

        *size*: bytes of payloads after which it is enough.
        """
        line = deque(islice((slot for slot in self.slots if slot not in enough), want))
        taken: list[Entry] = []
        while line and len(taken) < want and size > 0:
            heap = self.slots[line[0]]
            taken.append(heapq.heappop(heap))
            size -= len(taken[-1].payload)
            line.rotate(-1)
            if not heap:
                del self.slots[line.pop()]
        for slot in dict.fromkeys(entry.slot for entry in taken):
            if slot in self.slots:
                self.slots[slot] = self.slots.pop(slot)
        self._count -= len(taken)
        return taken

    def take_of(self, slot: int, most: int, size: int) -> list[Entry]:
        """Take at most *most* of one slot out, which has had its turn; *size* as in `take`."""
        taken: list[Entry] = []
        heap = self.slots.pop(slot, [])
        while heap and len(taken) < most and size > 0:
            taken.append(heapq.heappop(heap))
            size -= len(taken[-1].payload)
        if heap:
            self.slots[slot] = heap
        self._count -= len(taken)
        return taken

    def drop(self, task: str) -> int:
        """Remove those of *task*; how many there were."""
        before = self._count
        kept = [e for heap in self.slots.values() for e in heap if e.task != task]
        if len(kept) < before:
            self.slots = {slot: [] for slot in self.slots}
            self._count = 0
            for entry in kept:
                self.put(entry)
            self.slots = {slot: heap for slot, heap in self.slots.items() if heap}
        return before - self._count

    def clear(self) -> None:
        self.slots.clear()
        self._count = 0


@dataclass(slots=True)
class Letter:
    """A dead letter; *deliveries*: how often it was tried; *time* in ms."""

    entry: Entry
    reason: str
    worker: str
    deliveries: int
    time: int


@dataclass(slots=True)
class Present:
    """A worker; *beat* and *since* in ms, *beat* 0: known to be dead.

    *not_owned*: number of the last commit with settlements of leases of others.
    """

    name: str
    commit: int
    since: int
    beat: int
    info: str = ""
    process: tuple[str, str] | None = None
    is_busy: bool = False
    is_stopped: bool = False
    not_owned: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker heeds; *ttl* in ms, *result_ttl* in seconds, sizes in bytes."""

    ttl: int
    max_deliveries: int
    failed_limit: int
    max_payload: int
    max_seed: int
    result_ttl: float = defaults.FRONTIER_RESULT_TTL


@dataclass(slots=True)
class State:
    """All of one crawl. *now* is the clock, in ms."""

    now: Callable[[], int] = wall_clock
    pending: Pending = field(default_factory=Pending)
    seats: Seats = field(default_factory=Seats)
    #: What the workers that are here have for `differ_in_manners`.
    polite: str = ""
    #: They outlive a crawl.
    tasks: TaskTable = field(init=False)
    suspects: list[Entry] = field(default_factory=list)
    #: Suspects that have failed and wait for room among the dead letters.
    waiting: list[Entry] = field(default_factory=list)
    leases: dict[LeaseId, tuple[str, Entry]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)
    workers: dict[str, Present] = field(default_factory=dict)
    stats: dict[str, str] = field(default_factory=dict)
    is_paused: bool = False
    #: What outlives a crawl.
    seeds: dict[str, deque[bytes]] = field(default_factory=dict)
    items: dict[str, deque[bytes]] = field(default_factory=dict)
    letters: dict[str, Letter] = field(default_factory=dict)
    records: deque[Finished] = field(default_factory=lambda: deque(maxlen=_RECORDS))
    order: int = 0
    crawl: str = ""
    active: int = 0
    finished: int | None = None
    pages: int = 0
    stored_items: int = 0
    joined: int = 0
    letters_before: int = 0
    met: int = 0
    grace: int = 0
    #: The worker that is to be alone with a suspect, and since when.
    alone: tuple[str, int] | None = None
    #: Held while anything is read or changed: a `Client` runs in a thread of its own.
    lock: threading.RLock = field(default_factory=threading.RLock)
    _watchers: list[Callable[[], object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tasks = TaskTable(self.now)

    # Requests

    def next_order(self) -> int:
        self.order = max(self.order + 1, self.now() * 1024)
        return self.order

    def add(self, request: NewRequest, *, newest_first: bool) -> None:
        """A new request is pending."""
        order = self.next_order()
        order = 2**53 - 1 - order if newest_first else order
        entry = Entry(order, request.score, request.payload, request.slot)
        entry.task = request.task
        self.pending.put(entry)
        self.tasks.count(request.task, 1)

    def put(self, entry: Entry) -> None:
        """*entry* is pending, or a suspect if something has happened to it.

        It is dropped if its task has ended.
        """
        if self.tasks.is_over(entry.task):
            self.tasks.count(entry.task, -1)
        elif entry.deaths or entry.claims:
            heapq.heappush(self.suspects, entry)
        else:
            self.pending.put(entry)

    def owner(self, lease: LeaseId) -> str | None:
        return self.leases[lease][0] if lease in self.leases else None

    def held(self, worker: str) -> list[LeaseId]:
        return [id_ for id_, (owner, _) in self.leases.items() if owner == worker]

    def cancel(self, record: Task) -> None:
        """What is pending of a task that lives is dropped, what is leased is finished."""
        if record.state.is_end:
            return
        self.tasks.cancel(record)
        dropped = self.pending.drop(record.token)
        for part in (self.suspects, self.waiting):
            before = len(part)
            part[:] = [entry for entry in part if entry.task != record.token]
            dropped += before - len(part)
        heapq.heapify(self.suspects)
        self.tasks.count(record.token, -dropped)
        self.changed()

    def bury(
        self, entry: Entry, reason: str, worker: str, limit: int, *, deliveries: int
    ) -> bool:
        """Make *entry* a dead letter; false: it waits for room among the suspects."""
        if len(self.letters) >= limit:
            self.waiting.append(entry)
            return False
        if entry.is_seed and not entry.task:
            entry.task = self.tasks.queued(entry.payload)
        now = self.now()
        letter = Letter(entry, reason, worker, deliveries, now)
        self.letters[f"{now}-{self.next_order()}"] = letter
        self.tasks.fail(entry.task, reason)
        return True

    def bury_dead(self, entry: Entry, worker: str, limit: int) -> bool:
        """As `bury`, one of which too many workers have died."""
        reason = f"{entry.deaths} workers died while they worked on it"
        return self.bury(entry, reason, worker, limit, deliveries=entry.deaths)

    def push_item(self, key: str, data: bytes) -> None:
        self.items.setdefault(key, deque()).append(data)

    def push_seeds(self, key: str, seeds: Iterable[bytes]) -> None:
        self.seeds.setdefault(key, deque()).extend(seeds)
        self.changed()

    def count_seeds(self, keys: Iterable[str]) -> int:
        return sum(len(self.seeds.get(key, ())) for key in keys)

    # Workers

    def alive(self, silent_for: int, *, but: str = "") -> int:
        """Workers, without *but*, that have told within *silent_for* ms that they live."""
        since = self.now() - silent_for
        return sum(w.beat > since for n, w in self.workers.items() if n != but)

    def busy(self) -> int:
        return sum(worker.is_busy for worker in self.workers.values())

    def left(self) -> int:
        """Requests that somebody has to work on."""
        own = len(self.pending) + len(self.suspects) + len(self.waiting)
        return own + len(self.leases)

    # Numbers

    def count(self, *, seeds: int, failed_limit: int) -> Counts:
        waiting = len(self.waiting)
        return Counts(
            pending=len(self.pending),
            suspects=len(self.suspects) + waiting,
            leased=len(self.leases) + self.busy(),
            seeds=seeds,
            idle=max(0, self.now() - (self.active or self.now())) / 1000,
            waiting=waiting if len(self.letters) >= failed_limit else 0,
        )

    def change_stat(self, kind: str, name: str, value: str) -> None:
        """Change a stat of all workers: 'inc', 'set', 'max' or 'min'."""
        old = self.stats.get(name)
        if kind == "set" or old is None:
            self.stats[name] = value
        elif kind == "inc":
            self.stats[name] = str(float(old) + float(value))
        else:
            self.stats[name] = (max if kind == "max" else min)(old, value, key=float)

    # The end

    def record(self, reason: str, end: int) -> None:
        failed = max(0, len(self.letters) - self.letters_before)
        self.records.append(
            Finished(
                self.crawl,
                times.from_ms(int(self.crawl.partition("-")[0] or 0)),
                times.from_ms(end),
                reason,
                self.pages,
                self.stored_items,
                failed,
                self.joined,
            )
        )

    def forget(self, *, all_: bool) -> None:
        """The crawl is over; *all_*: what it has seen is forgotten, too."""
        self.started.clear()
        self.finished = None
        self.crawl = ""
        self.pages = self.stored_items = self.joined = 0
        if all_:
            for part in (
                *(self.pending, self.suspects, self.waiting, self.leases),
                *(self.seen, self.workers, self.stats, self.seats),
            ):
                part.clear()
            self.is_paused = False
            self.alone = None

    # Watching

    def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* in the running event loop at the next change."""
        loop = asyncio.get_running_loop()
        self._watchers.append(lambda: loop.call_soon_threadsafe(changed))

    def changed(self) -> None:
        """Tell all that watch, once, that there may be something new."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()
