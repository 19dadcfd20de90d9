"""Some of very many tasks and batches, for those who look at them again and again."""

from __future__ import annotations

import asyncio
import heapq
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from scrapy_dist.admin.arguments import checked_name, choice
from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.base.waits import wait_for
from scrapy_dist.core.tasks import TaskState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.core.tasks import Batch, Task

T = TypeVar("T")

#: How many are kept while all are looked through.
_KEPT = 1000


@dataclass(frozen=True)
class Glance:
    """The *tasks* that were submitted last, and *batches*, those under way first.

    *is_all*: all there are were looked at.
    """

    tasks: list[Task]
    batches: list[Batch]
    is_all: bool


async def glance(
    crawl: Crawl,
    batch: str = "",
    state: str = "",
    *,
    tasks: int,
    batches: int,
    seconds: float,
) -> Glance:
    """So many *tasks* and *batches* of what is found in *seconds* for each.

    Tasks of *batch*, in *state*; '' for all. Raises ConfigurationError.
    """
    facade = Tasks(crawl)
    port = facade.port
    wanted = choice(TaskState, state, "state") if state else None
    group = checked_name(batch, "batch") if batch else ""
    found, is_all = await _first(
        port.tasks(batch=group, state=wanted),
        tasks,
        lambda task: (-task.submitted_ms, task.id),
        seconds,
    )
    if group:
        return Glance(found, [await facade.batch(group)], is_all)
    groups, are_all = await _first(
        port.batches(),
        batches,
        lambda each: (each.ended == each.total, each.name),
        seconds,
    )
    return Glance(found, groups, is_all and are_all)


async def _first(
    source: AsyncIterator[list[T]], most: int, order: Callable[[T], Any], seconds: float
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
        await wait_for(read(), seconds)
    except asyncio.TimeoutError:
        is_all = False
    return heapq.nsmallest(most, kept, order), is_all
