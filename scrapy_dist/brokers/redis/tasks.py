"""Tasks in Redis: submitted, looked at, cancelled.

The hash S:tasks has under ``t:TOKEN`` a record: state (the first letter of its name), what
is left to do, pages done, dead letters, items, and the ms when it was submitted, begun and
ended, separated by spaces; then, each behind a line break, id, batch, worker and reason.
Under ``i:ID`` there is the token of the newest task with that id, and under ``b:BATCH`` how
many of its tasks are in each of the states; under ``b:`` alone how many of all. S:results
has items under ``TOKEN NUMBER``, from 1. S:tasks_ended has each token, by the ms of its end;
of one that lives it is infinite.
``lua/lib/tasks.lua`` writes all this.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import batches, pages
from scrapy_dist.codec.seed_fields import is_token
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.core.tasks import Batch, Run, Submission, Task, TaskState
from scrapy_dist.exceptions import BadPayload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.core.tasks import NewTask, OnDuplicate

#: What no field of a record has in it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: Pending requests that are looked at in one call.
_PAGE = 400
#: Bytes of seeds in one call, about.
_CALL_BYTES = 1 << 20

_STATES = {state.value[:1].encode(): state for state in TaskState}
_RECORD = re.compile(
    rb"([qrdfc]) " + rb" ".join([rb"(\d{1,16})"] * 7) + rb"\n"
    rb"([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)"
)
#: The numbers of a record in their order.
_COUNTS = ("open", "done", "failed", "items", "submitted_ms", "started_ms", "ended_ms")
#: What a line of an export has of a task, beside its state.
_TEXTS, _NUMBERS = ("token", "id", "batch", "worker", "reason"), _COUNTS[1:]
#: How ``submit`` replies.
_SUBMITTED = {
    1: Submission.SUBMITTED,
    2: Submission.REFUSED,
    3: Submission.JOINED,
    4: Submission.RESTARTED,
}


def parse_task(token: str, record: bytes | None) -> Task | None:
    """The task of *record*; None if there is none, or it is not of this form."""
    found = _RECORD.fullmatch(record or b"")
    if found is None:
        return None
    state, *numbers = found.groups()[:8]
    counts = dict(zip(_COUNTS, map(int, numbers), strict=True))
    id_, batch, worker, reason = (
        text.decode("utf-8", "replace") for text in found.groups()[8:]
    )
    return Task(
        id_, _STATES[state], token, batch, **counts, worker=worker, reason=reason
    )


def of_task(task: Task) -> dict[str, Any]:
    """The fields of *task* as a line of an export has them, but its state."""
    return {name: getattr(task, name) for name in (*_TEXTS, *_NUMBERS)}


def record_of(line: dict[str, Any]) -> tuple[str, bytes]:
    """Token and record of what `of_task` made a line of; of a queued one its seed is left
    to do. Raises BadPayload.
    """
    state = line.get("state")
    numbers = [line.get(name, 0) for name in _NUMBERS]
    texts = [line.get(name, "") for name in _TEXTS]
    is_text = all(type(text) is str for text in texts)
    if not is_text or not all(type(n) is int and n >= 0 for n in numbers):
        raise BadPayload("it is no task")
    done, failed, items, *times = map(str, numbers)
    open_ = str(int(state == TaskState.QUEUED.value))
    head = " ".join([str(state)[:1], open_, done, failed, items, *times])
    token, *names = texts
    text = "\n".join([head, *(_CONTROL.sub(" ", name) for name in names)])
    record = text.encode("utf-8", "replace")
    found = parse_task(token, record)
    if not is_token(token) or found is None or found.state.value != state:
        raise BadPayload("it is no task")
    return token, record


def parse_batch(name: str, value: bytes | None) -> Batch:
    """How many tasks are in which state by *value*; 0 if there is none."""
    counts = [int(word) for word in (value or b"").split() if word.isdigit()]
    return Batch(name, *counts) if len(counts) == len(TaskState) else Batch(name)


class RedisTasks:
    """`core.ports.Tasks`. All methods raise RedisUnavailable and ConfigurationError."""

    def __init__(self, frontier: Frontier) -> None:
        self._frontier = frontier
        self._client = frontier.client
        self._keys = frontier.keys

    async def submit(
        self,
        tasks: Sequence[NewTask],
        *,
        key: str,
        kind: str,
        on_duplicate: OnDuplicate,
    ) -> list[Submission]:
        done: list[Submission] = []
        for some in _calls(tasks):
            args: list[str | bytes | int] = []
            for task in some:
                args += (task.id, task.token, task.batch, task.priority, task.seed)
            with asking():
                replies = await self._frontier.run(
                    "submit",
                    seed_key=key,
                    seeds_as=kind,
                    on_duplicate=on_duplicate.value,
                    new=args,
                )
            done += [_SUBMITTED[reply] for reply in replies]
        return done

    async def tasks_of(self, ids: Sequence[str | Run]) -> list[Task | None]:
        found: list[Task | None] = []
        with asking():
            for some in batches(ids):
                names = [each.token if isinstance(each, Run) else "" for each in some]
                newest = [n for n, each in enumerate(some) if isinstance(each, str)]
                tokens = await self._get([f"i:{some[n]}" for n in newest])
                for n, token in zip(newest, tokens, strict=True):
                    names[n] = (token or b"").decode("latin-1")
                records = await self._get([f"t:{name}" for name in names])
                found += map(parse_task, names, records)
        return found

    async def tasks(
        self, *, batch: str = "", state: TaskState | None = None
    ) -> AsyncIterator[list[Task]]:
        with asking():
            async for values in self._scan("t:"):
                found = [
                    task
                    for token, record in values
                    if (task := parse_task(token, record))
                    and (not batch or task.batch == batch)
                    and state in (None, task.state)
                ]
                if found:
                    yield found

    async def newest_tasks(self, count: int) -> list[Task]:
        with asking():
            found = await self._client.zrevrange(self._keys.tasks_ended, 0, count - 1)
            tokens = [token.decode("latin-1") for token in found]
            records = await self._get([f"t:{token}" for token in tokens])
        return [task for task in map(parse_task, tokens, records) if task is not None]

    async def batch(self, name: str) -> Batch:
        with asking():
            [value] = await self._get([f"b:{name}"])
        return parse_batch(name, value)

    async def batches(self) -> AsyncIterator[list[Batch]]:
        with asking():
            async for values in self._scan("b:"):
                yield [parse_batch(name, value) for name, value in values if name]

    async def results(self, task: Task, start: int, count: int) -> list[bytes]:
        last = min(task.items, start + min(count, BATCH))
        fields = [f"{task.token} {n}".encode() for n in range(start + 1, last + 1)]
        if not fields:
            return []
        with asking():
            found = await self._client.hmget(self._keys.results, fields)
        return [item for item in found if item is not None]

    async def cancel(self, ids: Sequence[str | Run]) -> list[Task | None]:
        before: list[Task | None] = []
        with asking():
            for some in batches(ids):
                args = [f"\n{i.token}" if isinstance(i, Run) else i for i in some]
                reply = await self._frontier.run("cancel", ids=args)
                tokens = [token.decode("latin-1") for token in reply[::2]]
                before += map(parse_task, tokens, reply[1::2])
            left = sum(
                task.open
                for task in before
                if task is not None and task.state is TaskState.RUNNING
            )
            # What comes back from workers afterwards goes when it is reached.
            at = 0
            while at >= 0 and left > 0:
                at, dropped = await self._frontier.run(
                    "drop_cancelled", at=at, most=_PAGE
                )
                left -= dropped
        return before

    async def _get(self, fields: Sequence[str]) -> list[bytes | None]:
        if not fields:
            return []
        found = await self._client.hmget(self._keys.tasks, [f.encode() for f in fields])
        return list(found)

    async def _scan(self, prefix: str) -> AsyncIterator[list[tuple[str, bytes]]]:
        async for found in pages(self._client.hscan, self._keys.tasks):
            named = [
                (field.decode("utf-8", "replace")[len(prefix) :], value)
                for field, value in found.items()
                if field.startswith(prefix.encode())
            ]
            for some in batches(named):
                yield some


def _calls(tasks: Iterable[NewTask]) -> Iterable[list[NewTask]]:
    """*tasks* in parts for one call."""
    some: list[NewTask] = []
    size = 0
    for task in tasks:
        if some and (len(some) == BATCH or size + len(task.seed) > _CALL_BYTES):
            yield some
            some, size = [], 0
        some.append(task)
        size += len(task.seed)
    if some:
        yield some
