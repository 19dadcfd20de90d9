"""Which of Scrapy's commands runs: some are no crawl."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from types import FrameType

    from scrapy.crawler import Crawler

#: Scrapy's commands that are no crawl, by the modules of their classes.
_NO_CRAWL = frozenset(
    f"scrapy.commands.{name}"
    for name in ("bench", "check", "fetch", "parse", "shell", "view")
)
#: What ``command_without_crawl`` has found.
_commands: WeakKeyDictionary[Crawler, str] = WeakKeyDictionary()


def command_without_crawl(crawler: Crawler) -> str:
    """The command that runs *crawler* and is no crawl, e.g. "fetch"; '' for a crawl.

    Commands derived from those of Scrapy count as theirs. Settings and arguments do not
    tell what runs, so this looks for the command where it is: on the stack. To be
    called first while the command runs; the answer is remembered.
    """
    try:
        known = _commands.get(crawler)
        if known is None:
            known = _commands[crawler] = running_command()
    except TypeError:  # a stand-in that cannot be a key, as in a unit test
        return running_command()
    return known


def running_command() -> str:
    """As ``command_without_crawl``, where no crawler is at hand."""
    frames = sys._current_frames()  # noqa: SLF001
    own = _innermost_command(frames.pop(threading.get_ident(), None))
    if own is not None:
        return own
    # The shell runs its engine in another thread than itself.
    others = (_innermost_command(frame) for frame in frames.values())
    return "shell" if "shell" in others else ""


def runs_by_command() -> bool:
    """Whether a command of Scrapy crawls, and no program of the user's."""
    frames = sys._current_frames()  # noqa: SLF001
    return _innermost_command(frames.get(threading.get_ident())) == ""


def _innermost_command(frame: FrameType | None) -> str | None:
    """The command that runs in *frame*: '' for one that crawls, None for none."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "run" and code.co_argcount:
            command = frame.f_locals.get(code.co_varnames[0])
            modules = [cls.__module__ for cls in type(command).__mro__]
            if "scrapy.commands" in modules:
                found = next((m for m in modules if m in _NO_CRAWL), "")
                return found.rpartition(".")[2]
        frame = frame.f_back
    return None
