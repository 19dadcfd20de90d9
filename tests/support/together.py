"""Start workers so that all of them are there when the crawl begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import redis

from tests.support.redis_state import wait_for_workers

if TYPE_CHECKING:
    from tests.support.project import Project, Worker
    from tests.support.site import Site

#: What a worker logs when it has joined.
JOINED = "Frontier at redis"


def start_together(
    project: Project,
    site: Site,
    count: int,
    name: str,
    answers: float = math.inf,
    **kwargs: Any,
) -> list[Worker]:
    """Start *count* workers of spider *name*; the site waits until all are there.

    A worker that came after the end of a small crawl would rightly begin a new one.
    The site answers *answers* pages then, and no more until ``site.resume()``.
    Workers with Scrapy's own scheduler (``frontier="memory"``) are just started.
    """
    if kwargs.get("frontier") == "memory":
        return project.crawl_many(count, name, **kwargs)
    assert project.redis_url is not None
    site.pause()
    workers = project.crawl_many(count, name, **kwargs)
    with redis.Redis.from_url(project.redis_url) as client:
        wait_for_workers(client, name, count, workers=workers)
    for worker in workers:  # those that are there may be others, which are dead
        worker.wait_for_log(JOINED)
    site.answer(answers)
    return workers
