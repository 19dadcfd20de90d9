"""Tasks from outside: submitted, asked for, waited for, cancelled; and their results."""

from __future__ import annotations

import heapq
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scrapy_dist.admin import arguments
from scrapy_dist.admin.bulk import Bulk, until
from scrapy_dist.admin.items import decode
from scrapy_dist.admin.seeding import Sower, Value, kind_of_new_key
from scrapy_dist.admin.task_maker import TaskMaker
from scrapy_dist.base.escaping import quote
from scrapy_dist.base.words import count, span
from scrapy_dist.core.tasks import (
    Batch,
    NewTask,
    OnDuplicate,
    Run,
    Submission,
    Task,
    TaskState,
)
from scrapy_dist.exceptions import (
    BadSeed,
    ConfigurationError,
    FrontierError,
    TaskExists,
    UnknownTask,
)

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Sequence,
        Sized,
    )

    from scrapy_dist.admin.arguments import TaskIds
    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.core import ports


#: Results that are read in one call; tasks that are kept while all are looked through.
_PAGE, _KEPT = 100, 500
#: More items than any task has.
_MAX_ITEMS = 2**53
#: Names that a message tells.
_TOLD = 5


class Tasks:
    """The tasks of *crawl*, which is open. Methods raise as those of `Crawl` do."""

    def __init__(self, crawl: Crawl) -> None:
        self._crawl = crawl
        self._bulk = Bulk(self._look_at)

    @property
    def port(self) -> ports.Tasks:
        """The broker's own."""
        return self._crawl.port

    # Submitting

    def maker(self, **options: Any) -> TaskMaker:
        """What makes tasks of this crawl; *options* as `TaskMaker` has them."""
        return TaskMaker(self._crawl, **options)

    async def push(
        self,
        tasks: Sequence[NewTask],
        on_duplicate: OnDuplicate = OnDuplicate.REFUSE,
        *,
        key: str | None = None,
    ) -> list[Submission]:
        """Push *tasks* in their order; what has become of each.

        *key*: None: the first that the workers read. Raises ConfigurationError where the
        spider reads no seeds.
        """
        keys = (key,) if key else self._crawl.port.seed_keys
        if not keys:
            raise ConfigurationError(
                f"{self._crawl.spider} reads no seeds from Redis, so it has no tasks. Its"
                " class must be a RedisSpider, RedisCrawlSpider or have RedisMixin."
            )
        kind = kind_of_new_key(self._crawl.settings)
        return await self.port.submit(
            tasks, key=keys[0], kind=kind, on_duplicate=on_duplicate
        )

    def sower(self, maker: TaskMaker, key: str | None = None) -> Sower[NewTask]:
        """What pushes seeds that are tasks, as `Crawl.sower` does others.

        A task that lives is left alone.
        """

        def make(value: Value) -> NewTask:
            try:
                return maker.make(value)
            except ConfigurationError as e:
                raise BadSeed(str(e)) from None

        async def send(batch: Sequence[NewTask]) -> int:
            done = await self.push(batch, OnDuplicate.JOIN, key=key)
            return done.count(Submission.SUBMITTED)

        return Sower(make, send, lambda task: len(task.seed))

    async def submit_all(
        self, tasks: Sequence[NewTask], on_duplicate: str | OnDuplicate = "refuse"
    ) -> None:
        """Push *tasks*; raises TaskExists if some are refused: the others are pushed."""
        chosen = arguments.choice(OnDuplicate, on_duplicate, "on_duplicate")
        outcomes = await self.push(tasks, chosen)
        refused = [
            task.id
            for task, outcome in zip(tasks, outcomes, strict=True)
            if outcome is Submission.REFUSED
        ]
        if refused:
            raise TaskExists(
                f"{_named(refused)} of {self._crawl.name}: not submitted, as one with that"
                " id has not ended yet. Use another id, wait for its end, or say"
                ' on_duplicate="join" or "restart".',
                refused,
            )

    async def submit(
        self, task: NewTask, on_duplicate: str | OnDuplicate = "refuse"
    ) -> Task:
        """Push *task*; how it stands then. Raises TaskExists if it is refused."""
        await self.submit_all([task], on_duplicate)
        [found] = await self.port.tasks_of([task.id])
        if found is not None:
            return found
        return Task(task.id, TaskState.QUEUED, task.token, task.batch, open=1)

    # How they stand

    async def tasks_of(self, ids: TaskIds) -> list[Task | None]:
        """The newest task of each of *ids*; None: there is none, or not any more.

        Of a `Task` that run, how it stands now.
        """
        return await self.port.tasks_of(arguments.task_ids_of(ids))

    async def _look_at(self, chosen: Sequence[str | Run]) -> list[Task | None]:
        return await self.port.tasks_of(chosen)

    async def task(self, id: str | int | Task) -> Task:
        """The newest task of *id*, of a `Task` that run. Raises UnknownTask."""
        [found] = await self.tasks_of([id])
        if found is None:
            raise self._unknown(arguments.task_ids_of([id]))
        return found

    async def each(
        self, batch: str | None = None, state: str | TaskState | None = None
    ) -> AsyncIterator[Task]:
        """All tasks, of *batch*, in *state*, in no order."""
        group = "" if batch is None else arguments.checked_name(batch, "batch")
        wanted = None if state is None else arguments.choice(TaskState, state, "state")
        seen: set[int] = set()
        async for some in self.port.tasks(batch=group, state=wanted):
            for task in some:
                # One that is changed meanwhile may come twice.
                mark = hash(task.token)
                if mark not in seen:
                    seen.add(mark)
                    yield task

    async def tasks(
        self,
        batch: str | None = None,
        state: str | TaskState | None = None,
        limit: int | None = None,
    ) -> list[Task]:
        """As `each`, those submitted last first; *limit*: so many of them at the most."""
        most = None if limit is None else arguments.checked_limit(limit)
        found: list[Task] = []
        async for task in self.each(batch, state):
            found.append(task)
            if most is not None and len(found) > 2 * most + _KEPT:
                found = _newest(found, most)
        return _newest(found, most)

    async def batch(self, name: str) -> Batch:
        """How far the batch is; of one that nobody knows all is 0."""
        return await self.port.batch(arguments.checked_name(name, "batch"))

    async def batches(self) -> list[Batch]:
        """All batches, by their names."""
        found = [b async for some in self.port.batches() for b in some]
        return sorted({b.name: b for b in found}.values(), key=lambda b: b.name)

    # Waiting

    async def wait_many(self, ids: TaskIds, timeout: float | None = None) -> list[Task]:
        """Wait until all of *ids* have ended, however they did; how each stands.

        Those who wait at the same time look at the same time, with one question.
        Raises TimeoutError after *timeout* seconds. What nobody knows is waited for
        while anything is left to do, as it may be a seed that no worker has taken yet;
        then UnknownTask is raised.
        """
        chosen = arguments.task_ids_of(ids)
        ended: dict[str | Run, Task] = {}

        async def look() -> bool:
            left = [each for each in dict.fromkeys(chosen) if each not in ended]
            found = await self._bulk.ask(left)
            lost = [each for each in left if found[each] is None]
            if lost and await self._crawl.port.is_drained():
                # Nothing is left that could become one of them from now on.
                found |= await self._bulk.ask(lost)
                if lost := [each for each in lost if found[each] is None]:
                    raise self._unknown(lost)
            ended.update((i, t) for i, t in found.items() if t and t.state.is_end)
            return len(ended) == len({*chosen})

        def late() -> str:
            left = [each for each in dict.fromkeys(chosen) if each not in ended]
            return f"{_named(left)} of {self._crawl.name}: no end"

        await _wait(look, timeout, late)
        return [ended[each] for each in chosen]

    async def wait(self, id: str | int | Task, timeout: float | None = None) -> Task:
        """As `wait_many`, for one."""
        [task] = await self.wait_many([id], timeout)
        return task

    async def wait_batch(self, name: str, timeout: float | None = None) -> Batch:
        """Wait until all tasks of the batch have ended; how many ended how.

        Raises TimeoutError and UnknownTask as `wait_many`. A seed that was pushed by hand
        is counted once a worker has taken it.
        """
        found = Batch(name)

        async def look() -> bool:
            nonlocal found
            found = await self.batch(name)
            if not found.total and await self._crawl.port.is_drained():
                found = await self.batch(name)
                if not found.total:
                    raise UnknownTask(
                        f"There is no batch {quote(name, 200)} of {self._crawl.name}, or"
                        " not any more."
                    )
            return 0 < found.total == found.ended

        await _wait(
            look,
            timeout,
            lambda: (
                f"{found.total - found.ended:,} of {found.total:,} tasks of the batch"
                f" {quote(name, 200)} have not ended"
            ),
        )
        return found

    # Results and the end

    async def results(
        self, id: str | int | Task, start: int = 0, limit: int | None = None
    ) -> list[dict[str, Any] | bytes]:
        """The items of a task, in the order of their commits; *limit* from *start*, 0.

        Items come as `decode` has them. Of a `Task` those of that run, of an id those of
        its newest one. Raises UnknownTask.
        """
        if isinstance(id, Task) and id.token:
            # What has come since it was looked at, too.
            task = replace(id, items=_MAX_ITEMS)
        else:
            task = await self.task(id)
        at = arguments.checked_limit(start)
        left = None if limit is None else arguments.checked_limit(limit)
        found: list[dict[str, Any] | bytes] = []
        while left is None or len(found) < left:
            most = _PAGE if left is None else min(_PAGE, left - len(found))
            page = await self.port.results(task, at, most)
            if not page:
                break
            found += map(decode, page)
            at += len(page)
        return found

    async def cancel(self, *ids: TaskIds) -> list[Task | None]:
        """Cancel those of *ids* that live; each as it stood before, None: unknown."""
        chosen = [each for some in ids for each in arguments.task_ids_of(some)]
        return await self.port.cancel(chosen)

    def _unknown(self, ids: Sequence[str | Run]) -> UnknownTask:
        return UnknownTask(
            f"{_named(ids)} of {self._crawl.name}: not known, or not any more. A seed"
            " that was pushed by hand is a task once a worker has taken it."
        )


