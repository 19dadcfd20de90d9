"""Take the items of SPIDER out of Redis and write them to standard output, or with -o to the
end of FILE, one JSON object a line. They end when there are none now; with --follow when the
crawl has ended, or has not begun: nothing is left, and no worker is there.

An item is removed from Redis when it is written (to a FILE: when the disk has it). What is not,
because of Ctrl-C, a full disk or a pipe that is closed, is given back, and comes first the next
time. After a kill or a crash some lines may come twice.

An item that is JSON is written as it is, in ASCII. Another one, of an own serializer, becomes
{"frontier_text": "…"}, or {"frontier_base64": "…"} if it is no UTF-8.

Programs that read items at the same time need names of their own (--consumer, or consumer= of
Client.items()): they share the items then.

Exit code: 0 written, also if there was none or if the reader of a pipe has gone; 2 wrong use,
Redis away, FILE cannot be written; 130 Ctrl-C.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from scrapy_dist.admin.items import leave_all
from scrapy_dist.base.waits import in_thread, sleep_until
from scrapy_dist.base.words import clean, count
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common, flag, option, whole_number
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.core.ports import ItemReader

#: What may move a cursor in a terminal, or be several characters in some encoding.
_UNSAFE = re.compile(r"[^ -~]")
_LINE_BREAK = re.compile(r"[\r\n]")
#: The only key of an object that stands for an item that is no JSON: its text; or its
#: bytes, if they are none.
TEXT, BYTES = "frontier_text", "frontier_base64"
#: Stands for standard output.
_STANDARD = "-"
#: The name of this reader, if it is not said: programs have another one.
_CONSUMER = "shell"
#: Seconds after which it is looked whether the crawl has ended, or Ctrl-C was typed.
_LOOK = 0.5
#: Seconds that a write may still take after Ctrl-C: whoever reads the pipe may not.
_GRACE = 1.0


def _check_file(opts: base.Namespace) -> None:
    if opts.file.endswith(".gz"):
        raise ConfigurationError(
            f"-o {clean(opts.file)}: items are written as they come, and not compressed."
            " Leave out .gz, or write to standard output: … | gzip > FILE"
        )


async def _run(crawl: project.Crawl, opts: base.Namespace) -> int:
    await crawl.known_status()
    reader = crawl.port.items(opts.consumer)
    stopped, here = asyncio.Event(), asyncio.current_task()
    assert here is not None

    def stop() -> None:
        """In order; the second time, for Redis may not answer, at once."""
        if stopped.is_set():
            here.cancel()
        stopped.set()

    written = 0
    with base.on_signals(stop, signal.SIGINT, signal.SIGTERM):
        try:
            with _opened(opts.file) as output:
                written = await _copy(crawl, reader, output, opts, stopped)
        except asyncio.CancelledError:
            if not stopped.is_set():
                raise
        except BrokenPipeError:
            base.give_up_output()
        except OSError as e:
            where = "The output" if opts.file == _STANDARD else clean(opts.file)
            raise ConfigurationError(
                f"{where} cannot be written: {e.strerror or e}"
            ) from e
        finally:
            await leave_all([reader])
    if opts.file != _STANDARD:
        names = {"spider": crawl.spider, "job": crawl.job, "items": written}
        text = f"{count(written, 'item')} of {clean(crawl.name)} written."
        base.tell(opts, names, text)
    if stopped.is_set():
        raise KeyboardInterrupt
    return base.OK


async def _copy(
    crawl: project.Crawl,
    reader: ItemReader,
    output: _Output,
    opts: base.Namespace,
    stopped: asyncio.Event,
) -> int:
    """Write items as they come; how many. Raises OSError: the last were not written."""
    written = 0
    is_last = not opts.follow
    while not stopped.is_set() and written != opts.limit:
        timeout = None if is_last else _LOOK
        items = await reader.take(follow=not is_last, timeout=timeout)
        if opts.limit is not None:
            items = items[: opts.limit - written]
        if items:
            if not await _write(output, items, stopped):
                break
            reader.done += len(items)
            written += len(items)
        elif is_last:
            break
        else:
            status = await crawl.status()
            # What came before its end is there now.
            is_last = status.drained and not status.alive
            if not is_last:
                await sleep_until(stopped, _LOOK)
    return written


async def _write(
    output: _Output, items: Sequence[bytes], stopped: asyncio.Event
) -> bool:
    """Whether *items* were written: not if nobody reads on, and *stopped* is set."""
    lines = "".join(f"{line_of(item)}\n" for item in items)
    writing = asyncio.wrap_future(in_thread(partial(output.write, lines.encode())))
    stopping = asyncio.ensure_future(stopped.wait())
    both: set[asyncio.Future[Any]] = {writing, stopping}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not writing.done():
        await asyncio.wait({writing}, timeout=_GRACE)
    output.is_stuck = not writing.done()
    if not output.is_stuck:
        writing.result()
    return not output.is_stuck


class _Output:
    """The end of a file, or a pipe, that has a *number*; None: standard output has none."""

    def __init__(self, number: int | None) -> None:
        self._number = number
        #: Whether a thread is still writing.
        self.is_stuck = False
        self._is_file = False
        if number is not None:
            status = os.fstat(number)
            self._is_file = stat.S_ISREG(status.st_mode)
            if self._is_file and status.st_size:
                self._end_line(number, status.st_size)

    def _end_line(self, number: int, size: int) -> None:
        """Let the last line have an end, if who wrote it was killed."""
        try:
            last = os.pread(number, 1, size - 1)
        except OSError:  # it can only be written to
            return
        if last != b"\n":
            os.write(number, b"\n")

    def write(self, data: bytes) -> None:
        """Also to the disk, if it is a file. Blocks; raises OSError."""
        if self._number is None:
            sys.stdout.buffer.write(data)
            return
        left = memoryview(data)
        while left:
            left = left[os.write(self._number, left) :]
        if self._is_file:
            os.fsync(self._number)


@contextmanager
def _opened(name: str) -> Iterator[_Output]:
    """The file of that *name*, to be appended to; new ones are their owner's alone."""
    if name == _STANDARD:
        try:
            number = sys.stdout.fileno()
        except io.UnsupportedOperation:
            yield _Output(None)
        else:
            yield _Output(number)
        return
    try:
        number = os.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    except PermissionError:
        number = os.open(name, os.O_WRONLY | os.O_APPEND)
    output = _Output(number)
    try:
        yield output
    finally:
        if not output.is_stuck:
            os.close(number)


