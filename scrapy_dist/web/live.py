"""Pages that stay up to date: one look at Redis for all who watch the same thing.

A browser gets server-sent events (a format of HTML's standard) with the parts of the page
that have changed. Nothing is queued: who is slow gets what is newest.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone

from markupsafe import escape

from scrapy_dist.base import times, words
from scrapy_dist.base.waits import cancel, sleep_until, wait_for
from scrapy_dist.exceptions import ConfigurationError, FrontierError

#: Seconds between two looks while somebody watches, and while nobody does; for how long
#: it goes on then, so that the rate over time has no gaps.
_EVERY, _UNWATCHED, _LINGER = 1.0, 10.0, 600.0
#: Seconds that a look may take.
_PATIENCE = 5.0
#: Seconds after which a quiet connection is used, to notice that it has gone; and after
#: which a browser asks again when it has lost it, in ms.
_PING, _RETRY = 15.0, 2000
#: The part that says what is wrong.
TROUBLE = "trouble"


class Live:
    """The *parts* of a page, as the newest look drew them: HTML by name.

    *look* gives all of them; it may raise FrontierError, then the last ones stay, and the
    part `TROUBLE` says so. *reconnect* is called before the next look then. *every*:
    seconds between two looks.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[Mapping[str, str]]],
        reconnect: Callable[[], Awaitable[None]],
        *,
        every: float = _EVERY,
        linger: float = _LINGER,
    ) -> None:
        self._ask = look
        self._reconnect = reconnect
        self._every = every
        self._linger = linger
        self._parts: dict[str, tuple[int, str]] = {TROUBLE: (0, "")}
        self._version = 0
        self._changed = asyncio.Event()
        self._looking = asyncio.Lock()
        self._looked = self._wanted = -1e9
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        #: Pages that are open; what is called when nobody has looked for long.
        self.watchers = 0
        self.on_end: Callable[[], object] = object

    @property
    def parts(self) -> dict[str, str]:
        return {name: html for name, (_, html) in self._parts.items()}

    async def now(self) -> dict[str, str]:
        """The parts, not older than the next look would make them; keeps looking."""
        self._start()
        async with self._looking:
            if time.monotonic() - self._looked > self._every:
                await self._look()
        return self.parts

    async def events(self) -> AsyncIterator[bytes]:
        """The parts that have changed, from now on; ends when this is closed."""
        self.watchers += 1
        seen = -1
        try:
            yield b"retry: %d\n\n" % _RETRY
            while not self._is_closed:
                self._start()
                changed = self._changed
                news = {
                    name: html
                    for name, (version, html) in self._parts.items()
                    if version > seen
                }
                seen = self._version
                if news:
                    yield b"data: %s\n\n" % json.dumps(news).encode()
                if not await sleep_until(changed, _PING):
                    yield b": still here\n\n"
        finally:
            self.watchers -= 1

    async def close(self) -> None:
        self._is_closed = True
        self._changed.set()
        if self._task is not None:
            await cancel([self._task])

    def _start(self) -> None:
        self._wanted = time.monotonic()
        if (self._task is None or self._task.done()) and not self._is_closed:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self.watchers or time.monotonic() - self._wanted < self._linger:
                async with self._looking:
                    if time.monotonic() - self._looked >= self._every * 0.9:
                        await self._look()
                await self._wait()
        finally:
            self.on_end()

    async def _wait(self) -> None:
        """Until the next look; soon if somebody comes to watch."""
        end = time.monotonic() + (self._every if self.watchers else _UNWATCHED)
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._every))
            if self.watchers:
                return

    async def _look(self) -> None:
        try:
            found = await wait_for(self._ask(), _PATIENCE)
        except asyncio.TimeoutError:
            await self._fail(f"Redis is away: no answer for {words.span(_PATIENCE)}.")
        except ConfigurationError as e:
            await self._fail(str(e))
        except FrontierError as e:
            await self._fail(f"Redis is away: {e}")
        else:
            self._tell({**found, TROUBLE: ""})
        self._looked = time.monotonic()

    async def _fail(self, problem: str) -> None:
        if not self._parts[TROUBLE][1]:
            now = times.shown(datetime.now(timezone.utc))
            has_more = len(self._parts) > 1
            shown = f" What is shown is how it stood at {now}." if has_more else ""
            text = escape(words.clean(problem, 500) + shown)
            self._tell({TROUBLE: f'<p class="trouble">{text} It is tried again.</p>'})
        with suppress(FrontierError, asyncio.TimeoutError):
            await wait_for(self._reconnect(), _PATIENCE)

    def _tell(self, parts: Mapping[str, str]) -> None:
        changed = {
            name: html
            for name, html in parts.items()
            if self._parts.get(name, (0, None))[1] != html
        }
        if not changed:
            return
        self._version += 1
        for name, html in changed.items():
            self._parts[name] = (self._version, html)
        self._changed.set()
        self._changed = asyncio.Event()
