"""Wait for a condition instead of sleeping for a guessed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: What says whether a process is still on its way up. Scrapy needs 1 s of processor time
#: for that, and where many are started at once, on a machine with other work, 45 s.
starting: set[Callable[[], bool]] = set()


def any_starting() -> bool:
    """Whether a process of the test is on its way up: what it does begins later."""
    for begins in list(starting):
        if not begins():
            starting.discard(begins)
    return bool(starting)


def wait_until(
    predicate: Callable[[], T],
    description: str,
    timeout: float = 60.0,
    interval: float = 0.02,
) -> T:
    """Call *predicate* until it returns something true, and return that.

    Fails the test with *description* and the last value after *timeout* seconds; they
    count from when the processes that were started are up.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if any_starting():
            deadline = time.monotonic() + timeout
        if time.monotonic() > deadline:
            raise AssertionError(
                f"waited {timeout} s for: {description}; last value {value!r}"
            )
        time.sleep(interval)
