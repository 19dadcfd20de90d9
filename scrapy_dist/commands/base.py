"""What the subcommands of ``scrapy frontier`` share: finding the crawl, and printing."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout
from scrapy.crawler import Crawler
from scrapy.utils.misc import load_object
from scrapy.utils.project import inside_project

from scrapy_dist import connection, defaults
from scrapy_dist.base.escaping import escape, quote
from scrapy_dist.base.waits import within
from scrapy_dist.brokers.redis import version
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import (
    Keys,
    crawl_name,
    fill_template,
    job_from_settings,
    tagged,
)
from scrapy_dist.brokers.redis.views.status import read_status
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seal import Seal
from scrapy_dist.core.settings import Options
from scrapy_dist.dupefilter import CompactDupeFilter
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from scrapy_dist.redis_client.embedded.settings import directory_from_settings
from scrapy_dist.redis_client.topology import uses_cluster
from scrapy_dist.spiders import RedisMixin

if TYPE_CHECKING:
    import argparse

    from scrapy import Spider
    from scrapy.settings import Settings
    from scrapy.spiderloader import SpiderLoaderProtocol

    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.redis_client.typed import Redis

T = TypeVar("T")

__all__ = [
    "OK",
    "TROUBLE",
    "WRONG_USE",
    "Subcommand",
    "Target",
    "add_common_options",
    "all_targets",
    "apply_options",
    "ask",
    "find_target",
    "frontier_of",
    "names_in_project",
    "nearest",
    "open_frontier",
    "refuse_cluster",
    "require_known",
    "spiders_in_redis",
    "unknown_frontier",
    "warn",
    "write",
    "write_json",
]

#: Exit codes: all is well; it is not; the command could not do its work.
OK, TROUBLE, WRONG_USE = 0, 1, 2

#: Keys that ``spiders_in_redis`` looks at in one step.
_SCAN_STEP = 1000
#: Seconds to look for the names of spiders in a Redis that may hold many other keys.
_SUGGEST_TIMEOUT = 3.0
#: Priority of what the environment says: less than that of all settings of a project.
_ENVIRONMENT = 5
#: Stands for the spider's name while its place in a key is looked for.
_NAME = "-the-name-"


@dataclass(frozen=True)
class Subcommand:
    """``scrapy frontier NAME``; *run* gets the parsed options and returns the exit code.

    *summary* is its line in the list of subcommands, *description* and *example* (a
    command line) are what ``--help`` shows, and *topic* names what ``scrapy frontier
    help`` has on it. *run* may raise FrontierError.
    """

    name: str
    summary: str
    description: str
    example: str
    topic: str | None
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Settings, argparse.Namespace], Awaitable[int]]


@dataclass(frozen=True)
class Target:
    """The crawl that a command is about.

    *codec* reads its requests; None outside the spider's project.
    """

    spider: str
    settings: Settings
    options: Options
    keys: Keys
    seed_keys: tuple[str, ...]
    codec: PayloadCodec | None

    @property
    def job(self) -> str | None:
        return job_from_settings(self.settings) or None

    @property
    def name(self) -> str:
        """What people call the crawl: the spider's name, with a job ``spider:job``."""
        return crawl_name(self.spider, self.job or "")

    @property
    def words(self) -> str:
        """What names the crawl on a command line."""
        return f"{self.spider} --job {self.job}" if self.job else self.spider


def add_common_options(
    parser: argparse.ArgumentParser, *, spider_optional: bool = False
) -> None:
    """The options that name the crawl and the form of the output."""
    parser.add_argument(
        "spider",
        metavar="SPIDER",
        nargs="?" if spider_optional else None,
        help="name of the spider",
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="where Redis is, e.g. redis://host:6379/0; wins over the project's"
        " settings. One with a password is better given as the environment variable"
        " REDIS_URL, which counts where neither this nor a setting says it",
    )
    parser.add_argument(
        "--job",
        metavar="NAME",
        help="the crawl of that name (the setting FRONTIER_JOB)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, for scripts"
    )


def find_target(settings: Settings, opts: argparse.Namespace) -> Target:
    """The crawl that the options of ``add_common_options`` name.

    Inside a project its settings, and those of the spider, count. The spider may be one
    that only Redis knows: where the *codec* is None, `require_known` tells. Raises
    ConfigurationError.
    """
    _apply_options(settings, opts)
    target = None
    if inside_project():
        with contextlib.suppress(KeyError):
            spider_class = _spider_loader(settings).load(opts.spider)
            target = _inside(settings, opts.spider, spider_class)
    target = target or _outside(settings, opts.spider)
    _tell_environment(target.settings)
    return target


