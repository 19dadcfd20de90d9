"""Push seeds of SPIDER: URLs, or JSON objects such as {"url": "https://example.org/",
"meta": {"shop": 7}, "priority": 10}. They are taken in the order in which they come.

They are read from the arguments, then from files (--file), then from sitemaps (--sitemap);
with none of these from standard input, if that is no terminal. A file has one URL or one
JSON object a line; gzip is noticed; blank lines and lines that begin with # are skipped.
--meta and --priority are for seeds that do not have their own.

Each seed is checked by the rules of the workers. One that is no good is reported with its
file, line and reason, and the others are pushed; --strict stops there instead. If Redis
goes away, or after Ctrl-C, the last line says from where to go on: --skip N.

With --batch each seed is a task: scrapy frontier tasks shows how it stands. An id of its own
counts; one whose task has not ended is not pushed again.

A SPIDER that neither the project nor Redis knows is refused; --new allows it.

Exit code: 0 all were pushed, 1 some were not, 2 none was (wrong use, Redis away).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrapy_dist.admin.seed_files import Lines, Tally, read_file
from scrapy_dist.admin.sitemaps import read_sitemap
from scrapy_dist.admin.task_maker import TaskMaker
from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.base.words import count, number
from scrapy_dist.commands import base, options, project
from scrapy_dist.commands.terminal.bar import Bar
from scrapy_dist.exceptions import BadSeed, ConfigurationError, RedisUnavailable

if TYPE_CHECKING:
    from scrapy.settings import Settings

    from scrapy_dist.admin.seeding import SeedMaker, Sower

#: Stands for standard input.
_STDIN = "-"
#: Bad seeds that are shown; the others are counted.
_TOLD = 20


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value")
    return key, value


def _repeated(name: str, metavar: str, about: str, **more: Any) -> options.Option:
    return options.option(
        name, action="append", default=[], metavar=metavar, help=about, **more
    )


_OPTIONS = (
    *options.common(),
    options.late_list("urls", metavar="URL", help="a seed; a URL or a JSON object"),
    _repeated(
        "--file",
        "F",
        "read seeds from the lines of this file, may be gzipped; - is standard"
        " input; may be repeated",
    ),
    _repeated(
        "--sitemap",
        "URL",
        "read URLs from this sitemap, index of sitemaps or robots.txt (http or"
        " https, may be gzipped); may be repeated",
    ),
    _repeated(
        "--meta",
        "K=V",
        "meta of the requests, as text; may be repeated",
        type=_key_and_value,
    ),
    options.option(
        "--priority",
        type=int,
        metavar="N",
        help="priority of the requests, a higher one goes first",
    ),
    options.option(
        "--batch", metavar="NAME", help="make each seed a task of this batch"
    ),
    options.option(
        "--key",
        metavar="KEY",
        help="push to this key, not to the first that the spider reads",
    ),
    options.flag(
        "--new", "push also if neither the project nor Redis knows SPIDER yet"
    ),
    options.option(
        "--skip",
        type=options.whole_number,
        default=0,
        metavar="N",
        help="leave out the first N lines, to go on where a push stopped",
    ),
    options.flag(
        "--strict", "stop at the first seed that is no good, push nothing behind it"
    ),
)


async def _run(settings: Settings, opts: base.Namespace) -> int:
    crawl = project.find_crawl(settings, opts)
    files, tally = _files(opts)
    maker = _maker(crawl, opts)
    user_agent = crawl.settings["USER_AGENT"]
    async with (
        aclosing(_all_lines(opts, files, tally, maker, user_agent)) as lines,
        project.opened(crawl, changes=True),
    ):
        if not opts.new:
            await _require_known(crawl)
        key, where = _key(crawl, opts), crawl.where
        sower: Sower[Any]
        if isinstance(maker, TaskMaker):
            sower = Tasks(crawl).sower(maker, key)
        else:
            sower = crawl.sower(maker, key)
        pushing = _Pushing(sower, opts, Bar(tally))
        if maker.own_form:
            pushing.bar.note(
                f"Note: the spider {crawl.spider} reads seeds in its own way"
                " (make_request_from_data), so only their size is checked."
            )
        await pushing.run(lines)
    base.tell(opts, pushing.as_json(crawl.spider, where, key), pushing.summary(key))
    return base.OK if pushing.is_complete else base.TROUBLE


def _maker(crawl: project.Crawl, opts: base.Namespace) -> SeedMaker | TaskMaker:
    meta, priority = dict(opts.meta), opts.priority
    if opts.batch is None:
        return crawl.seed_maker(meta, priority)
    return TaskMaker(crawl, batch=opts.batch, meta=meta, priority=priority)


async def _require_known(crawl: project.Crawl) -> None:
    try:
        await crawl.require_known()
    except ConfigurationError as e:
        raise ConfigurationError(
            f"{e} --new pushes seeds of a spider that nobody knows yet."
        ) from None


def _key(crawl: project.Crawl, opts: base.Namespace) -> str:
    if opts.key:
        return str(opts.key)
    if not crawl.port.seed_keys:
        raise ConfigurationError(
            f"The spider {crawl.spider!r} reads no seeds: it is no RedisSpider. Make it"
            " one (scrapy_dist.spiders.RedisSpider), or name a key with --key."
        )
    return crawl.port.seed_keys[0]


def _files(opts: base.Namespace) -> tuple[list[tuple[int | Path, str]], Tally]:
    """Files to read, each with its name for people; and what is known of their size.

    Raises ConfigurationError for a file that cannot be read, before anything is pushed.
    """
    names: list[str] = list(opts.file)
    if not (names or opts.urls or opts.sitemap):
        if sys.stdin is None or sys.stdin.isatty():
            raise ConfigurationError(
                "Which seeds? Give URLs, --file F or --sitemap URL, or pipe lines in, for"
                " example: scrapy frontier seed myspider < urls.txt"
            )
        names = [_STDIN]
    files: list[tuple[int | Path, str]] = []
    total: int | None = 0 if not opts.sitemap else None
    for name in names:
        if name == _STDIN:
            files.append((sys.stdin.fileno(), "standard input"))
            total = None
            continue
        path = Path(name)
        if path.is_dir() or not os.access(path, os.R_OK):
            problem = "is a folder" if path.is_dir() else "cannot be read"
            problem = problem if path.exists() else "does not exist"
            raise ConfigurationError(f"The file {name!r} {problem}.")
        files.append((path, name))
        if total is not None:
            total = total + path.stat().st_size if path.is_file() else None
    return files, Tally(total)


async def _all_lines(
    opts: base.Namespace,
    files: list[tuple[int | Path, str]],
    tally: Tally,
    maker: SeedMaker | TaskMaker,
    user_agent: str,
) -> AsyncGenerator[Lines, None]:
    if opts.urls:
        yield Lines("argument", 1, opts.urls)
    for file, name in files:
        async for part in read_file(file, name, maker.rules.max_size, tally):
            yield part
    for url in opts.sitemap:
        async for part in read_sitemap(url, user_agent):
            yield part


class _Pushing:
    """One run of the command, and how far it has come."""

    def __init__(self, sower: Sower[Any], opts: base.Namespace, bar: Bar) -> None:
        self._sower = sower
        self._skip: int = opts.skip
        self._strict: bool = opts.strict
        self._is_sending = False
        self.bar = bar
        #: Lines of all sources that were looked at, and that are dealt with for good.
        self._at = 0
        self._done = 0
        self._bad = 0
        #: Sources that could not be read to their end.
        self._problems = 0
        self._stopped = False

    @property
    def is_complete(self) -> bool:
        """Whether every seed was pushed."""
        return not (self._bad or self._problems or self._stopped)

    async def run(self, source: AsyncIterator[Lines]) -> None:
        """Push all of *source*. What goes wrong is told on stderr at once."""
        try:
            async for part in source:
                await self._push_part(part)
                if self._stopped:
                    break
            await self._push()
        except RedisUnavailable as e:
            self._stopped = True
            self.bar.note(f"scrapy frontier seed: {e}")
            self.bar.note(self._how_to_go_on())
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.bar.note(self._how_to_go_on())
            raise
        finally:
            self.bar.close()

    async def _push_part(self, part: Lines) -> None:
        for i, raw in enumerate(part.lines, part.first):
            self._at += 1
            if self._at <= self._skip:
                self._done = self._at
                continue
            line = raw.strip()
            if isinstance(line, bytes) and (not line or line.startswith(b"#")):
                continue
            try:
                self._sower.take(line)
            except BadSeed as e:
                self._bad += 1
                if self._bad <= _TOLD:
                    self.bar.note(f"{part.source}:{i}: {e}")
                if self._bad == _TOLD and not self._strict:
                    self.bar.note("Bad seeds that come now are counted, and not shown.")
                if self._strict:
                    self._at -= 1
                    await self._push()
                    self._stopped = True
                    self.bar.note(self._how_to_go_on())
                    return
            if self._sower.is_full:
                await self._push()
        if part.problem:
            self._problems += 1
            self.bar.note(f"{part.source}: {part.problem}")

    async def _push(self) -> None:
        self._is_sending = True
        await self._sower.push()
        self._is_sending = False
        self._done = self._at
        self.bar.update(self._sower.pushed)

    def _how_to_go_on(self) -> str:
        text = f"Stopped: {count(self._sower.pushed, 'seed')} pushed. To go on: --skip {self._done}"
        if self._is_sending:
            text += (
                f" (it is not known whether Redis has the {self._sower.waiting} behind"
                f" them; if so: --skip {self._at})"
            )
        return text

    def as_json(self, spider: str, where: str, key: str) -> dict[str, object]:
        return {
            "spider": spider,
            "redis": where,
            "key": key,
            "pushed": self._sower.pushed,
            "new": self._sower.new,
            "bad": self._bad,
            "unreadable_sources": self._problems,
            "complete": self.is_complete,
            "skip": self._done,
        }

    def summary(self, key: str) -> str:
        sower = self._sower
        text = f"{count(sower.pushed, 'seed')} pushed to {key}"
        if sower.new < sower.pushed:
            text += f", {number(sower.pushed - sower.new)} of them were there already"
        if self._bad:
            text += f"; {number(self._bad)} not pushed, see above"
            if self._bad > _TOLD:
                text += f" for the first {_TOLD}"
        return text


SUBCOMMAND = base.Subcommand(
    name="seed",
    summary="push seeds from arguments, files, pipes or sitemaps",
    description=__doc__,
    example="scrapy frontier seed myspider --file urls.txt.gz --priority 10",
    topic="seeds",
    options=_OPTIONS,
    run=_run,
)
