"""What messages about tasks and dead letters hold."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from scrapy_dist.admin.items import decode
from scrapy_dist.base import times
from scrapy_dist.bridge.publisher import Message
from scrapy_dist.core.tasks import Task, TaskState

if TYPE_CHECKING:
    from scrapy_dist.bridge.line import RedisSide
    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.ports import Tasks

#: Items, and bytes of them, that a result holds at the most.
MOST_ITEMS, MOST_BYTES = 100, 256 << 10
#: Tasks whose items are read at a time; items of one that are read before their size is known.
_READERS, _FIRST = 8, 4
#: Bytes of the longest message_id.
_ID = 255
#: Characters of a reason in a header.
_REASON = 500


def as_json(spider: str, task: Task) -> dict[str, Any]:
    """How *task* stands, as messages have it; times in ISO 8601."""
    return {
        "spider": spider,
        "id": task.id,
        "state": str(task.state),
        "batch": task.batch,
        "open": task.open,
        "done": task.done,
        "failed": task.failed,
        "items": task.items,
        "reason": task.reason,
        "worker": task.worker,
        "submitted": times.iso(task.submitted),
        "started": times.iso(task.started),
        "ended": times.iso(task.ended),
    }


def result_body(spider: str, task: Task, items: Sequence[bytes]) -> bytes:
    """What who asked for *task* gets: how it ended, and *items*, the first ones of it.

    More than `MOST_ITEMS`, or `MOST_BYTES`, are left out; ``results_left`` says how many.
    """
    shown, size = [], 0
    for data in items[:MOST_ITEMS]:
        size += len(data)
        if size > MOST_BYTES:
            break
        found = decode(data)
        shown.append(_as_text(found) if isinstance(found, bytes) else found)
    left = max(0, task.items - len(shown))
    body = {**as_json(spider, task), "results": shown, "results_left": left}
    if left:
        body["more"] = (
            f"scrapy_dist.Client(REDIS_URL, {spider!r}).results({task.id!r},"
            f" start={len(shown)})"
        )
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (ValueError, RecursionError):
        pairs = zip(shown, items, strict=False)
        body["results"] = [v if _is_json(v) else _as_text(data) for v, data in pairs]
        return json.dumps(body).encode()


@dataclass
class Results:
    """Reads items of tasks. An item may be of any size, so few are read at a time."""

    port: Tasks
    redis: RedisSide
    _room: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_READERS)
    )

    async def first(self, task: Task) -> list[bytes]:
        """The first items of *task*, `MOST_ITEMS` and `MOST_BYTES` at the most."""
        found: list[bytes] = []
        most, size, step = min(task.items, MOST_ITEMS), 0, _FIRST
        async with self._room:
            while len(found) < most:
                step = min(step, most - len(found))
                read = partial(self.port.results, task, len(found), step)
                some = await self.redis.ask(read)
                for item in some:
                    size += len(item)
                    if size > MOST_BYTES:
                        return found
                    found.append(item)
                if len(some) < step:
                    break
                step = max(1, (MOST_BYTES - size) // max(1, *map(len, some)))
        return found


def _as_text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _is_json(value: Any) -> bool:
    """Whether all can read it: JSON knows no NaN, and some is read but too deep to write."""
    try:
        # It has a few levels above it in the end.
        json.dumps([[[[value]]]], allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return True


def steps_of(task: Task) -> Iterator[TaskState]:
    """The states that *task* has been in so far, in their order."""
    yield TaskState.QUEUED
    if task.started_ms:
        yield TaskState.RUNNING
    if task.state.is_end:
        yield task.state


def message_id(task: Task, what: str) -> str:
    """That of a message about *what* of this run of *task*, whenever it is sent."""
    run = (task.token or task.id).encode("utf-8", "replace")
    return f"{run[: _ID - len(what) - 1].decode('utf-8', 'ignore')}:{what}"


def status_message(queue: str, spider: str, task: Task, state: TaskState) -> Message:
    """That *task* is in *state*, with the counts as they are now."""
    body = {**as_json(spider, task), "state": str(state)}
    if not state.is_end:
        body["ended"] = None
    if state is TaskState.QUEUED:
        body["started"] = None
    name = message_id(task, str(state))
    return Message(queue, json.dumps(body).encode(), name, "status")


def letter_message(queue: str, spider: str, letter: DeadLetter) -> Message:
    """A dead letter: a seed as it was, a request as a seed with its URL.

    So either may be published to the queue of tasks again.
    """
    body, content_type, task = letter.payload, "text/plain", letter.task
    if letter.kind != "seed":
        body = json.dumps({"url": letter.url}).encode()
    else:
        fields = decode(body.strip())
        if isinstance(fields, dict) and "task" in fields:
            # Who publishes it again makes another run of it.
            del fields["task"]
            body = json.dumps(fields).encode()
            task = task or str(fields.get("id", ""))
    if body.lstrip()[:1] == b"{":
        content_type = "application/json"
    headers = {
        "spider": spider,
        "kind": letter.kind,
        "task": task[:_REASON],
        "url": letter.url[:_REASON],
        "reason": letter.reason[:_REASON],
        "worker": letter.worker[:_REASON],
        "deliveries": letter.deliveries,
        "time": times.iso(times.from_ms(letter.time_ms)) or "",
    }
    clean = {
        # AMQP has no half characters.
        k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v
        for k, v in headers.items()
    }
    name = f"{spider}:{letter.id}".encode()[-_ID:].decode("utf-8", "ignore")
    return Message(queue, body, name, "failed", content_type, headers=clean)
