"""The FRONTIER_ and SCHEDULER_ settings, read once and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy.utils.misc import load_object

from scrapy_dist import defaults
from scrapy_dist.base.settings import flag, number
from scrapy_dist.core.slots import Slots
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.queue import Base

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings


def discipline(settings: BaseSettings) -> type[Base]:
    """The class in SCHEDULER_QUEUE_CLASS."""
    path = settings.get("SCHEDULER_QUEUE_CLASS") or defaults.SCHEDULER_QUEUE_CLASS
    try:
        cls = load_object(path)
    except Exception as e:  # noqa: BLE001  whatever the import of that module raises
        raise ConfigurationError(
            f"SCHEDULER_QUEUE_CLASS = {path!r} cannot be imported: {e}."
            f" The default is {defaults.SCHEDULER_QUEUE_CLASS!r}."
        ) from None
    if not (isinstance(cls, type) and issubclass(cls, Base)):
        raise ConfigurationError(
            f"SCHEDULER_QUEUE_CLASS = {path!r} is not a discipline of scrapy-dist. Name"
            " scrapy_dist.queue.SlotQueue, PriorityQueue, FifoQueue or LifoQueue, or a"
            " subclass."
        )
    return cls


@dataclass(frozen=True)
class Options:
    """Seconds are floats; see ``defaults`` for each meaning."""

    discipline: type[Base]
    slots: Slots
    persist: bool
    flush_on_start: bool
    idle_before_close: float
    worker_ttl: float
    max_deliveries: int
    flush_interval: float
    outbox_limit: int
    commit_chunk: int
    redis_patience: float
    local_fingerprints: int
    failed_limit: int
    max_payload: int
    max_seed: int
    close_timeout: float
    gc_freeze: bool
    concurrency: int
    is_polite: bool
    report_interval: float
    result_ttl: float

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Options:
        """Raises ConfigurationError for the first setting that cannot be used."""
        found = discipline(settings)
        return cls(
            discipline=found,
            slots=Slots.from_settings(settings, found),
            persist=flag(settings, "SCHEDULER_PERSIST"),
            flush_on_start=flag(settings, "SCHEDULER_FLUSH_ON_START"),
            idle_before_close=number(settings, "SCHEDULER_IDLE_BEFORE_CLOSE"),
            worker_ttl=number(settings, "FRONTIER_WORKER_TTL", least=0.5),
            max_deliveries=int(number(settings, "FRONTIER_MAX_DELIVERIES", least=1)),
            flush_interval=number(settings, "FRONTIER_FLUSH_INTERVAL", least=0.001),
            outbox_limit=int(number(settings, "FRONTIER_OUTBOX_LIMIT", least=1)),
            # Lua passes what one command takes on a stack of 8000 places.
            commit_chunk=int(
                number(settings, "FRONTIER_COMMIT_CHUNK", least=1, most=3000)
            ),
            redis_patience=number(settings, "FRONTIER_REDIS_PATIENCE"),
            local_fingerprints=int(number(settings, "FRONTIER_LOCAL_FINGERPRINTS")),
            failed_limit=int(number(settings, "FRONTIER_FAILED_LIMIT", least=1)),
            max_payload=int(number(settings, "FRONTIER_MAX_PAYLOAD", least=1)),
            max_seed=int(number(settings, "FRONTIER_SEED_MAX_SIZE", least=1)),
            close_timeout=number(settings, "FRONTIER_CLOSE_TIMEOUT"),
            gc_freeze=flag(settings, "FRONTIER_GC_FREEZE"),
            report_interval=settings.getfloat("LOGSTATS_INTERVAL"),
            result_ttl=number(settings, "FRONTIER_RESULT_TTL"),
            concurrency=max(1, settings.getint("CONCURRENT_REQUESTS")),
            is_polite=flag(settings, "FRONTIER_POLITENESS"),
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
        }
