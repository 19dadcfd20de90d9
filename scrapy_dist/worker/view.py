"""What a worker sees of both sides: of the frontier, and of Scrapy's engine.

Of the frontier it knows what the loop writes here; all others only read it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from scrapy import Request, Spider
    from scrapy.statscollectors import StatsCollector

__all__ = ["Account", "Downloads", "EngineView", "Memory", "View"]


class Account(Enum):
    """How this worker stands with the frontier."""

    JOINED = "joined"
    #: Both may not agree on the leases that it has: they are compared.
    RECONCILING = "reconciling"
    #: The frontier does not know it, or not all that it knew: it registers again.
    REJOINING = "rejoining"
    #: The crawl has finished without it.
    OVER = "over"


class Memory(Enum):
    """Whether there is memory for new requests and items."""

    ENOUGH = "enough"
    FULL = "full"
    #: There is again, for those that had to wait.
    DRAINING = "draining"


@dataclass(slots=True)
class View:
    """The frontier as it was last seen; times in seconds.

    *account* and *memory* change in `recovery.Recovery` only.
    """

    account: Account = Account.JOINED
    memory: Memory = Memory.ENOUGH

    #: Between two exchanges of a worker that is busy.
    pause: float = 0.03
    round_trip: float = 0.001
    #: Pending requests and suspects, and how many of these are suspects.
    pending: int = 0
    suspects: int = 0
    #: Suspects that have failed and wait for room among the dead letters.
    waiting: int = 0
    seeds_left: int = 0
    #: Whether this worker is to finish what it holds, for a suspect.
    to_be_alone: bool = False
    alive: int = 1
    #: Whether this worker has been alone since nothing was seen in the frontier.
    alone: bool = False
    paused: bool = False

    @property
    def is_full(self) -> bool:
        return self.memory is Memory.FULL

    @property
    def is_over(self) -> bool:
        return self.account is Account.OVER


class Downloads(NamedTuple):
    """One slot of the downloader; times in seconds.

    *places*: downloads at once. *delay*: between two starts, times 1 minus to 1 plus
    *jitter*. *transferring* of its requests have started, the last one *since* then.
    *rests*: until the downloader looks whether the delay is over; 0: it is, None: unknown.
    """

    places: int
    delay: float
    jitter: float
    transferring: int
    since: float
    rests: float | None = None


class EngineView(Protocol):
    """What a worker needs of the engine that crawls; see `engine.ScrapyEngine`."""

    @property
    def spider(self) -> Spider: ...

    @property
    def stats(self) -> StatsCollector: ...

    def in_progress(self) -> AbstractSet[Request]:
        """Requests between ``next_request`` and the end of all their processing."""

    def in_scraper(self) -> AbstractSet[Request]:
        """Requests whose callback, errback or items are being processed."""

    def downloading(self, request: Request) -> bool:
        """Whether *request* waits for, or is in, its download."""

    def in_downloader(self) -> set[Request]:
        """Requests of which `downloading` is true, whoever has asked for them."""

    def download_slot(self, request: Request) -> str:
        """The downloader's name of the slot in which *request* is downloaded."""

    def download_state(self, key: str, request: Request) -> Downloads | None:
        """The slot *key*, that of *request*; None: this downloader has no such slots."""

    def watch_downloads(
        self,
        reached: Callable[[Request, float], None],
        sent: Callable[[Request, float], None],
    ) -> None:
        """Call *reached* with each request that comes to the downloader, and when.

        That is after all middlewares, as `time.monotonic`. And *sent* when it is on its way
        to the site, unless a connection has to be made first.
        """

    def start_now(self, request: Request) -> None:
        """Let the downloader start *request*, which it just gets, whatever its own delay."""

    def end_delay(self, key: str) -> None:
        """The delay of the slot *key* is over, for the next request that comes to it.

        By itself the downloader draws a new one then, which may be longer.
        """

    def set_delay(self, request: Request, delay: float) -> None:
        """Set the delay of the slot in which *request* is downloaded, in seconds."""

    def left_downloader(self, request: Request) -> bool:
        """Whether *request* has been downloaded and has not reached its callback.

        A request that a downloader middleware returns in its place (redirect, retry)
        is scheduled at exactly this moment.
        """

    def report_dropped(self, request: Request) -> None:
        """Send ``request_dropped``, as the engine does when a scheduler says no."""

    def wake(self, after: float = 0.0) -> None:
        """Let the engine ask for requests in *after* seconds.

        By itself it looks when something ends, and now and then.
        """

    def start_ended(self) -> bool:
        """Whether all that ``Spider.start()`` yields has come."""

    def start_is_over(self) -> bool:
        """As ``start_ended``, of an engine that runs."""

    def crawl(self, request: Request) -> None:
        """Take a *request* that no callback has yielded."""

    def crawl_from_threads(self, crawl: Callable[[Request], None]) -> None:
        """Let code of the spider that runs in a thread use ``crawler.engine``.

        ``crawl`` is *crawl* there, and ``close_spider`` is called in the event loop.
        """

    @property
    def heartbeat(self) -> float:
        """Seconds between two looks of the engine at an idle spider."""

    def tell_idle(self) -> None:
        """What Scrapy does with an idle spider, although its ``start()`` is not over.

        Sends ``spider_idle``; the spider closes unless a handler raises DontCloseSpider.
        """

    def closing(self) -> bool:
        """Whether the spider is being closed."""

    def close(self, reason: str) -> None:
        """Close the spider as if it had raised CloseSpider(*reason*)."""

    def end_with_error(self, reason: str) -> None:
        """Close it with *reason*; the caller logs what somebody has to do about it."""
