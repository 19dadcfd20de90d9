"""Keys that are typed on a terminal, one by one, and the terminal as it was before."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

#: What arrows and function keys send: no letters that somebody has typed.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)


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
