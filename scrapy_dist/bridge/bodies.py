"""What messages about tasks and dead letters hold."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from scrapy_dist.admin.items import decode
from scrapy_dist.base import times
from scrapy_dist.bridge.publisher import Message
from scrapy_dist.core.tasks import Task, TaskState

if TYPE_CHECKING:
    from scrapy_dist.core.dead_letters import DeadLetter

#: Items, and bytes of them, that a result holds at the most.
MOST_ITEMS, MOST_BYTES = 100, 256 << 10
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
        "submitted": times.iso(times.from_ms(task.submitted_ms or None)),
        "started": times.iso(times.from_ms(task.started_ms or None)),
        "ended": times.iso(times.from_ms(task.ended_ms or None)),
    }


def result_body(spider: str, task: Task, items: Sequence[bytes]) -> bytes:
    """What who asked for *task* gets: how it ended, and *items*, the first ones of it.

    More than `MOST_ITEMS`, or `MOST_BYTES`, are left out; ``results_left`` says how many.
    """
    shown: list[Any] = []
    size = 0
    for data in items[:MOST_ITEMS]:
        size += len(data)
        if size > MOST_BYTES:
            break
        shown.append(_as_value(data))
    body = as_json(spider, task)
    body["results"] = shown
    left = max(0, task.items - len(shown))
    body["results_left"] = left
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


def _as_value(data: bytes) -> Any:
    found = decode(data)
    return _as_text(found) if isinstance(found, bytes) else found


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
    return Message("", queue, json.dumps(body).encode(), name, "status")


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
        "time": times.iso(times.from_ms(letter.time_ms or None)) or "",
    }
    clean = {k: _encodable(v) if isinstance(v, str) else v for k, v in headers.items()}
    name = f"{spider}:{letter.id}".encode()[-_ID:].decode("utf-8", "ignore")
    return Message("", queue, body, name, "failed", content_type, headers=clean)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
