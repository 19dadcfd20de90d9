"""``scrapy frontier export``: a frontier into a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from scrapy_dist.codec import dump_lines
from scrapy_dist.commands import base, files, project
from scrapy_dist.commands.terminal.bar import Counter
from scrapy_dist.commands.terminal.text import clean, count
from scrapy_dist.core.crawl import Exported
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections import Counter as Counts

    from scrapy.settings import Settings

    from scrapy_dist.admin.crawl import Crawl

__all__ = ["STANDARD", "SUBCOMMAND", "tell"]

#: Stands for standard input and output.
STANDARD = "-"

#: What lines are called for people where the type is no adjective, one and many.
_COUNTED = {
    "seed": ("seed", "seeds"),
    "stat": ("stat", "stats"),
    "item": ("item", "items"),
}

_DESCRIPTION = """\
Write the whole frontier of SPIDER to FILE, as JSON lines: fingerprints, requests, seeds, dead
letters and stats, with --items also items. FILE.gz is compressed, - is standard output. FILE
appears when it is complete, and only its owner can read it; one that is there is replaced
only with --overwrite. Memory stays bounded, and nothing in Redis changes.

Best done while the crawl is paused (scrapy frontier pause). While workers are at work the
file is still enough to continue the crawl elsewhere without losing a page; what they do
meanwhile is crawled again there.

Exit code: 0 written, 1 not whole: the frontier changed too fast, or who reads - has gone; 2
wrong use, Redis away."""


def add_options(parser: argparse.ArgumentParser) -> None:
    base.add_common_options(parser)
    parser.add_argument("file", metavar="FILE", help="where to write; - is stdout")
    parser.add_argument("--items", action="store_true", help="export items too")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace FILE if it is there"
    )


async def run(settings: Settings, opts: argparse.Namespace) -> int:
    crawl = project.find_crawl(settings, opts)
    if opts.file != STANDARD:
        files.check_name(Path(opts.file), overwrite=opts.overwrite)
    exported = Exported()
    counter = Counter("lines written")
    async with project.opened(crawl):
        status = await crawl.known_status()
        if status.alive and not status.paused:
            base.warn(
                "export",
                f"{count(len(status.alive), 'worker is', 'workers are')} at work: what is"
                " done meanwhile will be crawled again from this file. See scrapy frontier"
                " pause.",
            )
        try:
            with _written(opts.file, overwrite=opts.overwrite) as file:
                async for lines in crawl.export(exported, items=opts.items):
                    file.write(
                        "".join(f"{dump_lines.dump(x)}\n" for x in lines).encode()
                    )
                    counter.update(sum(exported.counts.values()))
        except BrokenPipeError:
            # Whoever reads has gone, and has not got all: no words, but no success.
            return base.TROUBLE
        finally:
            counter.close()
    if not exported.is_whole:
        base.warn(
            "export",
            "The frontier changed faster than it could be read, so some requests may be"
            " missing. Pause the crawl (scrapy frontier pause) and export it again.",
        )
    if opts.file != STANDARD:
        tell("written", crawl, opts, exported.counts)
    return base.OK if exported.is_whole else base.TROUBLE


def tell(
    word: str,
    crawl: Crawl,
    opts: argparse.Namespace,
    counts: Counts[str],
    **more: object,
) -> None:
    if opts.json:
        numbers = {name: counts[name] for name in dump_lines.TYPES}
        base.write_json({"spider": crawl.spider, "job": crawl.job, **numbers, **more})
        return
    numbers_ = [
        count(counts[n], *_COUNTED.get(n, (n, n)))
        for n in dump_lines.TYPES
        if counts[n]
    ]
    base.write(f"{clean(crawl.name)}: {', '.join(numbers_) or 'nothing'} {word}.")


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
            # See base.write.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
    description=_DESCRIPTION,
    example="scrapy frontier export myspider myspider.jsonl.gz",
    topic="export",
    add_options=add_options,
    run=run,
)
