"""The screen of ``scrapy frontier top`` in a terminal."""

from __future__ import annotations

import io
import os
import sys
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleDimensions
from rich.live import Live

from scrapy_dist.base import words
from scrapy_dist.commands.terminal.screen import Lines, Look
from scrapy_dist.commands.terminal.view import View, as_svg, draw

if TYPE_CHECKING:
    from datetime import datetime

    from scrapy_dist.commands.terminal.desk import Face
    from scrapy_dist.core.status import Status

#: Samples of the rate that the history shows.
_SAMPLES = 40


class History:
    """Pages per second from one look to the next, by Redis' clock."""

    def __init__(self) -> None:
        self.rates: deque[float] = deque(maxlen=_SAMPLES)
        self._last: tuple[datetime, int] | None = None

    def add(self, status: Status) -> None:
        last, self._last = self._last, (status.time, status.pages)
        if last is None:
            return
        seconds = (status.time - last[0]).total_seconds()
        if seconds > 0:
            # A frontier that was cleared begins to count again.
            self.rates.append(max(0, status.pages - last[1]) / seconds)


class Picture(Lines):
    """Draws each look on the terminal's other screen, which it leaves as it was.

    With *lines* it passes each look on to those, and only keeps the picture.
    """

    def __init__(self, status: Status, lines: Lines | None = None) -> None:
        self._view = View(Look(status))
        self._history = History()
        self._lines = lines
        self._console = Console(highlight=False)
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> None:
        if self._lines is None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="replace")
            self._live.start()

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):  # the terminal has gone
            self._live.stop()

    def show(self, look: Look) -> bool:
        self._history.add(look.status)
        rates = tuple(self._history.rates)
        self._view = View(look, rates, self._view.face)
        if self._lines is not None:
            return self._lines.show(look)
        return self._draw()

    def turn(self, face: Face) -> None:
        self._view = replace(self._view, face=face)
        self.redraw()

    def redraw(self) -> None:
        if self._live.is_started:
            self._draw()

    def late(self, seconds: float) -> bool:
        if self._lines is not None:
            return self._lines.late(seconds)
        return self.fail(f"Redis has not answered for {words.age(round(seconds))}.")

    def fail(self, reason: str) -> bool:
        self._view = replace(self._view, trouble=reason)
        if self._lines is not None:
            return self._lines.fail(reason)
        return self._draw()

    def as_svg(self) -> str:
        return as_svg(self._view)

    def _draw(self) -> bool:
        # The size that the terminal has now, also where COLUMNS says another one.
        with suppress(OSError, ValueError):  # no terminal, as in tests
            size = ConsoleDimensions(*os.get_terminal_size(self._console.file.fileno()))
            if size.width and size.height:  # unknown to some serial lines
                self._console.size = size
        picture = draw(
            self._view,
            height=self._console.height,
            ascii_only=self._console.options.ascii_only,
        )
        try:
            self._live.update(picture, refresh=True)
        except OSError:
            return False
        return True
