"""What ``scrapy frontier top`` shows its looks on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.status import Status


class Screen(Protocol):
    """Shows each look; false if nobody watches any more."""

    def __enter__(self) -> object: ...

    def __exit__(self, *exc: object) -> None: ...

    def show(self, status: Status, failures: Sequence[DeadLetter]) -> bool: ...

    def late(self, seconds: float) -> bool: ...

    def fail(self, reason: str) -> bool: ...

    def as_svg(self) -> str: ...
