"""The FRONTIER_ and SCHEDULER_ settings, read once and checked."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from scrapy_dist import defaults
from scrapy_dist.base.settings import flag, loaded, number
from scrapy_dist.core.slots import Slots
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.queue import Base

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy.settings import BaseSettings


#: Places of a downloader that Scrapy sets no limit to.
_NO_LIMIT = 256


def _places(concurrent_requests: int) -> int:
    """Of the downloader. 0 is no limit for newer versions of Scrapy; older start nothing."""
    return concurrent_requests if concurrent_requests > 0 else _NO_LIMIT


def discipline(settings: BaseSettings) -> type[Base]:
    """The class in SCHEDULER_QUEUE_CLASS."""
    path = settings.get("SCHEDULER_QUEUE_CLASS") or defaults.SCHEDULER_QUEUE_CLASS
    remedy = f"The default is {defaults.SCHEDULER_QUEUE_CLASS!r}."
    cls = loaded(path, "SCHEDULER_QUEUE_CLASS", remedy)
    if not (isinstance(cls, type) and issubclass(cls, Base)):
        raise ConfigurationError(
            f"SCHEDULER_QUEUE_CLASS = {path!r} is not a discipline of scrapy-dist. Name"
            " scrapy_dist.queue.SlotQueue, PriorityQueue, FifoQueue or LifoQueue, or a"
            " subclass."
        )
    return cls


def _whole(settings: BaseSettings, name: str, **bounds: float) -> int:
    return int(number(settings, name, **bounds))


def _read(how: Callable[..., Any], name: str, **bounds: float) -> Any:
    """A field that is the setting *name*, as *how* reads it."""
    return field(metadata={"read": partial(how, name=name, **bounds)})


@dataclass(frozen=True)
class Options:
    """Seconds are floats; see ``defaults`` for each meaning."""

    discipline: type[Base]
    slots: Slots
    report_interval: float
    concurrency: int
    persist: bool = _read(flag, "SCHEDULER_PERSIST")
    flush_on_start: bool = _read(flag, "SCHEDULER_FLUSH_ON_START")
    idle_before_close: float = _read(number, "SCHEDULER_IDLE_BEFORE_CLOSE")
    worker_ttl: float = _read(number, "FRONTIER_WORKER_TTL", least=0.5)
    max_deliveries: int = _read(_whole, "FRONTIER_MAX_DELIVERIES", least=1)
    flush_interval: float = _read(number, "FRONTIER_FLUSH_INTERVAL", least=0.001)
    outbox_limit: int = _read(_whole, "FRONTIER_OUTBOX_LIMIT", least=1)
    # Lua passes what one command takes on a stack of 8000 places.
    commit_chunk: int = _read(_whole, "FRONTIER_COMMIT_CHUNK", least=1, most=3000)
    redis_patience: float = _read(number, "FRONTIER_REDIS_PATIENCE")
    local_fingerprints: int = _read(_whole, "FRONTIER_LOCAL_FINGERPRINTS")
    failed_limit: int = _read(_whole, "FRONTIER_FAILED_LIMIT", least=1)
    max_payload: int = _read(_whole, "FRONTIER_MAX_PAYLOAD", least=1)
    max_seed: int = _read(_whole, "FRONTIER_SEED_MAX_SIZE", least=1)
    close_timeout: float = _read(number, "FRONTIER_CLOSE_TIMEOUT")
    gc_freeze: bool = _read(flag, "FRONTIER_GC_FREEZE")
    result_ttl: float = _read(number, "FRONTIER_RESULT_TTL")
    is_polite: bool = _read(flag, "FRONTIER_POLITENESS")

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Options:
        """Raises ConfigurationError for the first setting that cannot be used."""
        found = discipline(settings)
        read = {f.name: f.metadata["read"] for f in fields(cls) if f.metadata}
        return cls(
            discipline=found,
            slots=Slots.from_settings(settings, found),
            report_interval=settings.getfloat("LOGSTATS_INTERVAL"),
            concurrency=_places(settings.getint("CONCURRENT_REQUESTS")),
            **{name: how(settings) for name, how in read.items()},
        )

    def limits(self) -> dict[str, Any]:
        """What a frontier has to know of them, by the names of its arguments."""
        return {
            "ttl": self.worker_ttl,
            "max_deliveries": self.max_deliveries,
            "failed_limit": self.failed_limit,
            "newest_first": self.discipline.newest_first,
            "max_payload": self.max_payload,
            "max_seed": self.max_seed,
            "result_ttl": self.result_ttl,
        }
