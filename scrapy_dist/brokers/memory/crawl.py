"""One crawl in memory, from outside."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from scrapy_dist.brokers.memory.tasks import MemoryTasks
from scrapy_dist.codec.envelope import SEED
from scrapy_dist.codec.seal import NO_SEAL
from scrapy_dist.core.crawl import FRONTIER, Cleared, Paused, job_from_settings
from scrapy_dist.core.dead_letters import DeadLetter, Forgotten, Retried
from scrapy_dist.core.settings import Options
from scrapy_dist.core.status import Finished, Status, WorkerStatus
from scrapy_dist.core.tasks import TaskState
from scrapy_dist.exceptions import BadPayload, ConfigurationError

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.settings import BaseSettings

    from scrapy_dist.brokers.memory.state import Letter, Present, State
    from scrapy_dist.core.frontier import NewRequest

#: Seconds between two looks for new items.
_LOOK = 0.02
#: Requests of each place that are looked at for what they are.
_KINDS = 10
#: Most items that a reader takes at once.
_ITEMS = 100


class MemoryCrawl(MemoryTasks):
    """`core.ports.Crawl`, without what is only worth it for a crawl that stays.

    *items*: the key of the items.
    """

    def __init__(
        self,
        state: State,
        settings: BaseSettings,
        spider: str,
        *,
        items: str,
        seed_keys: tuple[str, ...],
    ) -> None:
        self.seal = NO_SEAL
        self.seed_keys = seed_keys
        self._state = state
        self._spider = spider
        self._job = job_from_settings(settings) or None
        self.where = str(settings.get("REDIS_URL"))
        self._items = items
        options = Options.from_settings(settings)
        self._ttl = int(options.worker_ttl * 1000)
        self._discipline = options.discipline
        self.peek = partial(self._refuse, "looked into (peek)")
        self.hosts = partial(self._refuse, "looked into (hosts)")
        self.find = partial(self._refuse, "searched (find)")
        self.explain = partial(self._refuse, "searched (explain)")
        self.letters = partial(self._refuse, "bridged (bridge)")
        self.refuse = partial(self._refuse, "bridged (bridge)")
        self.check = partial(self._refuse, "checked (check)")
        self.export = partial(self._refuse, "exported (export)")
        self.import_lines = partial(self._refuse, "imported (import)")
        self.take_over = partial(self._refuse, "taken over (import)")

    # Reading

    async def status(self, *, holds: int = 0) -> Status:
        state = self._state
        with state.lock:
            workers = tuple(self._worker(*known) for known in state.workers.items())
            return Status(
                spider=self._spider,
                job=self._job,
                redis=self.where,
                time=datetime.now(timezone.utc),
                pending=len(state.pending),
                leased=len(state.leases),
                suspect=len(state.suspects) + len(state.waiting),
                failed=len(state.letters),
                seen=len(state.seen),
                seeds=state.count_seeds(self.seed_keys),
                items=len(state.items.get(self._items, ())),
                pages=state.pages,
                pages_per_second=sum(w.pages_per_second for w in workers if w.alive),
                paused=state.is_paused,
                workers=workers,
                exists=bool(state.crawl),
                tasks=len(state.tasks),
                tasks_open=state.tasks.count_open(),
                tasks_by_state=state.tasks.batch("").states,
            )

    def _worker(self, number: str, known: Present) -> WorkerStatus:
        silent = max(0, self._state.now() - known.beat)
        return WorkerStatus.told(
            known.info.encode(),
            worker=known.name,
            number=number,
            alive=silent < self._ttl,
            since_ms=known.since,
            silent_ms=silent,
            leased=len(self._state.held(number)),
            stopping=known.is_stopped,
        )

    async def is_drained(self) -> bool:
        state = self._state
        with state.lock:
            return not (
                state.left() or state.busy() or state.count_seeds(self.seed_keys)
            )

    async def history(self) -> list[Finished]:
        return [*reversed(self._state.records)]

    async def sizes(self) -> dict[str, int]:
        state = self._state
        sizes = {"stats": len(state.stats), "history": len(state.records)}
        return {**sizes, "tasks": len(state.tasks)}

    async def reason_against(self, *, older: bool = False) -> str:
        return ""

    def _refuse(self, what: str, *_: object, **__: object) -> NoReturn:
        raise ConfigurationError(
            f"REDIS_URL = {self.where!r}: a frontier in memory is for tests, and cannot"
            f" be {what}. Name a Redis, for example redis://localhost:6379/0."
        )

    # Changing

    async def pause(self, paused: bool) -> Paused:
        state = self._state
        with state.lock:
            before, state.is_paused = state.is_paused, paused
            state.changed()
            return Paused(before, state.alive(self._ttl))

    async def stop(self, workers: Sequence[str]) -> int:
        state = self._state
        with state.lock:
            here = [state.workers[w] for w in workers if w in state.workers]
            for worker in here:
                worker.is_stopped = True
            state.changed()
        return len(here)

    async def clear(self, parts: Sequence[str], *, force: bool = False) -> Cleared:
        state = self._state
        with state.lock:
            alive = state.alive(self._ttl)
            if alive and not force:
                return Cleared(alive, done=False)
            deleted: dict[str, int] = {}
            for name, held in self._parts(parts):
                deleted[name] = deleted.get(name, 0) + len(held)
                held.clear()
            if FRONTIER in parts or "requests" in parts:
                state.tasks.cleared(TaskState.RUNNING)
            if "seeds" in parts:
                state.tasks.cleared(TaskState.QUEUED)
            if FRONTIER in parts:
                state.forget(all_=True)
            state.changed()
        return Cleared(alive, done=True, deleted=deleted)

    def _parts(self, parts: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """What *parts* are, by the names that people know."""
        state = self._state
        whole = FRONTIER in parts
        if whole or "requests" in parts:
            yield from (("pending", state.pending), ("leased", state.leases))
            yield from (("suspect", state.suspects), ("suspect", state.waiting))
        if whole or "dupefilter" in parts:
            yield from (("seen", state.seen), ("started", state.started))
        if whole or "stats" in parts:
            yield "stats", state.stats
        if "failed" in parts:
            yield "failed", state.letters
        if "items" in parts:
            yield "items", state.items.get(self._items, deque())
        if "tasks" in parts:
            yield "tasks", state.tasks
        if "history" in parts:
            yield "history", state.records
        for key in self.seed_keys if "seeds" in parts else ():
            yield "seeds", state.seeds.get(key, deque())

    async def kinds(self) -> list[bytes]:
        state = self._state
        with state.lock:
            entries = [
                heap[0]
                for heap in itertools.islice(state.pending.slots.values(), _KINDS)
            ]
            entries += [e for _, e in itertools.islice(state.leases.values(), _KINDS)]
        return [entry.payload[:1] for entry in entries if entry.payload[:1] != SEED]

    async def recrawl(self, requests: Sequence[NewRequest]) -> None:
        state = self._state
        with state.lock:
            for request in requests:
                state.add(request, newest_first=self._discipline.newest_first)
                if request.fingerprint:
                    state.seen.add(request.fingerprint)
            state.changed()

    # Dead letters

    def _chosen(
        self, ids: Iterable[str] | None, reason: str
    ) -> tuple[dict[str, Letter], int]:
        """The letters of *ids*, or all, that have *reason*; and how many are missing."""
        letters = self._state.letters
        wanted = list(letters) if ids is None else list(dict.fromkeys(ids))
        found = {id_: letters[id_] for id_ in wanted if id_ in letters}
        missing = len(wanted) - len(found)
        reason = reason.casefold()
        return {
            id_: letter
            for id_, letter in found.items()
            if reason in letter.reason.casefold()
        }, missing

    async def failed(
        self, reason: str = "", *, before: str = ""
    ) -> AsyncIterator[DeadLetter]:
        with self._state.lock:
            found, _ = self._chosen(None, reason)
        for id_, letter in reversed(found.items()):
            if before and _moment(id_) >= _moment(before):
                continue
            yield DeadLetter(
                id=id_,
                kind="seed" if letter.entry.is_seed else "request",
                time_ms=letter.time,
                deliveries=letter.deliveries,
                worker=letter.worker,
                reason=letter.reason,
                payload=letter.entry.payload,
            )

    async def count_failed(self) -> int:
        return len(self._state.letters)

    async def retry(
        self,
        ids: Iterable[str] | None,
        reason: str = "",
        *,
        decode: Callable[[bytes], Request] | None,
        seeds_as: str,
    ) -> Retried:
        state, done = self._state, Retried()
        with state.lock:
            found, done.missing = self._chosen(ids, reason)
            for id_, letter in found.items():
                entry = letter.entry
                try:
                    if decode is not None and not entry.is_seed:
                        decode(entry.payload)
                except BadPayload as e:
                    done.unreadable += 1
                    done.examples.append((id_, str(e)))
                    continue
                if entry.is_seed and self.seed_keys and not entry.task:
                    state.push_seeds(self.seed_keys[0], [entry.payload])
                    done.seeds += 1
                else:
                    state.tasks.put_back(entry.task)
                    state.put(replace(entry, deaths=0, claims=set()))
                    done.seeds += entry.is_seed
                    done.requests += not entry.is_seed
                del state.letters[id_]
            state.changed()
        return done

    async def forget(self, ids: Iterable[str] | None, reason: str = "") -> Forgotten:
        with self._state.lock:
            found, missing = self._chosen(ids, reason)
            for id_ in found:
                del self._state.letters[id_]
        return Forgotten(len(found), missing)

    # Seeds and items

    def seed_pusher(self, key: str, kind: str) -> SeedPusher:
        return SeedPusher(self._state, key)

    def items(self, consumer: str, patience: float | None = None) -> ItemReader:
        return ItemReader(self, self._state, self._items)


class SeedPusher:
    """`core.ports.SeedPusher`: into a list, whatever the settings say."""

    def __init__(self, state: State, key: str) -> None:
        self._state = state
        self._key = key

    async def push(self, seeds: Sequence[tuple[bytes, int]]) -> int:
        with self._state.lock:
            self._state.push_seeds(self._key, [seed for seed, _ in seeds])
        return len(seeds)


class ItemReader:
    """`core.ports.ItemReader`. What is not acknowledged goes back when it leaves."""

    def __init__(self, crawl: MemoryCrawl, state: State, key: str) -> None:
        self.done = 0
        self.names: list[str] = []
        self.stands_by = False
        self._crawl = crawl
        self._state = state
        self._key = key
        self._taken: deque[bytes] = deque()
        self._numbers = itertools.count()
        self._word = secrets.token_hex(6)

    async def take(
        self, *, follow: bool = False, timeout: float | None = None
    ) -> list[bytes]:
        await self.acknowledge()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            # No item comes after the end: it is stored no later than its page's ack.
            is_over = not follow or await self._crawl.is_drained()
            with self._state.lock:
                waiting = self._state.items.get(self._key, deque())
                found = [waiting.popleft() for _ in range(min(_ITEMS, len(waiting)))]
            self._taken += found
            self.names = [f"{self._word}-{next(self._numbers)}" for _ in found]
            if found or is_over:
                return found
            if deadline is not None and time.monotonic() >= deadline:
                return []
            await asyncio.sleep(_LOOK)

    async def acknowledge(self) -> None:
        for _ in range(self.done):
            self._taken.popleft()
        self.done = 0

    async def beat(self) -> None:
        await self.acknowledge()

    async def leave(self, *, keep: int = 0) -> None:
        await self.acknowledge()
        with self._state.lock:
            self._state.items.setdefault(self._key, deque()).extendleft(
                reversed(self._taken)
            )
        self._taken.clear()


def _moment(id_: str) -> tuple[int, ...]:
    """The order of a letter's id."""
    return tuple(map(int, id_.split("-")))
