"""Tasks of a crawl in memory: their records, and how they are counted."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

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


class TaskTable:
    """All tasks of a crawl, by token. *now*: the clock, in ms."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.records: dict[str, Task] = {}
        #: The items of each, while they are kept.
        self.results: defaultdict[str, list[bytes]] = defaultdict(list)
        #: The newest run of each id.
        self.newest: dict[str, str] = {}
        #: Whether items are kept as results.
        self.keeps_results = True
        self._now = now

    def find(self, id_: str | Run) -> Task | None:
        """Its newest run, or that one."""
        token = id_.token if isinstance(id_, Run) else self.newest.get(id_, "")
        return self.records.get(token)

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

    def add(self, id_: str, token: str, batch: str) -> Task:
        """A task whose seed is there."""
        self.newest[id_] = token
        new = Task(id_, TaskState.QUEUED, token, batch, 1, submitted_ms=self._now())
        return self._set(new)

    def _set(self, record: Task, **changes: Any) -> Task:
        self.records[record.token] = record = replace(record, **changes)
        return record

    def begin(self, begin: Begin, worker: str) -> Beginning:
        """See `Ask.begins`; the lease is its worker's, and has not begun."""
        record, newest = self.records.get(begin.token), self.find(begin.id)
        lives = newest is not None and not newest.state.is_end
        if record is None:
            if lives and begin.is_new:
                return Beginning.REFUSED
            record = self.add(begin.id, begin.token, begin.batch)
            if lives and newest is not None:
                self.newest[begin.id] = newest.token
        if record.state is TaskState.QUEUED:
            record = self._run(record, worker=worker)
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
        record = self._set(
            record,
            open=max(0, record.open + opened),
            done=record.done + done,
            failed=max(0, record.failed + failed),
        )
        if not record.state.is_end and not record.open:
            self._end(record, TaskState.FAILED if record.failed else TaskState.DONE)
        elif record.open and record.state in (TaskState.DONE, TaskState.FAILED):
            self._run(record)

    def fail(self, token: str, reason: str) -> None:
        """A request of it has become a dead letter."""
        record = self.records.get(token)
        if record is not None:
            self._set(record, reason=" ".join(reason[:_REASON].split()))
        self.count(token, -1, failed=1)

    def add_item(self, token: str, data: bytes) -> None:
        record = self.records.get(token)
        if record is not None:
            self._set(record, items=record.items + 1)
            if self.keeps_results:
                self.results[token].append(data)

    def put_back(self, token: str) -> None:
        """A dead letter is left to do again, also of a task that was cancelled."""
        record = self.records.get(token)
        if record is not None and record.state is TaskState.CANCELLED:
            self._run(record)
        self.count(token, 1, failed=-1)

    def _run(self, record: Task, **more: Any) -> Task:
        """It runs, maybe once more."""
        started = record.started_ms or self._now()
        state = TaskState.RUNNING
        return self._set(record, state=state, started_ms=started, ended_ms=0, **more)

    def cancel(self, record: Task) -> None:
        if not record.state.is_end:
            self._end(record, TaskState.CANCELLED)

    def lose(self) -> None:
        """Nothing is left in the frontier: nor is it of any task."""
        for record in [*self.records.values()]:
            if not record.state.is_end:
                self._end(record, TaskState.FAILED, open=0, reason=LOST)

    def cleared(self, state: TaskState) -> None:
        """What was left to do of those in *state* was deleted."""
        for record in [*self.records.values()]:
            if record.state is state:
                self._end(record, TaskState.CANCELLED, open=0)

    def _end(self, record: Task, state: TaskState, **more: Any) -> None:
        self._set(record, state=state, ended_ms=self._now(), **more)

    def prune(self, kept: float) -> None:
        """Forget what has ended *kept* seconds ago; 0: a day ago."""
        since = self._now() - (int(kept * 1000) or _DAY)
        for token, record in list(self.records.items()):
            if record.state.is_end and record.ended_ms < since:
                del self.records[token]
                self.results.pop(token, None)
                if self.newest.get(record.id) == token:
                    del self.newest[record.id]

    def clear(self) -> None:
        for part in (self.records, self.results, self.newest):
            part.clear()

    def __len__(self) -> int:
        return len(self.records)

    def count_open(self) -> int:
        """How many have not ended."""
        return sum(not record.state.is_end for record in self.records.values())

    # Groups

    def batch(self, name: str) -> Batch:
        """How far it is; '' stands for all tasks."""
        records = self.records.values()
        return Batch(
            name, **Counter(r.state.value for r in records if name in ("", r.batch))
        )
