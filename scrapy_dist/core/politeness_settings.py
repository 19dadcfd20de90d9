"""The settings of a polite crawl: Scrapy's own, which hold for all workers together there."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.settings import number
from scrapy_dist.core.politeness import Rules
from scrapy_dist.core.slots import slot_number
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scrapy import Spider
    from scrapy.settings import BaseSettings

    from scrapy_dist.core.slots import Slots
    from scrapy_dist.queue import Base

#: Seconds of delay that are believed at the most; and at least where AutoThrottle is to
#: learn it, as a slot with a delay has one owner, who does.
_LONGEST, _LEARNING = 1e6, 0.001


@dataclass(frozen=True)
class PolitenessOptions:
    """Times are in seconds.

    *rules* are those of slots that have none in *own*, by their numbers. *turn*: how
    long a worker keeps a slot that others wait for. *learns*: AutoThrottle changes the delays.
    """

    rules: Rules
    turn: float
    learns: bool = False
    own: Mapping[int, Rules] = field(default_factory=dict)

    def raised(self, name: str, delay: float) -> float:
        """*delay* of the downloader's slot *name* if the project has raised it; else 0."""
        before = self.own.get(slot_number(name), self.rules).delay
        return delay if delay > before and not self.learns else 0.0

    @classmethod
    def from_settings(
        cls,
        settings: BaseSettings,
        spider: Spider | None,
        discipline: type[Base],
        slots: Slots | None = None,
    ) -> PolitenessOptions:
        """Raises ConfigurationError for what cannot hold for all workers together."""
        if not discipline.by_slot:
            raise ConfigurationError(
                "FRONTIER_POLITENESS = True needs slots, and SCHEDULER_QUEUE_CLASS ="
                f" {discipline.__module__ + '.' + discipline.__qualname__!r} keeps all"
                " requests in one order. Remove it, or name"
                " 'scrapy_dist.queue.SlotQueue'."
            )
        if settings.getint("CONCURRENT_REQUESTS_PER_IP"):
            raise ConfigurationError(
                "CONCURRENT_REQUESTS_PER_IP ="
                f" {settings['CONCURRENT_REQUESTS_PER_IP']!r} cannot hold for all workers"
                " together (FRONTIER_POLITENESS = True). Remove it, and let FRONTIER_SLOT"
                " name a function that returns the address of a request's host."
            )
        delay = getattr(spider, "download_delay", None)
        places = getattr(spider, "max_concurrent_requests", None)
        if delay is None:
            delay = settings.get("DOWNLOAD_DELAY")
        if places is None:
            places = settings.get("CONCURRENT_REQUESTS_PER_DOMAIN")
        learns = settings.getbool("AUTOTHROTTLE_ENABLED")
        rules = Rules(
            _seconds("DOWNLOAD_DELAY", delay),
            _count("CONCURRENT_REQUESTS_PER_DOMAIN", places),
        )
        if learns:
            first = settings.get("AUTOTHROTTLE_START_DELAY")
            first = _seconds("AUTOTHROTTLE_START_DELAY", first)
            rules = Rules(max(rules.delay, first, _LEARNING), rules.places)
        own = _own(settings.getdict("DOWNLOAD_SLOTS"), rules, slots, learns=learns)
        return cls(rules, number(settings, "FRONTIER_TURN", least=0.1), learns, own)


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if 0 <= seconds <= _LONGEST:
        return seconds
    raise ConfigurationError(
        f"{name} = {value!r} is not a number of seconds from 0 to {_LONGEST:g}, as"
        " FRONTIER_POLITENESS = True needs it."
    )


def _count(name: str, value: Any) -> int:
    try:
        count = int(value)
    except (OverflowError, TypeError, ValueError):
        count = 0
    if 1 <= count < 2**31:
        return count
    raise ConfigurationError(
        f"{name} = {value!r} is not a whole number of at least 1, as"
        " FRONTIER_POLITENESS = True needs it."
    )


def _own(
    entries: Mapping[str, Any], rules: Rules, slots: Slots | None, *, learns: bool
) -> dict[int, Rules]:
    """What DOWNLOAD_SLOTS says of slots, by their numbers."""
    found = {}
    for name, each in entries.items():
        if not isinstance(name, str) or not isinstance(each, dict):
            raise ConfigurationError(
                f"DOWNLOAD_SLOTS has {name!r}: {each!r}. Write the name of a slot and a"
                " dict with the numbers 'concurrency' and 'delay'."
            )
        where = f"DOWNLOAD_SLOTS[{name!r}]"
        delay = _seconds(f"{where}['delay']", each.get("delay", rules.delay))
        places = each.get("concurrency", rules.places)
        if learns:
            delay = max(delay, _LEARNING)
        if slots is not None and (domain := slots.domain_of(name)) != name:
            raise ConfigurationError(
                f"{where} is a part of the slot {domain!r} (FRONTIER_SLOT = 'domain')."
                " Give the whole slot its delay, or write FRONTIER_SLOT = 'host'."
            )
        found[slot_number(name)] = Rules(
            delay, _count(f"{where}['concurrency']", places)
        )
    return found
