"""Bring FILE, which `scrapy frontier export` wrote, into the frontier of SPIDER; - is standard
input. What was leased becomes pending. Start workers when it is done. If it is interrupted,
import the same file again: it goes on where it was.

A frontier that is not empty is refused, unless --merge: then the requests of FILE come on
top, also those that the frontier knows.

--from-scrapy-redis PREFIX, instead of FILE, takes over what scrapy-redis keeps in the same
Redis: PREFIX:requests, PREFIX:dupefilter and PREFIX:start_urls. Stop its workers first, and
say it inside the project. Its requests are pickles, and reading a pickle runs code of whoever
could write to that Redis: only with --allow-pickle. Its fingerprints are of its own kind; to
make use of them, set REQUEST_FINGERPRINTER_CLASS to
"scrapy_dist.fingerprints.ScrapyRedisFingerprinter". What cannot be converted stays in its
place.

Exit code: 0 all is in, 1 something is left out, 2 nothing was done (wrong use, Redis away).
"""

from __future__ import annotations

import gzip
import itertools
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, cast

from scrapy.utils.misc import load_object
from scrapy.utils.project import inside_project

from scrapy_dist.base.words import clean, count, number
from scrapy_dist.commands import base, project
from scrapy_dist.commands.export import STANDARD, tell
from scrapy_dist.commands.options import common, flag, late_list, option
from scrapy_dist.commands.terminal.bar import counter
from scrapy_dist.core.crawl import Imported, TakenOver
from scrapy_dist.exceptions import BadPayload, ConfigurationError
from scrapy_dist.fingerprints import ScrapyRedisFingerprinter

#: Bytes of a line for each byte of a request, and for all that is beside it: what takes
#: one byte in Redis takes up to seven in JSON.
_PER_BYTE, _BESIDE = 8, 65_536

_warn = partial(base.warn, "import")


def _check(opts: base.Namespace) -> None:
    if len(opts.files) + (opts.prefix is not None) != 1:
        raise ConfigurationError(
            "Import what? Name one file of scrapy frontier export, or"
            " --from-scrapy-redis with the prefix of its keys."
        )


async def _run(crawl: project.Crawl, opts: base.Namespace) -> int:
    if inside_project():
        await crawl.require_known()
    status = await crawl.status()
    if status.alive and not opts.force:
        of, alive = f"of {crawl.name}", len(status.alive)
        raise ConfigurationError(
            f"{count(alive, f'worker {of} is', f'workers {of} are')} alive. Stop them (scrapy frontier workers"
            f" {crawl.words} --stop all) and start them when all is in, or say --force."
        )
    return await (_import_file if opts.prefix is None else _take_over)(crawl, opts)


async def _import_file(crawl: project.Crawl, opts: base.Namespace) -> int:
    imported = Imported()
    limit = _PER_BYTE * crawl.options.max_payload + _BESIDE
    with _lines_of(opts.files[0], limit) as lines, counter("lines read") as progress:
        async for done in crawl.port.import_lines(lines, imported, merge=opts.merge):
            progress(done)
    if imported.spider.partition(":")[0] != crawl.spider:
        _warn(
            f"The file is of {clean(imported.spider)!r}, and is now of"
            f" {clean(crawl.name)!r}: callbacks that it does not have will fail."
        )
    if not imported.is_complete:
        _warn(
            "The file ends too early: it is truncated. What it held is in; import the"
            " complete file to add the rest, or clear the frontier."
        )
    if not imported.is_whole:
        _warn("The export says that requests may be missing.")
    if imported.homeless:
        _warn(
            f"{count(imported.homeless, 'seed was', 'seeds were')} left out: this spider"
            " reads none."
        )
    tell("imported", crawl, opts, imported.counts, complete=imported.is_complete)
    good = imported.is_complete and imported.is_whole and not imported.homeless
    return base.OK if good else base.TROUBLE


@contextmanager
def _lines_of(name: str, limit: int) -> Iterator[Iterator[bytes]]:
    if name == STANDARD:
        yield _bounded(sys.stdin.buffer, limit)
        return
    path = Path(name)
    try:
        with path.open("rb") as file:
            # A pipe can be read once only.
            is_zipped = file.peek(2)[:2] == b"\x1f\x8b"
            opened = gzip.GzipFile(fileobj=file) if is_zipped else file
            yield _bounded(cast("IO[bytes]", opened), limit)
    except OSError as e:
        raise ConfigurationError(f"{clean(name)} cannot be read: {e}") from e


def _bounded(file: IO[bytes], limit: int) -> Iterator[bytes]:
    """The lines of *file*; one that has no end is not returned, as the file was cut.

    Of one longer than *limit* bytes not more than those are unpacked. Raises BadPayload.
    """
    for line_number in itertools.count(1):
        try:
            line = file.readline(limit + 1)
        except EOFError:  # in the midst of a compressed file
            return
        except (OSError, zlib.error) as e:
            raise ConfigurationError(f"The file cannot be read: {e}") from e
        if not line.endswith(b"\n"):
            if len(line) > limit:
                raise BadPayload(
                    f"Line {line_number} of the file is longer than {limit} bytes, which is as"
                    " much as a request of FRONTIER_MAX_PAYLOAD bytes can take. If it is"
                    " sound, set FRONTIER_MAX_PAYLOAD higher."
                )
            return
        yield line


async def _take_over(crawl: project.Crawl, opts: base.Namespace) -> int:
    if not opts.allow_pickle:
        raise ConfigurationError(
            f"The requests below {opts.prefix!r} are pickles, and reading a pickle runs"
            " code of whoever could write to that Redis. If you trust all of them, say"
            " --allow-pickle."
        )
    taken = TakenOver()
    with counter("requests taken over") as progress:
        async for done in crawl.take_over(opts.prefix, taken):
            progress(done)
    for reason in taken.reasons:
        _warn(reason)
    fingerprinter = load_object(crawl.settings["REQUEST_FINGERPRINTER_CLASS"])
    if taken.has_fingerprints and fingerprinter is not ScrapyRedisFingerprinter:
        _warn(
            "The fingerprints are scrapy-redis' own. Unless REQUEST_FINGERPRINTER_CLASS is"
            ' "scrapy_dist.fingerprints.ScrapyRedisFingerprinter", pages that were'
            " crawled before are crawled again where something links to them."
        )
    base.tell(
        opts,
        {"spider": crawl.spider, "job": crawl.job, **asdict(taken)},
        f"{clean(crawl.name)}: {count(taken.requests, 'request')},"
        f" {count(taken.fingerprints, 'fingerprint')} and"
        f" {count(taken.seeds, 'seed')} taken over, {number(taken.left)} left.",
    )
    return base.TROUBLE if taken.left else base.OK


SUBCOMMAND = base.Subcommand(
    name="import",
    summary="bring a file of export, or scrapy-redis' frontier, in",
    description=__doc__,
    example="scrapy frontier import myspider myspider.jsonl.gz",
    topic="export",
    options=(
        *common(),
        late_list("files", "FILE", "what to read; - is stdin"),
        flag("--merge", "into a frontier that is not empty"),
        flag("--force", "also while workers are alive"),
        option(
            "--from-scrapy-redis",
            "PREFIX",
            "take over the keys PREFIX:requests, … of scrapy-redis",
            dest="prefix",
        ),
        flag(
            "--allow-pickle",
            "read its pickles, though that runs code of whoever wrote them",
        ),
    ),
    run=project.of_crawl(_run, changes=True, check=_check),
)
