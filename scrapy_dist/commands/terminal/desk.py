"""What somebody who watches a crawl has chosen to see, and to do, by keys."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum

#: What arrows and function keys send: no letters that somebody has typed.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)


class Page(Enum):
    """What the middle of the picture shows; the value is its name for people."""

    OVERVIEW = "overview"
    HOSTS = "hosts"
    WORKERS = "workers"
    FAILED = "failed"
    TASKS = "tasks"

    @property
    def key(self) -> str:
        return self.value[0]


#: The pages by their keys.
PAGES = {page.key: page for page in Page}


@dataclass(frozen=True)
class Face:
    """What is chosen. *asks*: whether to pause, or to resume, is to be answered.

    *helps*: the keys are explained in place of the page. *told*: what has become of the
    last wish.
    """

    page: Page = Page.OVERVIEW
    asks: bool | None = None
    helps: bool = False
    told: str = ""


class Desk:
    """Turns keys into a `Face` and into wishes.

    *turned* is set when something else is to be read, or done, at once; *changed* is
    called with each new face.
    """

    def __init__(self, page: Page = Page.OVERVIEW) -> None:
        self.face = Face(page)
        self.turned = asyncio.Event()
        self.changed: Callable[[Face], object] = lambda face: None
        #: Whether the crawl is paused, as the last look found it; None: no look yet.
        self.paused: bool | None = None
        self._wish: bool | None = None

    def press(self, keys: str) -> None:
        """Do what *keys*, typed at once, say; an answer has to be typed by itself."""
        for key in keys.lower():
            asked = self.face.asks
            self._set(self._after(key))
            if self.face.asks is not None and asked is None:
                return

    def _after(self, key: str) -> Face:
        face = replace(self.face, asks=None, told="", helps=False)
        if self.face.asks is not None:
            if key != "y":
                return replace(face, told="Nothing was changed.")
            self._wish = self.face.asks
            self.turned.set()
            return face
        if key == "?":
            return replace(face, helps=not self.face.helps)
        if key == "p":
            if self.paused is None:
                return replace(face, told="Nobody knows yet whether it is paused.")
            return replace(face, asks=not self.paused)
        page = PAGES.get(key)
        if page is None:
            return replace(face, helps=self.face.helps, told=self.face.told)
        if page is face.page and not self.face.helps:
            page = Page.OVERVIEW
        if page is not face.page:
            self.turned.set()
        return replace(face, page=page)

    def take_wish(self) -> bool | None:
        """Whether to pause (true) or to resume, once; None: neither."""
        wish, self._wish = self._wish, None
        return wish

    def tell(self, told: str) -> None:
        """What has become of a wish."""
        self._set(replace(self.face, told=told))

    def _set(self, face: Face) -> None:
        if face != self.face:
            self.face = face
            self.changed(face)


@contextmanager
def typed(
    press: Callable[[str], object], end: Callable[[], object], *, wanted: bool
) -> Iterator[None]:
    """Call *press* with what is typed, and *end* for q or a terminal that has gone.

    Nothing is done if it is not *wanted*, or without a terminal to type on.
    """
    if not wanted or sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()

    def read() -> None:
        keys = b""
        with suppress(OSError):  # the terminal has gone
            keys = os.read(terminal, 1024)
        text = _SEQUENCE.sub("", keys.decode("ascii", "ignore"))
        if not keys or "q" in text.lower():
            end()
        elif text:
            press(text)

    before = termios.tcgetattr(terminal)
    loop = asyncio.get_running_loop()
    try:
        tty.setcbreak(terminal)
        # Ctrl-Z would leave the shell with this screen.
        modes = termios.tcgetattr(terminal)
        modes[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(terminal, termios.TCSANOW, modes)
        loop.add_reader(terminal, read)
        yield
    finally:
        loop.remove_reader(terminal)
        # What was typed for this command must not reach the shell.
        with suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
