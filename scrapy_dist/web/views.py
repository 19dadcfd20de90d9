"""What pages show that do not stay up to date: bounded reads, asked for by each page."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_dist import defaults
from scrapy_dist.admin import urls
from scrapy_dist.admin.task_glance import glance
from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.core.tasks import TaskState
from scrapy_dist.redis_client.masking import is_secret, mask_url, shown_value

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from scrapy.settings import BaseSettings

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.core.dead_letters import DeadLetter

#: Dead letters of one page, and that are looked through for them.
LETTERS, _LOOKED_AT = 50, 2000
#: Next requests that are shown.
REQUESTS = 50
#: Tasks and batches that are shown; items of one task, and characters of an item.
TASKS, _BATCHES, _ITEMS, _ITEM = 50, 50, 20, 2000
#: Seconds of looking through all tasks for them.
_LOOKING = 1.5
#: Settings of Scrapy that a crawl's speed and politeness rest on.
_SCRAPYS = (
    *("CONCURRENT_REQUESTS", "CONCURRENT_REQUESTS_PER_DOMAIN", "DOWNLOAD_DELAY"),
    *("AUTOTHROTTLE_ENABLED", "ROBOTSTXT_OBEY", "DEPTH_LIMIT", "RETRY_ENABLED"),
    *("RETRY_TIMES", "DOWNLOAD_TIMEOUT", "SCHEDULER", "DUPEFILTER_CLASS"),
)


@dataclass(frozen=True)
class Asked:
    """A page of *crawl* with this *query*.

    *searching* is held by who looks through all requests or tasks: one at a time.
    """

    crawl: Crawl
    query: Mapping[str, str]
    searching: asyncio.Lock


async def _failed(asked: Asked) -> dict[str, Any]:
    """The dead letters with a reason, in any case, that are older than a certain one.

    *before*: the id to go on from, '' if there are no more. *looked_at* were looked
    through for those with the reason.
    """
    crawl, before = asked.crawl, asked.query.get("before", "")
    reason = asked.query.get("reason", "")[:200]
    letters: list[DeadLetter] = []
    looked_at, last = 0, ""
    total = await crawl.port.count_failed()
    async with aclosing(crawl.failed(before=before)) as found:  # type: ignore[type-var]
        async for letter in found:
            if len(letters) == LETTERS or looked_at == _LOOKED_AT:
                break
            looked_at, last = looked_at + 1, letter.id
            if reason.casefold() in letter.reason.casefold():
                letters.append(letter)
        else:
            last = ""
    return {
        "letters": letters,
        "reason": reason,
        "before": last,
        "looked_at": looked_at,
        "total": total,
    }


async def _next(asked: Asked) -> dict[str, Any]:
    status = await asked.crawl.status()
    found = [each async for some in asked.crawl.peek(REQUESTS) for each in some]
    return {"requests": found, "status": status}


async def _explain(asked: Asked) -> dict[str, Any]:
    url = asked.query.get("url", "").strip()
    if not url:
        return {"url": "", "found": None}
    async with asked.searching:
        found = await urls.explain(asked.crawl, url)
    request = found.as_json()["request"]
    filters = asked.crawl.naming.filters
    return {"url": url, "found": found, "request": request, "filters": filters}


async def _seeds(asked: Asked) -> dict[str, Any]:
    return {"keys": asked.crawl.port.seed_keys, "status": await asked.crawl.status()}


async def _tasks(asked: Asked) -> dict[str, Any]:
    batch, state = asked.query.get("batch", ""), asked.query.get("state", "")
    async with asked.searching:
        found = await glance(
            asked.crawl,
            batch,
            state,
            tasks=TASKS,
            batches=_BATCHES,
            seconds=_LOOKING,
        )
    states = [str(each) for each in TaskState]
    return {"found": found, "batch": batch, "state": state, "states": states}


async def _task(asked: Asked) -> dict[str, Any]:
    """The newest task of an id, and its first items. Raises UnknownTask."""
    tasks = Tasks(asked.crawl)
    task = await tasks.task(asked.query.get("id", ""))
    items = await tasks.results(task, 0, _ITEMS)
    return {"task": task, "items": [_item(each) for each in items]}


def _item(item: dict[str, Any] | bytes) -> str:
    if isinstance(item, bytes):
        return repr(item[:_ITEM])
    return json.dumps(item, ensure_ascii=False)[:_ITEM]


async def _history(asked: Asked) -> dict[str, Any]:
    return {"records": await asked.crawl.port.history()}


@dataclass(frozen=True)
class Setting:
    name: str
    value: str
    is_default: bool


async def _settings(asked: Asked) -> dict[str, Any]:
    """Those that matter, as this process has them; no secret is among them."""
    own = [
        name
        for name in defaults.__all__
        if name.startswith(("FRONTIER_", "REDIS_")) and not name.endswith("_KEY")
    ]
    names = dict.fromkeys((*own, *_SCRAPYS))
    return {"settings": [_setting(asked.crawl.settings, name) for name in names]}


def _setting(all_settings: BaseSettings, name: str) -> Setting:
    default = getattr(defaults, name, None)
    value = all_settings.get(name, default)
    is_default = value == default or all_settings.getpriority(name) in (None, 0)
    if is_secret(name):
        shown = "set, and not shown" if value else "not set"
    elif name == "REDIS_URL" and isinstance(value, str):
        shown = mask_url(value)
    elif callable(value):
        name_ = getattr(value, "__qualname__", type(value).__qualname__)
        shown = f"{value.__module__}.{name_}"
    else:
        shown = shown_value(name, value)
    return Setting(name, shown, is_default)


#: What each page shows, by its name: the values of its template.
SHOWN: dict[str, Callable[[Asked], Awaitable[dict[str, Any]]]] = {
    "failed": _failed,
    "next": _next,
    "explain": _explain,
    "seeds": _seeds,
    "history": _history,
    "settings": _settings,
    "task": _task,
    "tasks": _tasks,
}
