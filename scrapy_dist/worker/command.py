"""Which of Scrapy's commands runs: some are no crawl, and get a scheduler in memory."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from scrapy.core.scheduler import Scheduler
from scrapy.dupefilters import RFPDupeFilter as ScrapyDupeFilter
from scrapy.utils.misc import build_from_crawler, load_object

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.settings import flag
from scrapy_dist.compat.extension_points import EXTENSION_POINTS, overridden

if TYPE_CHECKING:
    from types import FrameType

    from scrapy.crawler import Crawler

logger = get_logger(__name__)

#: Scrapy's commands that are no crawl, by the modules of their classes.
_NO_CRAWL = frozenset(
    f"scrapy.commands.{name}"
    for name in ("bench", "check", "fetch", "parse", "shell", "view")
)
#: What ``command_without_crawl`` has found.
_commands: WeakKeyDictionary[Crawler, str] = WeakKeyDictionary()
#: What a dupefilter made for Redis may override and still filter without it.
_HARMLESS = frozenset({"debug", "log", "logdupes", "logger", "request_fingerprint"})
_POINTS = EXTENSION_POINTS["scrapy_dist.dupefilter.RFPDupeFilter"].all - _HARMLESS


def command_without_crawl(crawler: Crawler) -> str:
    """The command that runs *crawler* and is no crawl, e.g. "fetch"; '' for a crawl.

    Commands derived from those of Scrapy count as theirs. Settings and arguments do not
    tell what runs, so this looks for the command where it is: on the stack. To be
    called first while the command runs; the answer is remembered.
    """
    try:
        if crawler not in _commands:
            _commands[crawler] = running_command()
        return _commands[crawler]
    except TypeError:  # a stand-in that cannot be a key, as in a unit test
        return running_command()


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


def scheduler_for(crawler: Crawler, command: str, df: type[Any]) -> Scheduler:
    """Scrapy's own scheduler for *command*: nothing on disk, nothing in Redis.

    With a filter of the class *df*.
    """
    logger.info(
        "scrapy %s is no crawl: its requests stay in memory, Redis is not asked.",
        command,
    )
    settings = crawler.settings
    if hasattr(df, "from_spider") and overridden(df, _POINTS):
        # Written for scrapy-redis: it may well filter by keys of its own in Redis.
        dupefilter: Any = ScrapyDupeFilter(
            debug=flag(settings, "DUPEFILTER_DEBUG"),
            fingerprinter=crawler.request_fingerprinter,
        )
    else:
        dupefilter = build_from_crawler(df, crawler)
    return Scheduler(
        dupefilter=dupefilter,
        mqclass=load_object(settings["SCHEDULER_MEMORY_QUEUE"]),
        pqclass=load_object(settings["SCHEDULER_PRIORITY_QUEUE"]),
        stats=crawler.stats,
        crawler=crawler,
    )
