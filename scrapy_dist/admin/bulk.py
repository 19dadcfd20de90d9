"""Questions of many callers at about the same time, asked as one, and waits for an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")

#: Seconds in which questions come together.
_TOGETHER = 0.005
#: Seconds between two looks at what is waited for, at first and at the most.
_SHORTEST, _LONGEST = 0.05, 1.0


class Bulk(Generic[K, T]):
    """Asks *read*, which knows an answer for each name, for many callers at once."""

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Sequence[T]]]) -> None:
        self._read = read
        self._next: _Question[K, T] | None = None

    async def ask(self, names: Iterable[K]) -> dict[K, T]:
        """The answer for each of *names*. Raises what the reading does."""
        question = self._next
        if question is None:
            question = self._next = _Question(self._answer)
        wanted = dict.fromkeys(names)
        question.names.update(wanted)
        question.callers += 1
        try:
            found = await asyncio.shield(question.answer)
        finally:
            question.callers -= 1
            if not question.callers:
                # Nobody is left to hear it.
                question.answer.cancel()
                if self._next is question:
                    self._next = None
        return {name: found[name] for name in wanted}

    async def _answer(self, question: _Question[K, T]) -> dict[K, T]:
        await asyncio.sleep(_TOGETHER)
        self._next = None
        names = [*question.names]
        return dict(zip(names, await self._read(names), strict=True))


class _Question(Generic[K, T]):
    def __init__(self, ask: Callable[[_Question[K, T]], Awaitable[dict[K, T]]]) -> None:
        self.names: dict[K, None] = {}
        self.callers = 0
        self.answer = asyncio.ensure_future(ask(self))


async def until(look: Callable[[], Awaitable[bool]], timeout: float | None) -> bool:
    """Wait until *look* is true; false after *timeout* seconds.

    Those who pause as long wake together.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = _SHORTEST
    while not await look():
        now = time.monotonic()
        if deadline is not None:
            pause = min(pause, deadline - now)
            if pause <= 0:
                return False
        await asyncio.sleep(pause - now % pause)
        pause = min(pause * 1.5, _LONGEST)
    return True
