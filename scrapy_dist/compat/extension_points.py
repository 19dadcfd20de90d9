"""What projects override in the classes of scrapy-redis, and what becomes of it here.

All overrides are honoured, or refused at start by name: none is ignored. This is the
one list of them. `check` looks at the classes of a crawl before anything is connected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scrapy.utils.misc import load_object

from scrapy_dist import defaults
from scrapy_dist.compat.overrides import names_in
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


@dataclass(frozen=True)
class Points:
    """What subclasses of one class may override.

    *honoured*: acts as in scrapy-redis. *refused*: the name, and what to write instead.
    *calls*: names of which an override that is honoured uses at least one; it would
    keep the frontier's requests from being stored or handed out without.
    """

    honoured: frozenset[str] = frozenset()
    refused: dict[str, str] = field(default_factory=dict)
    calls: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def all(self) -> frozenset[str]:
        return self.honoured | self.refused.keys()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ORDER = (
    "the frontier hands requests out as leases, and a class of scrapy_dist.queue only"
    " says in which order: write score(request), the lowest first, and newest_first"
)
_SERIALIZER = (
    "the frontier stores requests by SCHEDULER_SERIALIZER: name a module with dumps()"
    " and loads() there"
)
_CLEAR = (
    "requests and fingerprints are deleted together, by one script: set"
    " SCHEDULER_PERSIST or SCHEDULER_FLUSH_ON_START, or run 'scrapy frontier clear'"
)

#: Path of our class -> what becomes of overrides in its subclasses.
EXTENSION_POINTS: dict[str, Points] = {
    "scrapy_dist.queue.Base": Points(
        honoured=_names("__init__ score newest_first"),
        refused={
            "push": _ORDER,
            "pop": _ORDER,
            "__len__": _ORDER,
            "key": "the frontier's key is SCHEDULER_QUEUE_KEY: set it there",
            "clear": _CLEAR,
            "_encode_request": _SERIALIZER,
            "_decode_request": _SERIALIZER,
        },
    ),
    "scrapy_dist.dupefilter.RFPDupeFilter": Points(
        honoured=_names(
            "__init__ from_settings from_crawler from_spider request_seen"
            " request_fingerprint open close clear log logger server key debug logdupes"
        )
    ),
    "scrapy_dist.pipelines.RedisPipeline": Points(
        honoured=_names(
            "__init__ from_settings from_crawler process_item _process_item item_key"
            " server key serialize open_spider close_spider"
        )
    ),
    "scrapy_dist.scheduler.Scheduler": Points(
        honoured=_names(
            "__init__ from_settings from_crawler open close __len__ enqueue_request"
            " next_request has_pending_requests server persist flush_on_start queue_key"
            " queue_cls df dupefilter_cls dupefilter_key idle_before_close serializer"
            " stats queue spider"
        ),
        refused={"flush": _CLEAR},
        calls={
            "enqueue_request": _names("super enqueue_request push"),
            "next_request": _names("super next_request pop"),
        },
    ),
    "scrapy_dist.stats.RedisStatsCollector": Points(
        honoured=_names(
            "__init__ from_crawler from_spider get_value get_stats set_value set_stats"
            " inc_value max_value min_value clear_stats open_spider close_spider server"
            " spider spider_name stats_key persist"
        ),
        refused={
            "_get_key": "the key of the stats is STATS_KEY, which commands read, too:"
            " set it there"
        },
    ),
    # Who reads the seeds follows from what is overridden: see spiders.py.
    "scrapy_dist.spiders.RedisMixin": Points(
        honoured=_names(
            "redis_key redis_batch_size redis_encoding max_idle_time server"
            " spider_idle_start_time from_crawler setup_redis start start_requests next_requests"
            " make_request_from_data schedule_next_requests spider_idle fetch_data"
            " count_size pop_list_queue pop_priority_queue"
        )
    ),
}


def root(cls: type) -> str:
    """The top package of the module that defines *cls*."""
    return cls.__module__.partition(".")[0]


def overridden(cls: type, names: Iterable[str]) -> list[str]:
    """Those of *names* that a project's class gives *cls*, sorted."""
    found = []
    for name in names:
        owner = next((c for c in cls.__mro__ if name in vars(c)), object)
        if root(owner) not in ("scrapy_dist", "scrapy", "builtins"):
            found.append(name)
    return sorted(found)


def path_of(cls: type) -> str:
    """The path of *cls*, as settings and payloads have it."""
    return f"{cls.__module__}.{cls.__qualname__}"


def problems(cls: type) -> Iterator[str]:
    """What *cls* overrides and nobody would ever call: name, and replacement."""
    for points in map(EXTENSION_POINTS.get, map(path_of, cls.__mro__)):
        if points is None:
            continue
        by_remedy: dict[str, list[str]] = {}
        for name in overridden(cls, points.refused):
            by_remedy.setdefault(points.refused[name], []).append(name)
        for remedy, names in by_remedy.items():
            yield f"{path_of(cls)} overrides {', '.join(names)}: {remedy}."
        for name in overridden(cls, points.calls):
            used = names_in(getattr(cls, name))
            if used is not None and not used & points.calls[name]:
                yield (
                    f"{path_of(cls)} overrides {name}, and hands nothing on to the"
                    f" frontier: call super().{name}() in it."
                )


def refuse(classes: Iterable[type]) -> None:
    """Raise one ConfigurationError for all that *classes* override in vain."""
    found = [problem for cls in classes for problem in problems(cls)]
    if found:
        raise ConfigurationError(" ".join(found))


def check(crawler: Crawler, *own: type) -> None:
    """`refuse` for the classes of a crawl; *own*: those that no setting names."""
    refuse(dict.fromkeys((*own, *_classes(crawler))))


def _classes(crawler: Crawler) -> Iterator[type]:
    settings = crawler.settings
    yield type(crawler.spider)
    yield type(crawler.stats)
    paths: list[Any] = [
        settings["DUPEFILTER_CLASS"],
        settings.get("SCHEDULER_QUEUE_CLASS") or defaults.SCHEDULER_QUEUE_CLASS,
    ]
    paths += [
        path
        for path, place in settings.getwithbase("ITEM_PIPELINES").items()
        if place is not None
    ]
    for path in paths:
        try:
            cls = load_object(path)
        except Exception:  # noqa: BLE001, S112  whoever builds it says so
            continue
        if isinstance(cls, type):
            yield cls
