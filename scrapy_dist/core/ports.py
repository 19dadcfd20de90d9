"""The ports: what a worker needs of a broker, whichever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy_dist.core.frontier import Answer, Ask, Joined, LeaseId, LeaveOutcome

__all__ = ["Frontier"]


class Frontier(Protocol):
    """One worker's session with a broker.

    All methods raise `RedisUnavailable` if the broker does not answer; then nobody knows
    what was done. Repeating a commit under its number does no harm, and the next
    heartbeat tells what else has become of it. Each wait ends by its own clock.
    """

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

    async def close(self) -> None:
        """End the session: its connections, and what watches."""
