"""Disciplines: the order in which pending requests are handed out.

A discipline is named in SCHEDULER_QUEUE_CLASS. It gives each request a score; the lowest
score is handed out first, and among equal scores the oldest, or the newest where
``newest_first`` is true. By ``SlotQueue``, the default, that is so among the requests of a
slot (a host, mostly), and slots take turns; by the others it is so among all requests. A
project may name its own subclass.

An instance is ``scheduler.queue``, for code written for scrapy-redis: ``len()``, ``push``
and ``pop`` then are those of the worker's buffers, and never wait for Redis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy.utils.request import request_from_dict

from scrapy_dist import picklecompat
from scrapy_dist.codec import messagepack
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seal import NO_SEAL, Seal
from scrapy_dist.exceptions import FrontierError

if TYPE_CHECKING:
    import redis
    from scrapy import Request, Spider

__all__ = [
    "Base",
    "FifoQueue",
    "LifoQueue",
    "PriorityQueue",
    "SlotQueue",
    "SpiderPriorityQueue",
    "SpiderQueue",
    "SpiderStack",
    "picklecompat",
    "request_from_dict",
]


class Base:
    """What all disciplines share."""

    #: Whether the newest of equal scores goes first.
    newest_first = False
    #: Whether slots take turns; else all requests are in one order.
    by_slot = False

    #: The scheduler of this worker, where it is its ``queue``.
    scheduler: Any = None
    _server: redis.Redis | None = None

    def __init__(
        self,
        server: redis.Redis | None,
        spider: Spider,
        key: str,
        serializer: Any = None,
    ) -> None:
        serializer = messagepack if serializer is None else serializer
        for name in ("loads", "dumps"):
            if not hasattr(serializer, name):
                raise TypeError(
                    f"serializer does not implement {name!r} function: {serializer}"
                )
        self._server = server
        self.spider = spider
        self.key = key % {"spider": spider.name}
        self.serializer = serializer

    @property
    def server(self) -> redis.Redis:
        """A synchronous client; it blocks the event loop while it waits."""
        if self._server is None and self.scheduler is not None:
            self._server = self.scheduler.server
        assert self._server is not None
        return self._server

    @staticmethod
    def score(request: Request) -> float:
        """The place of *request*; a lower score is handed out earlier."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Pending requests, as this worker last saw them; else as Redis counts them."""
        if self.scheduler is not None:
            return len(self.scheduler)
        return int(self.server.zcard(self.key))

    def __bool__(self) -> bool:
        return True  # an empty queue is a queue

    def push(self, request: Request) -> None:
        """Add *request*, past the filter unless ``df.request_seen`` was asked about it."""
        self._bound("push").push(request)

    def pop(self, timeout: float = 0) -> Request | None:
        """The next request for this worker, or None for now; it never waits."""
        found: Request | None = self._bound("pop").pop()
        return found

    def clear(self) -> None:
        """Delete what is pending: for a worker as `Scheduler.flush` does it."""
        if self.scheduler is not None:
            self.scheduler.flush()
        else:
            self.server.delete(self.key)

    def _bound(self, name: str) -> Any:
        if self.scheduler is None:
            raise FrontierError(
                f"{type(self).__name__}.{name}() works in a worker, on scheduler.queue:"
                " requests are handed out as leases. From other programs, push seeds:"
                " scrapy_dist.Client."
            )
        return self.scheduler

    @property
    def _codec(self) -> PayloadCodec:
        settings = getattr(self.spider, "settings", None)
        seal = NO_SEAL if settings is None else Seal.from_settings(settings, self.key)
        return PayloadCodec(self.spider, serializer=self.serializer, seal=seal)

    def _encode_request(self, request: Request) -> bytes:
        """*request* as bytes, by ``serializer``. Raises Unserializable."""
        return self._codec.encode(request)

    def _decode_request(self, encoded_request: bytes) -> Request:
        """The request that `_encode_request` encoded. Raises BadPayload."""
        return self._codec.decode(encoded_request)


class PriorityQueue(Base):
    """The highest priority first, and the oldest among equals."""

    @staticmethod
    def score(request: Request) -> float:
        return -request.priority


class SlotQueue(PriorityQueue):
    """Slots in turn; of each the highest priority first, and the oldest among equals."""

    by_slot = True


class FifoQueue(Base):
    """The oldest first, whatever its priority: breadth first."""

    @staticmethod
    def score(request: Request) -> float:
        return 0


class LifoQueue(FifoQueue):
    """The newest first, whatever its priority: depth first."""

    newest_first = True


# Names of scrapy-redis' first versions.
SpiderQueue = FifoQueue
SpiderStack = LifoQueue
SpiderPriorityQueue = PriorityQueue
