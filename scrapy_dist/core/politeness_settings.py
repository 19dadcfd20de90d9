"""The settings of a polite crawl: Scrapy's own, which hold for all workers together there."""

from __future__ import annotations

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

    from scrapy_dist.queue import Base


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

    @classmethod
    def from_settings(
        cls, settings: BaseSettings, spider: Spider | None, discipline: type[Base]
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
        delay = settings.getfloat("DOWNLOAD_DELAY")
        delay = float(getattr(spider, "download_delay", None) or delay)
        places = settings.getint("CONCURRENT_REQUESTS_PER_DOMAIN")
        places = int(getattr(spider, "max_concurrent_requests", None) or places)
        learns = settings.getbool("AUTOTHROTTLE_ENABLED")
        if learns:
            delay = max(delay, settings.getfloat("AUTOTHROTTLE_START_DELAY"))
        rules = Rules(delay, max(1, places))
        return cls(
            rules,
            number(settings, "FRONTIER_TURN", least=0.1),
            learns,
            _own(settings.getdict("DOWNLOAD_SLOTS"), rules),
        )


def _own(slots: Mapping[str, Any], rules: Rules) -> dict[int, Rules]:
    """What DOWNLOAD_SLOTS says of slots, by their numbers."""
    found = {}
    for name, each in slots.items():
        try:
            delay = float(each.get("delay", rules.delay))
            places = int(each.get("concurrency", rules.places))
        except (AttributeError, TypeError, ValueError):
            raise ConfigurationError(
                f"DOWNLOAD_SLOTS has {name!r}: {each!r}. Write a dict with the numbers"
                " 'concurrency' and 'delay'."
            ) from None
        found[slot_number(name)] = Rules(delay, max(1, places))
    return found
