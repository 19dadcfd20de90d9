"""What pages show that do not stay up to date: bounded reads, asked for by each page."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_dist import defaults
from scrapy_dist.admin import urls
from scrapy_dist.base import times
from scrapy_dist.redis_client.masking import is_secret, mask_url, shown_value

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.inspection import Explained, Shown

#: Dead letters of one page, and that are looked through for them.
LETTERS, _LOOKED_AT = 50, 2000
#: Next requests that are shown.
REQUESTS = 50

#: Settings of Scrapy that a crawl's speed and politeness rest on.
_SCRAPYS = (
    *("CONCURRENT_REQUESTS", "CONCURRENT_REQUESTS_PER_DOMAIN", "DOWNLOAD_DELAY"),
    *("AUTOTHROTTLE_ENABLED", "ROBOTSTXT_OBEY", "DEPTH_LIMIT", "RETRY_ENABLED"),
    *("RETRY_TIMES", "DOWNLOAD_TIMEOUT", "SCHEDULER", "DUPEFILTER_CLASS"),
)
#: Those with an address of Redis as their value.
_ADDRESSES = frozenset({"REDIS_URL"})


@dataclass(frozen=True)
class Letters:
    """A page of dead letters; *before*: the id to go on from, '' if there are no more.

    *looked_at* were looked through for those with the reason.
    """

    letters: list[DeadLetter]
    before: str
    looked_at: int
    total: int


async def letters(crawl: Crawl, reason: str, before: str) -> Letters:
    """The dead letters with *reason*, in any case, that are older than *before*."""
    found: list[DeadLetter] = []
    looked_at, last = 0, ""
    wanted = reason.casefold()
    total = await crawl.port.count_failed()
    async with aclosing(crawl.failed(before=before)) as all_letters:  # type: ignore[type-var]
        async for letter in all_letters:
            if len(found) == LETTERS or looked_at == _LOOKED_AT:
                return Letters(found, last, looked_at, total)
            looked_at, last = looked_at + 1, letter.id
            if wanted in letter.reason.casefold():
                found.append(letter)
    return Letters(found, "", looked_at, total)


async def next_requests(crawl: Crawl) -> list[Shown]:
    """The next requests in the order of their leases."""
    return [request async for some in crawl.peek(REQUESTS) for request in some]


async def explain(crawl: Crawl, url: str) -> dict[str, Any]:
    """All that is known of *url*, as a template has it."""
    found: Explained = await urls.explain(crawl, url)
    told = found.as_json()
    waiting = found.waiting
    return {
        "found": found,
        "request": told["request"],
        "filters": crawl.naming.filters,
        "waiting": waiting,
        "seconds": waiting.seconds if waiting else None,
    }


@dataclass(frozen=True)
class Setting:
    name: str
    value: str
    is_default: bool


def settings(crawl: Crawl) -> list[Setting]:
    """Those that matter, as this process has them; no secret is among them."""
    own = [
        name for name in defaults.__all__ if name.startswith(("FRONTIER_", "REDIS_"))
    ]
    names = [name for name in own if not name.endswith("_KEY")] + list(_SCRAPYS)
    return [_setting(crawl.settings, name) for name in dict.fromkeys(names)]


def _setting(all_settings: BaseSettings, name: str) -> Setting:
    default = getattr(defaults, name, None)
    value = all_settings.get(name, default)
    is_default = value == default or all_settings.getpriority(name) in (None, 0)
    if is_secret(name):
        shown = "set, and not shown" if value else "not set"
    elif name in _ADDRESSES and isinstance(value, str):
        shown = mask_url(value)
    elif callable(value):
        name_ = getattr(value, "__qualname__", type(value).__qualname__)
        shown = f"{value.__module__}.{name_}"
    else:
        shown = shown_value(name, value)
    return Setting(name, shown, is_default)


async def history(crawl: Crawl) -> list[dict[str, Any]]:
    """The crawls that have finished within a day, the newest first."""
    return [
        {
            "record": record,
            "start": times.shown(record.start),
            "end": times.shown(record.end),
        }
        for record in await crawl.port.history()
    ]
