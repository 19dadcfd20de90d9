"""What is said of delays that count in each worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.base.settings import flag
from scrapy_dist.base.words import number

if TYPE_CHECKING:
    from scrapy import Spider
    from scrapy.settings import BaseSettings


def delays_of(spider: Spider) -> list[str]:
    """The settings that space the requests of one worker only, as they are written."""
    settings: BaseSettings | None = getattr(spider, "settings", None)
    if settings is None or flag(settings, "FRONTIER_POLITENESS"):
        return []
    found = []
    delay = getattr(spider, "download_delay", None)
    if delay is not None:
        if delay:
            found.append(f"download_delay = {delay!r} of the spider")
    elif settings.getfloat("DOWNLOAD_DELAY") > 0:
        found.append(f"DOWNLOAD_DELAY = {settings.getfloat('DOWNLOAD_DELAY'):g}")
    if settings.getbool("AUTOTHROTTLE_ENABLED"):
        found.append("AUTOTHROTTLE_ENABLED = True")
    slots = settings.getdict("DOWNLOAD_SLOTS")
    count = sum(bool(isinstance(s, dict) and s.get("delay")) for s in slots.values())
    if count:
        found.append(f"DOWNLOAD_SLOTS, with a delay for {count}")
    return found


class Delays:
    """Warns once if others crawl beside this worker, and each keeps delays of its own."""

    def __init__(self, spider: Spider) -> None:
        self._logger = spider_logger(__name__, spider)
        self._found = delays_of(spider)

    def look(self, workers: int) -> None:
        """There are so many *workers* now, with this one."""
        if workers < 2 or not self._found:
            return
        self._logger.warning(
            "%s workers are at this crawl, and each keeps delays of its own (%s): a site"
            " gets requests %s times as often. FRONTIER_POLITENESS = True makes them those"
            " of all workers together.",
            number(workers),
            ", ".join(self._found),
            number(workers),
        )
        self._found = []
