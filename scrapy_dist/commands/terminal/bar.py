"""How far a long command has come, on a terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import escape
from scrapy_dist.base.words import count, number

if TYPE_CHECKING:
    from scrapy_dist.admin.seed_files import Tally

#: Seconds until anything is shown, and between two looks: of a counter, of a bar.
_PATIENCE, _STEP, _BAR_STEP = 1.0, 0.5, 0.1
#: Goes to the beginning of the line and clears it.
_CLEAR = "\r\x1b[K"


class Bar:
    """On stderr, if it is a terminal: a bar if ``rich`` is there, else a counter."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._is_shown = _is_terminal()
        self._next = time.monotonic() + _PATIENCE
        self._rich: Any = None
        self._counting = False

    def update(self, pushed: int) -> None:
        """*pushed* seeds are in Redis; cheap."""
        now = time.monotonic()
        if not self._is_shown or now < self._next:
            return
        if self._rich is None and not self._counting:
            self._rich = _make_rich_bar()
            self._counting = self._rich is None
        self._next = now + (_STEP if self._counting else _BAR_STEP)
        tally = self._tally
        if self._rich is not None:
            self._rich.update(0, total=tally.total, completed=tally.read, pushed=pushed)
            self._rich.refresh()
            return
        share = f" ({tally.read / tally.total:.0%})" if tally.total else ""
        sys.stderr.write(f"{_CLEAR}{count(pushed, 'seed')} pushed{share}")
        sys.stderr.flush()

    def note(self, line: str) -> None:
        """Print *line*, escaped, to stderr, above the bar."""
        line = escape(line)
        if self._rich is not None:
            self._rich.console.print(
                line, markup=False, highlight=False, soft_wrap=True
            )
        elif sys.stderr is not None:
            sys.stderr.write(f"{_CLEAR if self._counting else ''}{line}\n")

    def close(self) -> None:
        """Remove what was shown; notes can still be printed."""
        if self._rich is not None:
            self._rich.stop()
        elif self._counting:
            sys.stderr.write(_CLEAR)
        self._rich, self._counting, self._is_shown = None, False, False


def _make_rich_bar() -> Any:
    """A bar of ``rich``, or None if that is not installed."""
    try:
        from rich import progress  # noqa: PLC0415 - optional, and slow to import
        from rich.console import Console  # noqa: PLC0415
    except ImportError:
        return None
    bar = progress.Progress(
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[pushed]:,} seeds pushed"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
    )
    bar.add_task("", total=None, pushed=0)
    bar.start()
    return bar


@contextmanager
def counter(what: str) -> Iterator[Callable[..., None]]:
    """Yields ``progress(done, total=0)``, to be called often.

    It says on stderr, if that is a terminal, how far a long command has come.
    """
    due = time.monotonic() + _PATIENCE if _is_terminal() else math.inf
    written = False

    def progress(done: int, total: int = 0) -> None:
        nonlocal due, written
        now = time.monotonic()
        if now < due:
            return
        due, written = now + _STEP, True
        of = f" of {number(total)}" if total else ""
        sys.stderr.write(f"{_CLEAR}{number(done)}{of} {what}")
        sys.stderr.flush()

    try:
        yield progress
    finally:
        if written:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