def apply_options(settings: Settings, opts: argparse.Namespace) -> None:
    """Let --redis and --job win over *settings*, and these over REDIS_URL of the
    environment; raise ConfigurationError if no Redis is named at all."""
    _apply_options(settings, opts)
    _tell_environment(settings)


def _apply_options(settings: Settings, opts: argparse.Namespace) -> None:
    if opts.redis:
        settings.set("REDIS_URL", opts.redis, priority="cmdline")
    if opts.job is not None:
        settings.set("FRONTIER_JOB", opts.job, priority="cmdline")
    _read_environment(settings)
    if not inside_project():
        if not settings.get("FRONTIER_SECRET") and os.environ.get("FRONTIER_SECRET"):
            # Everybody on this machine sees what is on a command line.
            secret = os.environ["FRONTIER_SECRET"]
            settings.set("FRONTIER_SECRET", secret, priority="cmdline")
        _require_redis(settings)


def _read_environment(settings: Settings) -> None:
    """Take REDIS_URL of the environment where no setting says where Redis is.

    Unlike --redis it is not seen by all who list the processes of the machine.
    """
    url = os.environ.get("REDIS_URL")
    # An empty text is how a command line switches a setting off.
    if not url or settings.get("REDIS_URL") is not None:
        return
    if not connection.is_embedded(settings):
        return
    settings.set("REDIS_URL", url, priority=_ENVIRONMENT)


def _forget_environment(settings: Settings) -> None:
    """Let what a spider says of Redis by itself win over the environment."""
    if settings.getpriority("REDIS_URL") == _ENVIRONMENT:
        without = settings.copy()
        without.set("REDIS_URL", None, priority="cmdline")
        if not connection.is_embedded(without):
            settings.set("REDIS_URL", None, priority="cmdline")


def _tell_environment(settings: Settings) -> None:
    """Say where the workers of a project are if the commands look elsewhere."""
    if inside_project() and settings.getpriority("REDIS_URL") == _ENVIRONMENT:
        _tell_once(
            "scrapy frontier: REDIS_URL of the environment says where Redis is. The"
            " settings do not, and workers read no environment: they use the embedded"
            f" Redis in {directory_from_settings(settings)}.\n"
        )


@cache
def _tell_once(text: str) -> None:
    sys.stderr.write(text)


def _outside(settings: Settings, name: str) -> Target:
    return Target(
        name,
        settings,
        Options.from_settings(settings),
        Keys.from_settings(settings, name),
        _seed_keys(settings, name),
        None,
    )


def _inside(settings: Settings, name: str, spider_class: type[Spider]) -> Target:
    crawler = Crawler(spider_class, settings)
    crawler.addons.load_settings(crawler.settings)
    _forget_environment(crawler.settings)
    # Nothing of the spider is run; its class says what its requests may call.
    crawler.spider = spider_class.__new__(spider_class)
    settings = crawler.settings
    seed_keys: tuple[str, ...] = ()
    if issubclass(spider_class, RedisMixin):
        seed_keys = _seed_keys(settings, name, spider_class.redis_key)
    return Target(
        name,
        settings,
        Options.from_settings(settings),
        Keys.from_settings(settings, name),
        seed_keys,
        PayloadCodec.from_crawler(crawler),
    )


def _require_redis(settings: Settings) -> None:
    if connection.describe(settings).startswith("embedded"):
        folder = directory_from_settings(settings)
        if not folder.exists():
            raise ConfigurationError(
                "Which Redis? Outside a Scrapy project give --redis URL, for example"
                " --redis redis://localhost:6379/0, or set REDIS_URL in the environment."
            )


def _spider_loader(settings: Settings) -> SpiderLoaderProtocol:
    loader_class = load_object(settings["SPIDER_LOADER_CLASS"])
    return cast(
        "SpiderLoaderProtocol", loader_class.from_settings(settings.frozencopy())
    )


def names_in_project(settings: Settings) -> frozenset[str]:
    """The names of the project's spiders; none outside a project."""
    names = _spider_loader(settings).list() if inside_project() else ()
    return frozenset(names)


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence, with a space in front, that suggests one of *names*; else ''."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f" Did you mean {quote(close[0], 200)}?"
    if not known:
        return ""
    more = ", …" if len(known) > 10 else ""
    return f" There are: {', '.join(escape(n, 200) for n in known[:10])}{more}."


