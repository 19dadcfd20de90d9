"""Start workers so that all of them are there when the crawl begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from tests.support.redis_state import wait_for_workers

if TYPE_CHECKING:
    from tests.support.project import Project, Worker
    from tests.support.site import Site


def start_together(
    project: Project, site: Site, count: int, name: str, **kwargs: Any
) -> list[Worker]:
    """Start *count* workers of spider *name*; the site waits until all are there.

    A worker that came after the end of a small crawl would rightly begin a new one.
    Workers with Scrapy's own scheduler (``frontier="memory"``) are just started.
    """
    if kwargs.get("frontier") == "memory":
        return project.crawl_many(count, name, **kwargs)
    assert project.redis_url is not None
    site.pause()
    workers = project.crawl_many(count, name, **kwargs)
    with redis.Redis.from_url(project.redis_url) as client:
        wait_for_workers(client, name, count, workers=workers)
    site.resume()
    return workers
