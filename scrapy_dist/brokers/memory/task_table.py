"""Tasks of a crawl in memory: their records, and how they are counted."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import TYPE_CHECKING

from scrapy_dist.core.tasks import Batch, Beginning, Run, Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy_dist.core.tasks import Begin

#: The name of a task in its seed.
_TOKEN = re.compile(rb'"task"\s*:\s*"([0-9a-f]{16})"')
#: Milliseconds that records are kept where results are not.
_DAY = 86_400_000
#: Characters of the longest reason.
_REASON = 500
#: Why what was still to do of a task is nowhere.
LOST = "nothing of it is left in the frontier"


@dataclass(slots=True)
class Record:
    """See `core.tasks.Task`; *results* are its items."""

    id: str
    token: str
    batch: str
    state: TaskState
    open: int = 1
    done: int = 0
    failed: int = 0
    items: int = 0
    submitted_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    worker: str = ""
    reason: str = ""
    results: list[bytes] = field(default_factory=list)

    def task(self) -> Task:
        return Task(**{f.name: getattr(self, f.name) for f in fields(Task)})


class TaskTable:
    """All tasks of a crawl, by token. *now*: the clock, in ms."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.records: dict[str, Record] = {}
        #: The newest run of each id.
        self.newest: dict[str, str] = {}
        #: Whether items are kept as results.
        self.keeps_results = True
        self._now = now

    def newest_of(self, id_: str) -> Record | None:
        return self.records.get(self.newest.get(id_, ""))

    def find(self, id_: str | Run) -> Record | None:
        """Its newest run, or that one."""
        if isinstance(id_, Run):
            return self.records.get(id_.token)
        return self.newest_of(id_)

    def queued(self, seed: bytes) -> str:
        """The task whose seed *seed* is, which has not begun; '': there is none."""
        for found in islice(_TOKEN.finditer(seed), 3):
            token = found[1].decode()
            record = self.records.get(token)
            if record is not None and record.open and not record.started_ms:
                return token
        return ""

    def is_over(self, token: str) -> bool:
        """Whether requests of it are dropped."""
        record = self.records.get(token)
        return record is not None and record.state.is_end

    def is_cancelled(self, token: str) -> bool:
        record = self.records.get(token)
        return record is not None and record.state is TaskState.CANCELLED

    # How they begin and end

    def add(self, id_: str, token: str, batch: str, state: TaskState) -> Record:
        record = Record(id_, token, batch, state, submitted_ms=self._now())
        self.records[token], self.newest[id_] = record, token
        return record

    def begin(self, begin: Begin, worker: str) -> Beginning:
        """See `Ask.begins`; the lease is its worker's, and has not begun."""
        record, newest = self.records.get(begin.token), self.newest_of(begin.id)
        lives = newest is not None and not newest.state.is_end
        if record is None:
            if lives and begin.is_new:
                return Beginning.REFUSED
            record = self.add(begin.id, begin.token, begin.batch, TaskState.QUEUED)
            if lives and newest is not None:
                self.newest[begin.id] = newest.token
        if record.state is TaskState.QUEUED:
            record.state, record.worker = TaskState.RUNNING, worker
            record.started_ms = self._now()
        elif not record.state.is_end:
            self.count(begin.token, 1)  # one more copy of its seed
        if record.state is TaskState.CANCELLED:
            self.count(begin.token, -1)
            return Beginning.CANCELLED
        return Beginning.REFUSED if record.state.is_end else Beginning.BEGUN

    def count(
        self, token: str, opened: int = 0, *, done: int = 0, failed: int = 0
    ) -> None:
        """So much more is left to do of a task, so many more have ended how."""
        record = self.records.get(token)
        if record is None:
            return
        record.open = max(0, record.open + opened)
        record.done += done
        record.failed = max(0, record.failed + failed)
        if not record.state.is_end and not record.open:
            self._end(record, TaskState.FAILED if record.failed else TaskState.DONE)
        elif record.open and record.state in (TaskState.DONE, TaskState.FAILED):
            self._run_again(record)

    def fail(self, token: str, reason: str, *, opened: int = -1) -> None:
        """A request of it has become a dead letter."""
        record = self.records.get(token)
        if record is not None:
            record.reason = " ".join(reason[:_REASON].split())
        self.count(token, opened, failed=1)

    def add_item(self, token: str, data: bytes) -> None:
        record = self.records.get(token)
        if record is not None:
            record.items += 1
            if self.keeps_results:
                record.results.append(data)

    def put_back(self, token: str) -> None:
        """A dead letter is left to do again, also of a task that was cancelled."""
        record = self.records.get(token)
        if record is not None and record.state is TaskState.CANCELLED:
            self._run_again(record)
        self.count(token, 1, failed=-1)

    def _run_again(self, record: Record) -> None:
        record.state, record.ended_ms = TaskState.RUNNING, 0
        record.started_ms = record.started_ms or self._now()

    def cancel(self, record: Record) -> None:
        if not record.state.is_end:
            self._end(record, TaskState.CANCELLED)

    def lose(self) -> None:
        """Nothing is left in the frontier: nor is it of any task."""
        for record in self.records.values():
            if not record.state.is_end:
                record.open, record.reason = 0, LOST
                self._end(record, TaskState.FAILED)

    def cleared(self, state: TaskState) -> None:
        """What was left to do of those in *state* was deleted."""
        for record in self.records.values():
            if record.state is state:
                record.open = 0
                self._end(record, TaskState.CANCELLED)

    def _end(self, record: Record, state: TaskState) -> None:
        record.state, record.ended_ms = state, self._now()

    def prune(self, kept: float) -> None:
        """Forget what has ended *kept* seconds ago; 0: a day ago."""
        since = self._now() - (int(kept * 1000) or _DAY)
        for token, record in list(self.records.items()):
            if record.state.is_end and record.ended_ms < since:
                del self.records[token]
                if self.newest.get(record.id) == token:
                    del self.newest[record.id]

    def clear(self) -> None:
        self.records.clear()
        self.newest.clear()

    def __len__(self) -> int:
        return len(self.records)

    def count_open(self) -> int:
        """How many have not ended."""
        return sum(not record.state.is_end for record in self.records.values())

    # Groups

    def batch(self, name: str) -> Batch:
        """How far it is; '' stands for all tasks."""
        states = Counter(
            record.state.value
            for record in self.records.values()
            if name in ("", record.batch)
        )
        return Batch(name, **states)
