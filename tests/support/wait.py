"""Wait for a condition instead of sleeping for a guessed time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T],
    description: str,
    timeout: float = 20.0,
    interval: float = 0.02,
) -> T:
    """Call *predicate* until it returns something true, and return that.

    Fails the test with *description* and the last value after *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(
                f"waited {timeout} s for: {description}; last value {value!r}"
            )
        time.sleep(interval)
