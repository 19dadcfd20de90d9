"""Keys that a test must not leave in the shared Redis.

``@pytest.mark.keeps("pattern*", reason="…")`` allows more, for a test or a module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from scrapy_dist import defaults
from scrapy_dist.brokers.redis.keys import SETTINGS
from tests.support.frontiers import SEED_KEYS

if TYPE_CHECKING:
    import pytest
    import redis

    from tests.support.project import Project

#: Keys that outlive a crawl on purpose.
KEPT_KEYS = ("*:failed", "*:items", "*:history")
#: Those that go by themselves some time after it.
EXPIRING_KEYS = ("*:tasks", "*:results", "*:tasks_ended")

_TEMPLATES = (
    *(getattr(defaults, setting) for _, setting, *_ in SETTINGS),
    defaults.REDIS_START_URLS_KEY,
    # Where tests of the protocol have a second list of seeds.
    *SEED_KEYS,
    # The list of a reader of items.
    f"{defaults.REDIS_ITEMS_KEY}:taken:.+",
    # The buckets of CompactDupeFilter.
    f"{defaults.SCHEDULER_DUPEFILTER_KEY}:[0-9]+:[0-9]*",
)


def _keys_of(crawl: str) -> re.Pattern[str]:
    """The keys of *crawl*, a pattern; in a cluster its name is a hash tag."""
    names = {"spider": f"(?:{crawl}|{{{crawl}}})"}
    names["name"] = names["spider"]
    return re.compile("|".join(template % names for template in _TEMPLATES))


#: Of any spider, or of a job of it.
_ANY = _keys_of("[^:{}]+(?::[^:{}]+)?")


def allowed_keys(test: pytest.Item) -> list[str]:
    """The patterns of keys that *test* may leave, as its marks say."""
    marks = list(test.iter_markers("keeps"))
    assert all(mark.kwargs["reason"] for mark in marks)
    return [pattern for mark in marks for pattern in mark.args]


def strange(client: redis.Redis, allowed: Iterable[str]) -> list[str]:
    """The keys that no frontier has by the templates of key names."""
    return [key for key in _left(client, allowed) if not _ANY.fullmatch(key)]


def leaked(client: redis.Redis, allowed: Iterable[str], crawl: str) -> list[str]:
    """The keys of *crawl* that are left, and that no finished crawl leaves, or for good."""
    of_crawl = _keys_of(re.escape(crawl))
    left = _left(client, (*KEPT_KEYS, *allowed))
    return [
        key
        for key in left
        if of_crawl.fullmatch(key)
        and not (_is_like(key, EXPIRING_KEYS) and client.pttl(key) > 0)
    ]


def finished(project: Project) -> set[str]:
    """The crawls whose last worker ended as ``finished`` and was to keep nothing."""
    last = {}
    for worker in sorted(project.workers, key=lambda w: w.log_path.stat().st_mtime):
        last[worker.crawl] = worker
    return {
        crawl
        for crawl, worker in last.items()
        if worker.cleans_up and "'finish_reason': 'finished'" in worker.log()
    }


def _left(client: redis.Redis, allowed: Iterable[str]) -> Iterator[str]:
    for key in client.scan_iter(count=1000):
        name = key.decode("utf-8", "replace")
        if not _is_like(name, allowed):
            yield name


def _is_like(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