def line_of(item: bytes) -> str:
    """One line of ASCII: *item* if it is JSON, else an object that holds it.

    Numbers and the order of keys stay as they are written.
    """
    try:
        text = item.decode()
    except UnicodeDecodeError:
        return json.dumps({BYTES: base64.b64encode(item).decode()})
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps({TEXT: text})
    # Beyond ASCII, and breaks of lines between: the first are in strings only, and the
    # latter outside of them.
    return _UNSAFE.sub(_escaped, _LINE_BREAK.sub(" ", text).replace("\t", " ").strip())


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f"


SUBCOMMAND = base.Subcommand(
    name="items",
    summary="take the items out of Redis, as JSON lines",
    description=__doc__,
    example="scrapy frontier items myspider --follow -o items.jsonl",
    topic="client",
    options=(
        *common(a_line_for="item"),
        flag("--follow", "go on until the crawl has ended"),
        option(
            "-o",
            "FILE",
            "where to write, behind what is there; - is standard output",
            dest="file",
            default=_STANDARD,
        ),
        option(
            "--limit", "N", "take N items at the most", short="-n", type=whole_number
        ),
        option(
            "--consumer",
            "NAME",
            f"name of this reader; {_CONSUMER} without it",
            default=_CONSUMER,
        ),
    ),
    run=project.of_crawl(_run, changes=True, check=_check_file),
)
