"""Disciplines: the order in which pending requests are handed out.

A discipline is named in SCHEDULER_QUEUE_CLASS. It gives each request a score; the lowest
score is handed out first, and among equal scores the oldest, or the newest where
``newest_first`` is true. A project may name its own subclass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy import Request

__all__ = [
    "Base",
    "FifoQueue",
    "LifoQueue",
    "PriorityQueue",
    "SpiderPriorityQueue",
    "SpiderQueue",
    "SpiderStack",
]


class Base:
    """What all disciplines share."""

    #: Whether the newest of equal scores goes first.
    newest_first = False

    @staticmethod
    def score(request: Request) -> float:
        """The place of *request*; a lower score is handed out earlier."""
        raise NotImplementedError


class PriorityQueue(Base):
    """The highest priority first, and the oldest among equals."""

    @staticmethod
    def score(request: Request) -> float:
        return -request.priority


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