def _seed_keys(settings: Settings, name: str, own: Any = None) -> tuple[str, ...]:
    setting = settings.get("REDIS_START_URLS_KEY") or defaults.REDIS_START_URLS_KEY
    key = own or setting
    templates = key if isinstance(key, (list, tuple)) else [key]
    source = "redis_key" if own else "REDIS_START_URLS_KEY"
    name = tagged(settings, name)
    return tuple(fill_template(template, source, name) for template in templates)


@asynccontextmanager
async def open_frontier(
    target: Target, *, changes: bool = False, timeout: float | None = None
) -> AsyncIterator[Frontier]:
    """The frontier of *target*, connected; not registered as a worker.

    *changes*: raise ConfigurationError for one that another version has to change.
    *timeout*: seconds that connecting may take. Raises as `connection.open_client`.
    """
    opening = connection.open_client(target.settings, target.keys.requests)
    try:
        client = await within(timeout, opening)
    except RedisTimeout as e:
        where = connection.describe(target.settings)
        raise RedisUnavailable(f"Redis cannot be used: {e} ({where}).") from None
    try:
        frontier = frontier_of(target, client)
        if changes:
            await version.check_format(client, target.keys.state)
        elif reason := await version.reason_against(client, target.keys.state):
            sys.stderr.write(
                f"scrapy frontier: what is shown may be wrong. {escape(reason)}\n"
            )
        yield frontier
    finally:
        await connection.close_client(client)


def frontier_of(target: Target, client: Redis) -> Frontier:
    """The frontier of *target* in the Redis of *client*."""
    options = target.options
    return Frontier(
        client,
        target.keys,
        ttl=options.worker_ttl,
        max_deliveries=options.max_deliveries,
        failed_limit=options.failed_limit,
        newest_first=options.discipline.newest_first,
        seed_keys=target.seed_keys,
        compact=_is_compact(target.settings),
        seal=Seal.from_settings(target.settings, target.keys.requests),
    )


def _is_compact(settings: Settings) -> bool:
    """Whether the workers keep compact fingerprints; where there are some, they tell."""
    path = settings["DUPEFILTER_CLASS"]
    try:
        filter_class = load_object(path)
    except (ImportError, NameError, TypeError, ValueError) as e:
        raise ConfigurationError(
            f"DUPEFILTER_CLASS = {path!r} cannot be imported: {e}."
        ) from None
    return isinstance(filter_class, type) and issubclass(
        filter_class, CompactDupeFilter
    )


async def ask(frontier: Frontier, call: Call[T]) -> T:
    """The reply to *call*, sent by itself. Raises RedisUnavailable, also if refused."""
    await frontier.exchange([call])
    try:
        return call.reply()
    except ResponseError as e:
        raise RedisUnavailable(f"Redis refuses: {e}") from e


async def unknown_frontier(frontier: Frontier, target: Target) -> ConfigurationError:
    """The error for a spider of which Redis has no frontier; suggests the nearest."""
    settings = target.settings.copy()
    settings.set("FRONTIER_JOB", "", priority="cmdline")
    looking = spiders_in_redis(frontier.client, settings)
    try:
        names = await asyncio.wait_for(looking, _SUGGEST_TIMEOUT)
    except (asyncio.TimeoutError, RedisError, OSError):
        names = []
    where = connection.describe(frontier.client)
    if inside_project() and target.codec is None:
        names = sorted({*names, *_spider_loader(settings).list()})
        text = (
            f"There is no spider {quote(target.spider)} in this project, and no frontier"
            f" of {quote(target.name)} at {where}."
        )
    else:
        text = f"There is no frontier of a spider {quote(target.name)} at {where}."
    return ConfigurationError(text + nearest(target.name, names))


async def require_known(frontier: Frontier, target: Target) -> None:
    """Raise ConfigurationError if neither the project nor Redis knows *target*."""
    if target.codec is None:
        status = await read_status(frontier, target.spider, target.job)
        if status.is_blank:
            raise await unknown_frontier(frontier, target)


