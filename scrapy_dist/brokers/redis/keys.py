"""The names of all Redis keys of one spider."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from scrapy_dist import defaults
from scrapy_dist.core.crawl import crawl_name, job_from_settings
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.topology import check_slots, uses_cluster

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings


def _key(setting: str, kind: str) -> Any:
    """A key of the type *kind*, named by *setting*."""
    return field(metadata={"setting": setting, "type": kind})


@dataclass(frozen=True)
class Keys:
    """Key names: one frontier is exactly these keys, seeds and items aside."""

    requests: str = _key("SCHEDULER_QUEUE_KEY", "zset")
    leases: str = _key("FRONTIER_LEASES_KEY", "zset")
    leased: str = _key("FRONTIER_LEASED_KEY", "hash")
    suspects: str = _key("FRONTIER_SUSPECTS_KEY", "zset")
    dupefilter: str = _key("SCHEDULER_DUPEFILTER_KEY", "set")
    started: str = _key("FRONTIER_STARTED_KEY", "set")
    workers: str = _key("FRONTIER_WORKERS_KEY", "zset")
    state: str = _key("FRONTIER_STATE_KEY", "hash")
    failed: str = _key("FRONTIER_FAILED_KEY", "stream")
    control: str = _key("FRONTIER_CONTROL_KEY", "hash")
    history: str = _key("FRONTIER_HISTORY_KEY", "stream")
    slots: str = _key("FRONTIER_SLOTS_KEY", "zset")
    resting: str = _key("FRONTIER_RESTING_KEY", "zset")
    politeness: str = _key("FRONTIER_POLITENESS_KEY", "hash")
    tasks: str = _key("FRONTIER_TASKS_KEY", "hash")
    results: str = _key("FRONTIER_RESULTS_KEY", "hash")
    tasks_ended: str = _key("FRONTIER_TASKS_ENDED_KEY", "zset")
    stats: str = _key("STATS_KEY", "hash")
    items: str = _key("REDIS_ITEMS_KEY", "list")

    @classmethod
    def from_settings(cls, settings: BaseSettings, spider: str) -> Keys:
        """Fill the templates of *settings* with the name *spider*.

        Raises ConfigurationError for a template that cannot be filled, for two
        templates that give the same key, and for keys that a cluster would separate.
        """
        spider = tagged(settings, spider)
        names = {field: fill(settings, name, spider) for field, name, _ in SETTINGS}
        named = [(names[field], setting) for field, setting, _ in SETTINGS]
        if uses_cluster(settings):
            check_slots(named)
        has_job = bool(job_from_settings(settings))
        owner: dict[str, str] = {}
        for key, setting in named:
            if has_job and spider not in key:
                raise ConfigurationError(
                    f"{setting} names the key {key!r} for all crawls of the spider, and"
                    f" with FRONTIER_JOB {spider!r} needs its own. Write %(spider)s in its"
                    " place."
                )
            other = owner.setdefault(key, setting)
            if other != setting:
                raise ConfigurationError(
                    f"{setting} and {other} both name the key {key!r}. Give each its own."
                )
        return cls(**names)


#: Field of Keys, the setting that names it, and its type in Redis (that of the dupefilter
#: is a hash where fingerprints are compact).
SETTINGS = tuple(
    (f.name, f.metadata["setting"], f.metadata["type"]) for f in fields(Keys)
)


def tagged(settings: BaseSettings, spider: str) -> str:
    """What stands for the name *spider* in keys: with a job ``spider:job``.

    With Redis Cluster it is a hash tag: all keys with the same tag share a slot, and so
    a server. Raises ConfigurationError for a FRONTIER_JOB that is no name.
    """
    name = crawl_name(spider, job_from_settings(settings))
    return f"{{{name}}}" if uses_cluster(settings) else name


def fill(settings: BaseSettings, setting: str, spider: str) -> str:
    """The key that the template *setting* gives for *spider*.

    ``%(spider)s`` and ``%(name)s`` both stand for the spider's name.
    """
    template = settings.get(setting) or getattr(defaults, setting)
    return fill_template(template, setting, spider)


def fill_template(template: object, source: str, spider: str) -> str:
    """Fill *template*; *source* is the setting or attribute named in an error."""
    try:
        key = str(template) % {"spider": spider, "name": spider}
    except (KeyError, TypeError, ValueError) as e:
        raise ConfigurationError(
            f"{source} = {template!r} is not a key template: {e!r}."
            " Write the spider's name as %(spider)s and a percent sign as %%."
        ) from None
    if not key.strip():
        raise ConfigurationError(f"{source} = {template!r} is empty. Name a key.")
    return key


def seed_keys(
    settings: BaseSettings, spider: str, redis_key: object = None
) -> tuple[str, ...]:
    """The keys of seeds: *redis_key*, one or several; None: as REDIS_START_URLS_KEY says."""
    source = "REDIS_START_URLS_KEY" if redis_key is None else "redis_key"
    if redis_key is None:
        redis_key = settings.get(source) or defaults.REDIS_START_URLS_KEY
    templates = redis_key if isinstance(redis_key, (list, tuple)) else [redis_key]
    name = tagged(settings, spider)
    return tuple(fill_template(template, source, name) for template in templates)
