"""What a worker knows of the frontier: the loop writes it, the others read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["View"]


def _nobody(_: float) -> None:
    """No loop runs."""


@dataclass(slots=True)
class View:
    """The frontier as it was last seen; times in seconds."""

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
    #: Whether there is no memory for new requests and items.
    is_full: bool = False
    #: Whether the crawl has finished without this worker.
    is_over: bool = False
    #: Asks for an exchange in so many seconds at the latest.
    request: Callable[[float], None] = _nobody
