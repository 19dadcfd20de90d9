"""A crawl seen from outside: how it is called, and what was done with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

    from scrapy_dist.core.status import WorkerStatus

_JOB = re.compile(r"[\w.-]{1,200}")

#: Parts of a crawl that can be deleted; and what is deleted if none of them is named:
#: requests, fingerprints, stats and what is known of workers.
PARTS = (
    *("requests", "dupefilter", "failed", "items", "stats", "seeds", "history"),
    "tasks",
)
FRONTIER = "frontier"


def crawl_name(spider: str, job: str) -> str:
    """What people and keys call the crawl *job* of *spider*; *job* may be ''."""
    return f"{spider}:{job}" if job else spider


def job_from_settings(settings: BaseSettings) -> str:
    """FRONTIER_JOB, or ''."""
    job = settings.get("FRONTIER_JOB")
    if job is None or job == "":
        return ""
    if not _JOB.fullmatch(str(job)):
        raise ConfigurationError(
            f"FRONTIER_JOB = {job!r} is not a name of a crawl. Use letters, digits, '.',"
            " '_' and '-', for example 'nightly'."
        )
    return str(job)


@dataclass(frozen=True)
class Paused:
    """*before*: whether the crawl was paused already; *alive* workers."""

    before: bool
    alive: int


@dataclass(frozen=True)
class Stopped:
    """*asked*: how many of *workers*, those that were meant, were still there."""

    asked: int
    workers: tuple[WorkerStatus, ...]


@dataclass(frozen=True)
class Cleared:
    """*alive* workers; *done* is false if nothing was deleted because of them.

    *deleted*: how much there was of what was deleted, by its name: pending, seen, ….
    """

    alive: int
    done: bool
    deleted: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Exported:
    """*counts* of lines by type. *is_whole*: the crawl can go on elsewhere from these."""

    counts: Counter[str] = field(default_factory=Counter)
    is_whole: bool = True


@dataclass
class Imported:
    """*counts* of lines by type; *skipped* lines had come in before.

    *homeless* seeds found no key, because this spider reads none. *is_complete*: the
    file had its end. *is_whole*: so says the file of the export.
    """

    counts: Counter[str] = field(default_factory=Counter)
    spider: str = ""
    skipped: int = 0
    homeless: int = 0
    is_complete: bool = False
    is_whole: bool = True


#: Reasons that are told.
_REASONS = 5


@dataclass
class TakenOver:
    """What was moved; *left* requests stay where they were, *reasons* say why."""

    requests: int = 0
    fingerprints: int = 0
    seeds: int = 0
    left: int = 0
    #: Whether there are fingerprints of scrapy-redis.
    has_fingerprints: bool = False
    reasons: list[str] = field(default_factory=list)

    def leave(self, reason: str) -> None:
        self.left += 1
        if len(self.reasons) < _REASONS and reason not in self.reasons:
            self.reasons.append(reason)