async def all_targets(
    client: Redis, settings: Settings, *, finished: bool = False
) -> list[Target]:
    """The crawls that have a frontier in Redis; with FRONTIER_JOB only those of it.

    *finished*: those of which there are records of finished crawls.

    Raises ConfigurationError where they cannot be looked for.
    """
    refuse_cluster(settings)
    loader = _spider_loader(settings) if inside_project() else None
    known = loader.list() if loader else []
    try:
        names = await spiders_in_redis(client, settings, finished=finished)
    except (RedisError, OSError) as e:
        raise RedisUnavailable(
            f"Redis does not let us look for frontiers ({type(e).__name__}: {e})."
            " Name the spider."
        ) from e
    given_job = job_from_settings(settings)
    targets = []
    for name in names:
        spider, job = (name, given_job)
        if not job and name not in known:
            spider, job = _split_crawl_name(name)
        own = settings.copy()
        own.set("FRONTIER_JOB", job, priority="cmdline")
        if loader and spider in known:
            targets.append(_inside(own, spider, loader.load(spider)))
        else:
            targets.append(_outside(own, spider))
    return targets


def refuse_cluster(settings: Settings) -> None:
    """Raise ConfigurationError if all crawls are asked for, but nobody knows them all.

    Needs no connection.
    """
    if uses_cluster(settings):
        known = _spider_loader(settings).list() if inside_project() else []
        raise ConfigurationError(
            "In a Redis Cluster each crawl is on one of several servers, so they cannot"
            " all be listed. Name the spider, for example: scrapy frontier status"
            f" {known[0] if known else 'myspider'}.{nearest('', known)}"
        )


def _split_crawl_name(name: str) -> tuple[str, str]:
    """Spider and job of a name that ``crawl_name`` gave; a job holds no colon."""
    spider, _, job = name.rpartition(":")
    return (spider, job) if spider and re.fullmatch(r"[\w.-]+", job) else (name, "")


async def spiders_in_redis(
    client: Redis, settings: Settings, *, finished: bool = False
) -> list[str]:
    """Names of the spiders of which Redis has something, sorted: a frontier, seeds,
    dead letters or items.

    *finished*: of those that have records of finished crawls. Looks at every key of the
    database, some at a time.
    """
    keys = Keys.from_settings(settings, _NAME)
    places = [(keys.state, "HASH"), (keys.failed, "STREAM"), (keys.items, "LIST")]
    for key in _seed_keys(settings, _NAME):
        places += [(key, "LIST"), (key, "SET"), (key, "ZSET")]
    if finished:
        places = [(keys.history, "STREAM")]
    names: set[str] = set()
    for key, kind in places:
        names |= await _names_in_keys(client, key, kind)
    return sorted(names)


async def _names_in_keys(client: Redis, key: str, kind: str) -> set[str]:
    """What stands for _NAME in the keys of the type *kind* that are like *key*."""
    head, *tails = key.split(_NAME)
    if not tails:
        return set()  # one key for all spiders
    pattern = "*".join(
        re.sub(r"([*?\[\]\\^])", r"\\\1", part) for part in (head, *tails)
    )
    names = set()
    async for found in client.scan_iter(match=pattern, count=_SCAN_STEP, _type=kind):
        name = _name_in(found.decode("utf-8", "replace"), head, tails)
        if name:
            names.add(name)
    return names


def _name_in(key: str, head: str, tails: list[str]) -> str:
    """What stands between *head* and each of *tails* in *key*; '' if it does not fit."""
    length, rest = divmod(len(key) - len(head) - sum(map(len, tails)), len(tails))
    name = key[len(head) : len(head) + length]
    fits = length > 0 and not rest and key == head + "".join(name + t for t in tails)
    return name if fits else ""


def write(*lines: str) -> bool:
    """Print *lines*, escaped; false for a reader that has seen enough (``| head``)."""
    try:
        sys.stdout.write("".join(f"{escape(line)}\n" for line in lines))
        sys.stdout.flush()
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        lines = tuple(
            line.encode(encoding, "replace").decode(encoding) for line in lines
        )
        return write(*lines)
    except BrokenPipeError:
        _give_up_output()
        return False
    except (OSError, AttributeError) as e:
        # A full disk; or there is no standard output at all.
        if sys.stdout is not None:
            _give_up_output()
        raise ConfigurationError(f"The output cannot be written: {e}") from None
    return True


def _give_up_output() -> None:
    """Python would flush once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(command: str, message: str) -> None:
    """Print *message* of ``scrapy frontier`` *command*, escaped, beside the output."""
    sys.stderr.write(f"scrapy frontier {command}: {escape(message)}\n")


def write_json(value: dict[str, Any] | list[dict[str, Any]]) -> bool:
    """Print *value* as one line of ASCII; false as in `write`."""
    return write(json.dumps(value))
