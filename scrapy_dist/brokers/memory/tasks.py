"""Tasks of a crawl in memory, for those who submit them and ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.core.tasks import Batch, OnDuplicate, Submission, Task, TaskState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from scrapy_dist.brokers.memory.state import State
    from scrapy_dist.core.tasks import NewTask, Run


class MemoryTasks:
    """`core.ports.Tasks`."""

    _state: State

    async def submit(
        self,
        tasks: Sequence[NewTask],
        *,
        key: str,
        kind: str,
        on_duplicate: OnDuplicate,
    ) -> list[Submission]:
        with self._state.lock:
            return [self._submit(task, key, on_duplicate) for task in tasks]

    def _submit(self, task: NewTask, key: str, on_duplicate: OnDuplicate) -> Submission:
        state, found = self._state, self._state.tasks.find(task.id)
        done = Submission.SUBMITTED
        if found is not None and found.token == task.token:
            return done  # the reply was lost
        if found is not None and on_duplicate is OnDuplicate.REUSE:
            return Submission.JOINED
        if found is not None and not found.state.is_end:
            if on_duplicate is OnDuplicate.REFUSE:
                return Submission.REFUSED
            if on_duplicate is OnDuplicate.JOIN:
                return Submission.JOINED
            state.cancel(found)
            done = Submission.RESTARTED
        state.tasks.add(task.id, task.token, task.batch)
        state.push_seeds(key, [task.seed])
        return done

    async def tasks_of(self, ids: Sequence[str | Run]) -> list[Task | None]:
        with self._state.lock:
            return [self._state.tasks.find(id_) for id_ in ids]

    async def tasks(
        self, *, batch: str = "", state: TaskState | None = None
    ) -> AsyncIterator[list[Task]]:
        with self._state.lock:
            found = [
                task
                for task in self._state.tasks.records.values()
                if batch in ("", task.batch) and state in (None, task.state)
            ]
        yield found

    async def newest_tasks(self, count: int) -> list[Task]:
        with self._state.lock:
            tasks = [*self._state.tasks.records.values()]
        tasks.sort(key=lambda task: (task.ended_ms == 0, task.ended_ms), reverse=True)
        return tasks[:count]

    async def batch(self, name: str) -> Batch:
        with self._state.lock:
            return self._state.tasks.batch(name)

    async def batches(self) -> AsyncIterator[list[Batch]]:
        with self._state.lock:
            records = self._state.tasks.records.values()
            names = dict.fromkeys(record.batch for record in records if record.batch)
            found = [self._state.tasks.batch(name) for name in names]
        yield found

    async def results(self, task: Task, start: int, count: int) -> list[bytes]:
        with self._state.lock:
            found = self._state.tasks.results.get(task.token, [])
            return found[start : start + count]

    async def cancel(self, ids: Sequence[str | Run]) -> list[Task | None]:
        with self._state.lock:
            before = await self.tasks_of(ids)
            for id_ in ids:
                if (task := self._state.tasks.find(id_)) is not None:
                    self._state.cancel(task)
        return before
