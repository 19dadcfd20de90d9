"""What pages show of tasks and batches: some of very many, and one with its results."""

from __future__ import annotations

import asyncio
import heapq
import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from scrapy_dist.admin.arguments import checked_name, checked_state
from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.core.tasks import TaskState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.core.tasks import Batch, Task

T = TypeVar("T")

#: Tasks and batches that are shown; items of one task.
TASKS, BATCHES, ITEMS = 50, 50, 20
#: Seconds of looking through all for them, and how many are kept meanwhile.
_LOOKING, _KEPT = 1.5, 1000
#: Characters of an item that are shown.
_ITEM = 2000
#: States by which tasks can be filtered.
STATES = tuple(state.value for state in TaskState)


@dataclass(frozen=True)
class Listed:
    """The *tasks* that were submitted last, and *batches*, those under way first.

    *is_all*: all there are were looked at.
    """

    tasks: list[Task]
    batches: list[Batch]
    is_all: bool


async def listed(crawl: Crawl, batch: str, state: str) -> Listed:
    """Tasks of *batch*, in *state*; '' for all. Raises ConfigurationError."""
    tasks = Tasks(crawl)
    port = tasks.port
    wanted = checked_state(state) if state else None
    group = checked_name(batch, "batch") if batch else ""
    found, is_all = await _first(
        port.tasks(batch=group, state=wanted),
        TASKS,
        lambda task: (-task.submitted_ms, task.id),
    )
    if group:
        return Listed(found, [await tasks.batch(group)], is_all)
    batches, are_all = await _first(
        port.batches(), BATCHES, lambda each: (each.ended == each.total, each.name)
    )
    return Listed(found, batches, is_all and are_all)


async def _first(
    source: AsyncIterator[list[T]], most: int, order: Callable[[T], Any]
) -> tuple[list[T], bool]:
    """The first *most* in *order* of what comes in time; false: there is more."""
    kept: list[T] = []

    async def read() -> None:
        nonlocal kept
        async with aclosing(source) as pages:  # type: ignore[type-var]
            async for page in pages:
                kept += page
                if len(kept) > _KEPT:
                    kept = heapq.nsmallest(most, kept, order)

    is_all = True
    try:
        await asyncio.wait_for(read(), _LOOKING)
    except asyncio.TimeoutError:
        is_all = False
    return heapq.nsmallest(most, kept, order), is_all


async def one(crawl: Crawl, id_: str) -> dict[str, Any]:
    """The newest task of *id_*, and its first items. Raises UnknownTask."""
    tasks = Tasks(crawl)
    task = await tasks.task(id_)
    items = await tasks.results(task, 0, ITEMS)
    return {"task": task, "items": [_shown(item) for item in items]}


def _shown(item: dict[str, Any] | bytes) -> str:
    if isinstance(item, bytes):
        return repr(item[:_ITEM])
    return json.dumps(item, ensure_ascii=False)[:_ITEM]
