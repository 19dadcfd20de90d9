"""What pages show of tasks and batches: some of very many, and one with its results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from scrapy_dist.admin.task_glance import Glance, glance
from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.core.tasks import TaskState

if TYPE_CHECKING:
    from scrapy_dist.admin.crawl import Crawl

#: Tasks and batches that are shown; items of one task.
TASKS, BATCHES, ITEMS = 50, 50, 20
#: Seconds of looking through all for them.
_LOOKING = 1.5
#: Characters of an item that are shown.
_ITEM = 2000
#: States by which tasks can be filtered.
STATES = tuple(state.value for state in TaskState)


async def listed(crawl: Crawl, batch: str, state: str) -> Glance:
    """Tasks of *batch*, in *state*; '' for all. Raises ConfigurationError."""
    return await glance(
        crawl, batch, state, tasks=TASKS, batches=BATCHES, seconds=_LOOKING
    )


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
