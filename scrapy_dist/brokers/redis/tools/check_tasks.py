"""Check that tasks count what there is of them: a part of a check."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.layout import (
    LEASED,
    REQUESTS,
    SUSPECTS,
    batches,
    scan,
    scan_hash,
)
from scrapy_dist.brokers.redis.tasks import parse_task
from scrapy_dist.core.tasks import TaskState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.core.tasks import Task

#: States in which all that is left to do of a task carries its token. A queued one has its
#: seed, and of one that was cancelled it does not matter.
_EXACT = (TaskState.RUNNING, TaskState.DONE, TaskState.FAILED)


async def wrong_tasks(
    frontier: Frontier, *, mend: bool
) -> AsyncIterator[tuple[Task, int]]:
    """Tasks that count other than there is, and how much there is; *mend*: count again.

    Where something is handed out or stored meanwhile nothing is said.
    """
    client, keys = frontier.client, frontier.keys
    if not await client.zcard(keys.tasks_ended):
        return
    order, active = await client.hmget(keys.state, [b"order", b"active"])
    counts: Counter[str] = Counter()
    for place in (LEASED, REQUESTS, SUSPECTS):
        async for entries in scan(client, keys, place):
            counts.update(entry.task for entry in entries if entry.task)
    async for values in scan_hash(client, keys.tasks):
        found: list[tuple[Task, int, bytes]] = []
        for name, record in values:
            token = name[2:].decode("utf-8", "replace")
            task = parse_task(token, record) if name[:2] == b"t:" else None
            if task and task.state in _EXACT and task.open != counts[token]:
                found.append((task, counts[token], record))
        for some in batches(found):
            args = [arg for task, n, text in some for arg in (task.token, n, text)]
            wrong = await frontier.run(
                "check_tasks",
                mend=int(mend),
                order=order or b"",
                active=active or b"",
                counted=args,
            )
            for at in wrong:
                yield some[at][:2]
