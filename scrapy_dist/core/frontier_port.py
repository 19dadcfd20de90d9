"""The port of workers: what they need of a broker, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from scrapy_dist.core.frontier import Answer, Ask, Joined, LeaseId, LeaveOutcome
    from scrapy_dist.core.politeness import Rules
    from scrapy_dist.core.status import Status


class Frontier(Protocol):
    """One worker's session with a broker.

    All methods raise `RedisUnavailable` if the broker does not answer; then nobody knows
    what was done. Repeating a commit under its number does no harm, and the next
    heartbeat tells what else has become of it. Each wait ends by its own clock.
    """

    #: Seconds that a call may take; None: as many as the broker allows.
    limit: float | None
    #: Number of this worker.
    worker: str
    #: For people: where it is, without password; what it and its dead letters are called.
    where: str
    key: str
    failed_key: str
    #: Machine and process of this worker; None: its neighbours cannot be seen.
    process: tuple[str, str] | None

    async def join(
        self, info: str, *, commit: int, flush: bool, persist: bool, age: float
    ) -> Joined:
        """Begin or join the crawl; again after a rollback, with the last *commit*.

        *info* tells people who this worker is. *flush*: delete what an earlier crawl
        left, if nobody else is here. *persist*: keep the fingerprints of a finished
        crawl. *age*: seconds since this worker was started, if it is to begin no new
        crawl where one has ended since; else 0.
        """

    async def exchange(self, ask: Ask) -> Answer:
        """One round trip; what an `Ask` holds beyond a broker's limits is cut up there."""

    async def held(self) -> frozenset[LeaseId]:
        """The leases that the broker holds for this worker."""

    async def seats(self) -> frozenset[str]:
        """The names of the seats that the broker holds for this worker."""

    async def set_rules(self, rules: Mapping[int, Rules]) -> None:
        """Give slots, by their numbers, rules of their own that hold for all workers."""

    async def watch(self, changed: Callable[[], None]) -> bool:
        """Call *changed* once when there may be something new; false: poll instead."""

    async def leave(
        self, *, finished: bool | None, persist: bool, reason: str
    ) -> tuple[LeaveOutcome, int]:
        """Leave the crawl; also how many fingerprints are known.

        *finished*: if nothing is left, the crawl has ended; false: it goes on all the
        same; None: as the others see it. *persist*: it is to be kept when it has ended.
        *reason*: why this worker closes.
        """

    async def tell_last(self, stats: Sequence[tuple[str, str, str]]) -> None:
        """Tell the last stats, having left; not if the crawl has been deleted since."""

    async def status(self) -> Status:
        """How the crawl stands."""

    async def sweep(self) -> None:
        """Delete what cleared crawls have left behind, if that takes long."""

    async def close(self) -> None:
        """Watch no more. What is asked for after that is still answered."""

    async def disconnect(self) -> None:
        """Close the connections."""
