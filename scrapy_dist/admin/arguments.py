"""What callers of `Crawl` may say, checked: each is refused by one ConfigurationError."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, TypeVar

from scrapy.http import Request
from scrapy.settings import BaseSettings, Settings

from scrapy_dist.base.escaping import nearest, quote
from scrapy_dist.codec.request_fields import MAX_PRIORITY
from scrapy_dist.codec.seed_fields import task_name
from scrapy_dist.core.crawl import PARTS
from scrapy_dist.core.dead_letters import DeadLetter, is_letter_id
from scrapy_dist.core.hosts import SORTS
from scrapy_dist.core.status import Status, WorkerStatus
from scrapy_dist.core.tasks import Run, Task
from scrapy_dist.exceptions import BadSeed, ConfigurationError
from scrapy_dist.redis_client.masking import shown_value

E = TypeVar("E", bound=Enum)
T = TypeVar("T")
Ids = str | DeadLetter | Iterable[str | DeadLetter]
Workers = str | int | WorkerStatus | Iterable[str | int | WorkerStatus]
TaskIds = str | int | Task | Iterable[str | int | Task]

_SURROGATE = re.compile(r"[\ud800-\udfff]")


def client_settings(
    url: str | None,
    spider: str,
    job: str | None,
    settings: Mapping[str, Any] | BaseSettings | None,
) -> Settings:
    """What a `Client` is told, as the settings of its crawl. Raises ConfigurationError."""
    if not isinstance(spider, str) or not spider:
        raise ConfigurationError(f"spider = {spider!r} is no name of a spider.")
    if url is not None and (not isinstance(url, str) or not url):
        raise ConfigurationError(
            f"url = {shown_value('url', url)} is no address of Redis. Write e.g."
            " redis://:password@host:6379/0, or None where settings say it."
        )
    own = Settings()
    if isinstance(settings, BaseSettings):
        own.update(settings)
    else:
        own.update(dict(settings or {}), priority="project")
    if url is not None:
        own.set("REDIS_URL", url, priority="cmdline")
    if job is not None:
        own.set("FRONTIER_JOB", job, priority="cmdline")
    return own


def checked_limit(limit: int) -> int:
    """*limit*, from 0. Raises ConfigurationError."""
    if type(limit) is not int or limit < 0:
        raise ConfigurationError(f"limit = {quote(limit)} is no whole number from 0.")
    return limit


def checked_id(id_: str) -> str:
    """*id_*, if a dead letter can have it, or ''. Raises ConfigurationError."""
    if id_ and not is_letter_id(id_):
        raise ConfigurationError(
            f"{quote(id_)} is no id of a dead letter, such as 1764267000000-0."
        )
    return id_


def checked_sort(sort: str) -> str:
    """*sort*, if hosts can be sorted so. Raises ConfigurationError."""
    if sort not in SORTS:
        raise ConfigurationError(
            f"sort = {quote(sort)} is none of {', '.join(map(repr, SORTS))}."
        )
    return sort


def checked_url(url: str) -> str:
    """*url*, if it is one. Raises ConfigurationError."""
    try:
        Request(url)
    except (TypeError, ValueError) as e:
        raise ConfigurationError(
            f"{quote(url, 200)} is no URL ({e}). Write it in full, with its scheme, for"
            " example https://example.org/."
        ) from None
    return url


def checked_urls(urls: str | Iterable[str]) -> list[str]:
    """*urls*, one or several, each once."""
    return list(dict.fromkeys(map(checked_url, _listed(urls, "urls"))))


def checked_priority(priority: int) -> int:
    """*priority*, if a request can have it. Raises ConfigurationError."""
    if type(priority) is not int or abs(priority) > MAX_PRIORITY:
        raise ConfigurationError(
            f"priority = {quote(priority)} is no whole number up to {MAX_PRIORITY}."
        )
    return priority


def checked_parts(parts: Iterable[str]) -> list[str]:
    """*parts*, if they are of PARTS. Raises ConfigurationError."""
    for part in parts:
        if part not in PARTS:
            raise ConfigurationError(
                f"{quote(part)} is no part of a crawl that can be deleted. There are:"
                f" {', '.join(PARTS)}."
            )
    return list(parts)


def several(seeds: T, one: str) -> T:
    """*seeds*, if they are several. Raises TypeError; *one*: the method for one."""
    if isinstance(seeds, (str, bytes, Mapping)):
        raise TypeError(f"seeds = {seeds!r} is one seed: use {one}(), or a list.")
    return seeds


def _listed(values: Any, name: str, *single: type) -> list[Any]:
    """*values*, one of *single* or many. Raises ConfigurationError for anything else."""
    if isinstance(values, (str, *single)):
        return [values]
    if isinstance(values, bytes) or not isinstance(values, Iterable):
        raise ConfigurationError(f"{name} = {quote(values)} is no list.")
    return list(values)


def ids_of(ids: Ids) -> list[str]:
    chosen = _listed(ids, "ids", DeadLetter)
    return [each.id if isinstance(each, DeadLetter) else str(each) for each in chosen]


def checked_name(name: str | int, what: str) -> str:
    """*name*, if a task (its id) or a batch can have it. Raises ConfigurationError.

    A number is its text. *what*: what the argument is called.
    """
    if isinstance(name, str) and _SURROGATE.search(name):
        raise ConfigurationError(f"{what} = {quote(name)} is not valid Unicode.")
    try:
        return task_name(what, name)
    except BadSeed as e:
        raise ConfigurationError(f"{e}.") from None
    except KeyError:
        raise ConfigurationError(f"{what} = {quote(name)} is no text.") from None


def checked_timeout(timeout: float | None) -> float | None:
    """Seconds to wait, or None: for ever. Raises ConfigurationError."""
    is_number = type(timeout) in (int, float) and not math.isnan(timeout or 0.0)
    if timeout is not None and not is_number:
        raise ConfigurationError(
            f"timeout = {quote(timeout)} is no number of seconds; None waits for ever."
        )
    return timeout


def choice(kind: type[E], value: object, name: str) -> E:
    """The member of *kind* that *value* is; *name*: of the argument.

    Raises ConfigurationError.
    """
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(repr(each.value) for each in kind)
        raise ConfigurationError(
            f"{name} = {quote(value)} is none of {known}."
        ) from None


def task_ids_of(ids: TaskIds) -> list[str | Run]:
    """The ids of tasks; of a `Task` the run that it is. Raises ConfigurationError."""
    return [
        (Run(each.id, each.token) if each.token else each.id)
        if isinstance(each, Task)
        else checked_name(each, "id")
        for each in _listed(ids, "ids", int, Task)
    ]


def chosen_workers(status: Status, workers: Workers) -> list[WorkerStatus]:
    """The workers that *workers* mean: ``host:pid``, a number, or all."""
    names = [
        each.number if isinstance(each, WorkerStatus) else str(each)
        for each in _listed(workers, "workers", int, WorkerStatus)
    ]
    if "all" in names:
        return list(status.workers)
    known = {
        name for worker in status.workers for name in (worker.worker, worker.number)
    }
    for name in names:
        if name not in known:
            who = [worker.worker for worker in status.workers]
            raise ConfigurationError(
                f"No worker {quote(name, 200)} works on {status.spider}.{nearest(name, who)}"
            )
    return [w for w in status.workers if w.worker in names or w.number in names]
