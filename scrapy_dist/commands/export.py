"""Write the whole frontier of SPIDER to FILE, as JSON lines: fingerprints, requests, seeds, dead
letters, tasks and stats, with --items also items and the results of tasks. FILE.gz is
compressed, - is standard output. FILE appears when it is complete, and only its owner can read
it; one that is there is replaced only with --overwrite. Memory stays bounded, and nothing in
Redis changes.

Best done while the crawl is paused (scrapy frontier pause). While workers are at work the
file is still enough to continue the crawl elsewhere without losing a page; what they do
meanwhile is crawled again there.

Exit code: 0 written, 1 not whole: the frontier changed too fast, or who reads - has gone; 2
wrong use, Redis away.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from scrapy_dist.base.words import clean, count, counts
from scrapy_dist.codec import dump_lines
from scrapy_dist.commands import base, files, project
from scrapy_dist.commands.options import common, flag, option
from scrapy_dist.commands.terminal.bar import counter
from scrapy_dist.core.crawl import Exported
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections import Counter as Counts


_warn = partial(base.warn, "export")
#: Stands for standard input and output.
STANDARD = "-"

#: What lines are called for people where the type is no adjective: one of them.
_COUNTED = {name: name for name in ("task", "result", "seed", "stat", "item")}


def _check_file(opts: base.Namespace) -> None:
    if opts.file != STANDARD:
        files.check_name(Path(opts.file), overwrite=opts.overwrite)


async def _run(crawl: project.Crawl, opts: base.Namespace) -> int:
    status = await crawl.known_status()
    if status.alive and not status.paused:
        _warn(
            f"{count(len(status.alive), 'worker is', 'workers are')} at work: what is"
            " done meanwhile will be crawled again from this file. See scrapy frontier"
            " pause."
        )
    exported = Exported()
    try:
        with (
            counter("lines written") as progress,
            _written(opts.file, overwrite=opts.overwrite) as file,
        ):
            async for lines in crawl.port.export(exported, items=opts.items):
                file.write("".join(f"{dump_lines.dump(x)}\n" for x in lines).encode())
                progress(sum(exported.counts.values()))
    except BrokenPipeError:
        # Whoever reads has gone, and has not got all: no words, but no success.
        return base.TROUBLE
    if not exported.is_whole:
        _warn(
            "The frontier changed faster than it could be read, so some requests may be"
            " missing. Pause the crawl (scrapy frontier pause) and export it again."
        )
    if opts.file != STANDARD:
        tell("written", crawl, opts, exported.counts)
    return base.OK if exported.is_whole else base.TROUBLE


def tell(
    word: str,
    crawl: project.Crawl,
    opts: base.Namespace,
    counted: Counts[str],
    **more: object,
) -> None:
    numbers = {name: counted[name] for name in dump_lines.TYPES}
    some = {name: value for name, value in numbers.items() if value}
    what = ", ".join(counts(some, _COUNTED)) or "nothing"
    names = {"spider": crawl.spider, "job": crawl.job}
    base.tell(
        opts, {**names, **numbers, **more}, f"{clean(crawl.name)}: {what} {word}."
    )


@contextmanager
def _written(name: str, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """A file for writing that has its name only when it is complete.

    Raises BrokenPipeError if nobody reads standard output any more, else
    ConfigurationError.
    """
    if name == STANDARD:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except OSError as e:
            base.give_up_output()
            if isinstance(e, BrokenPipeError):
                raise
            raise ConfigurationError(f"The output cannot be written: {e}") from e
        return
    try:
        with files.written(Path(name), overwrite=overwrite) as file:
            yield file
    except OSError as e:
        raise ConfigurationError(
            f"{clean(name)} cannot be written: {e.strerror or e}"
        ) from e


SUBCOMMAND = base.Subcommand(
    name="export",
    summary="write the whole frontier to a file",
    description=__doc__,
    example="scrapy frontier export myspider myspider.jsonl.gz",
    topic="export",
    options=(
        *common(),
        option("file", "FILE", "where to write; - is stdout"),
        flag("--items", "export items and results of tasks too"),
        flag("--overwrite", "replace FILE if it is there"),
    ),
    run=project.of_crawl(_run, check=_check_file),
)
