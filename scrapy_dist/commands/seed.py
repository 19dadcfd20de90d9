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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrapy_dist.admin.seed_files import Lines, Tally, read_file
from scrapy_dist.admin.sitemaps import read_sitemap
from scrapy_dist.admin.task_maker import TaskMaker
from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.base.words import count, number
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import (
    common,
    flag,
    late_list,
    option,
    repeated,
    whole_number,
)
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


_OPTIONS = (
    *common(),
    late_list("urls", "URL", "a seed; a URL or a JSON object"),
    repeated(
        "--file",
        "F",
        "read seeds from the lines of this file, may be gzipped; - is standard"
        " input; may be repeated",
    ),
    repeated(
        "--sitemap",
        "URL",
        "read URLs from this sitemap, index of sitemaps or robots.txt (http or"
        " https, may be gzipped); may be repeated",
    ),
    repeated(
        "--meta",
        "K=V",
        "meta of the requests, as text; may be repeated",
        type=_key_and_value,
    ),
    option(
        "--priority", "N", "priority of the requests, a higher one goes first", type=int
    ),
    option("--batch", "NAME", "make each seed a task of this batch"),
    option("--key", "KEY", "push to this key, not to the first that the spider reads"),
    flag("--new", "push also if neither the project nor Redis knows SPIDER yet"),
    option(
        "--skip",
        "N",
        "leave out the first N lines, to go on where a push stopped",
        type=whole_number,
        default=0,
    ),
    flag("--strict", "stop at the first seed that is no good, push nothing behind it"),
)


async def _run(settings: Settings, opts: base.Namespace) -> int:
    crawl = project.find_crawl(settings, opts)
    files, tally = _files(opts)
    meta, priority = dict(opts.meta), opts.priority
    maker: SeedMaker | TaskMaker = crawl.seed_maker(meta, priority)
    if opts.batch is not None:
        maker = TaskMaker(crawl, batch=opts.batch, meta=meta, priority=priority)
    most, user_agent = maker.rules.max_size, crawl.settings["USER_AGENT"]
    async with (
        aclosing(_all_lines(opts, files, tally, most, user_agent)) as lines,
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
        pushing = _Pushing(sower, Bar(tally), opts.skip, opts.strict)
        if maker.own_form:
            pushing.bar.note(
                f"Note: the spider {crawl.spider} reads seeds in its own way"
                " (make_request_from_data), so only their size is checked."
            )
        await pushing.run(lines)
    base.tell(opts, pushing.as_json(crawl.spider, where, key), pushing.summary(key))
    return base.OK if pushing.is_complete else base.TROUBLE


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
    most: int,
    user_agent: str,
) -> AsyncGenerator[Lines, None]:
    if opts.urls:
        yield Lines("argument", 1, opts.urls)
    for file, name in files:
        async for part in read_file(file, name, most, tally):
            yield part
    for url in opts.sitemap:
        async for part in read_sitemap(url, user_agent):
            yield part


@dataclass
class _Pushing:
    """One run of the command, and how far it has come."""

    sower: Sower[Any]
    bar: Bar
    skip: int
    is_strict: bool
    #: Lines of all sources that were looked at, and that are dealt with for good.
    at: int = 0
    done: int = 0
    #: Bad seeds, and sources that could not be read to their end.
    bad: int = 0
    problems: int = 0
    is_sending: bool = False
    is_stopped: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every seed was pushed."""
        return not (self.bad or self.problems or self.is_stopped)

    async def run(self, source: AsyncIterator[Lines]) -> None:
        """Push all of *source*. What goes wrong is told on stderr at once."""
        try:
            async for part in source:
                await self._push_part(part)
                if self.is_stopped:
                    break
            await self._push()
        except RedisUnavailable as e:
            self.bar.note(f"scrapy frontier seed: {e}")
            self._stop()
        except (asyncio.CancelledError, KeyboardInterrupt):
            self._stop()
            raise
        finally:
            self.bar.close()

    async def _push_part(self, part: Lines) -> None:
        for i, raw in enumerate(part.lines, part.first):
            self.at += 1
            if self.at <= self.skip:
                self.done = self.at
                continue
            line = raw.strip()
            if isinstance(line, bytes) and (not line or line.startswith(b"#")):
                continue
            try:
                self.sower.take(line)
            except BadSeed as e:
                self.bad += 1
                if self.bad <= _TOLD:
                    self.bar.note(f"{part.source}:{i}: {e}")
                if self.bad == _TOLD and not self.is_strict:
                    self.bar.note("Bad seeds that come now are counted, and not shown.")
                if self.is_strict:
                    self.at -= 1
                    await self._push()
                    self._stop()
                    return
            if self.sower.is_full:
                await self._push()
        if part.problem:
            self.problems += 1
            self.bar.note(f"{part.source}: {part.problem}")

    async def _push(self) -> None:
        self.is_sending = True
        await self.sower.push()
        self.is_sending = False
        self.done = self.at
        self.bar.update(self.sower.pushed)

    def _stop(self) -> None:
        """Stop here, and say how to go on."""
        self.is_stopped = True
        text = f"Stopped: {count(self.sower.pushed, 'seed')} pushed. To go on: --skip {self.done}"
        if self.is_sending:
            text += (
                f" (it is not known whether Redis has the {self.sower.waiting} behind"
                f" them; if so: --skip {self.at})"
            )
        self.bar.note(text)

    def as_json(self, spider: str, where: str, key: str) -> dict[str, object]:
        return {
            "spider": spider,
            "redis": where,
            "key": key,
            "pushed": self.sower.pushed,
            "new": self.sower.new,
            "bad": self.bad,
            "unreadable_sources": self.problems,
            "complete": self.is_complete,
            "skip": self.done,
        }

    def summary(self, key: str) -> str:
        sower = self.sower
        text = f"{count(sower.pushed, 'seed')} pushed to {key}"
        if sower.new < sower.pushed:
            text += f", {number(sower.pushed - sower.new)} of them were there already"
        if self.bad:
            text += f"; {number(self.bad)} not pushed, see above"
            if self.bad > _TOLD:
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