@contextmanager
def telling(submitted: Sized) -> Iterator[None]:
    """Let an error say how many seeds in front of those here are *submitted*."""
    try:
        yield
    except FrontierError as e:
        if submitted:
            e.args = (f"{e} (the first {count(len(submitted), 'seed')} are submitted)",)
        raise


def _newest(tasks: Iterable[Task], limit: int | None) -> list[Task]:
    def age(task: Task) -> tuple[int, str]:
        return (-task.submitted_ms, task.id)

    return (
        sorted(tasks, key=age) if limit is None else heapq.nsmallest(limit, tasks, age)
    )


def _named(ids: Sequence[str | Run]) -> str:
    """Some of *ids*, for a message: ``Task 'a'``, ``3 tasks ('a', 'b', …)``."""
    told = [quote(str(each), 200) for each in ids[:_TOLD]]
    if len(ids) == 1:
        return f"Task {told[0]}"
    more = ", …" if len(ids) > _TOLD else ""
    return f"{len(ids):,} tasks ({', '.join(told)}{more})"


async def _wait(
    look: Callable[[], Awaitable[bool]], timeout: float | None, late: Callable[[], str]
) -> None:
    """Wait until *look* is true. Raises TimeoutError that says *late* after *timeout*."""
    if not await until(look, arguments.checked_timeout(timeout)):
        raise TimeoutError(f"{late()} after {span(timeout)}.")
