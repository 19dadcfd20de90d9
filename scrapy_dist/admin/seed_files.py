"""Where seeds are read from: files and pipes, in bounded memory; sitemaps: see there.

Everything comes as `Lines`: some lines, or URLs of a sitemap, with the number of the
first. What cannot be read to its end is said in the same way, and the rest goes on.
"""

from __future__ import annotations

import asyncio
import os
import stat
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scrapy_dist.exceptions import FrontierError

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes read at once, and bytes that a compressed chunk may become at once.
CHUNK = 1 << 17
#: Bytes that are unpacked at once.
_PACKED = 1 << 12
_GZIP, _BOM = b"\x1f\x8b", b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Lines:
    """*lines* of *source*, the first of which has the number *first* (from 1).

    *problem*: the source cannot be read, or not beyond these lines.
    """

    source: str
    first: int = 1
    #: Text, where the source says how its bytes are to be read.
    lines: Sequence[bytes | str] = ()
    problem: str = ""


@dataclass
class Tally:
    """How much of all files has been read, in bytes as stored."""

    #: None: there is a source whose size is not known.
    total: int | None = 0
    read: int = 0


class Unreadable(FrontierError):
    """Why a source cannot be read, or not to its end."""


async def read_file(
    file: int | Path, name: str, max_line: int, tally: Tally
) -> AsyncIterator[Lines]:
    """The lines of a path, or of an open file descriptor; gunzipped if need be.

    A line longer than *max_line* bytes comes cut to one byte more.
    """
    number, unpacker, splitter = 1, Unpacker(), _Splitter(max_line)
    problem = ""
    descriptor = -1
    try:
        descriptor = file if isinstance(file, int) else os.open(file, os.O_RDONLY)
        async for packed in _chunks(descriptor):
            tally.read += len(packed)
            for chunk in unpacker.feed(packed):
                lines = splitter.feed(chunk)
                if lines:
                    yield Lines(name, number, lines)
                    number += len(lines)
        if lines := splitter.feed(unpacker.end()):
            yield Lines(name, number, lines)
            number += len(lines)
    except (OSError, zlib.error, Unreadable) as e:
        problem = f"cannot be read any further: {getattr(e, 'strerror', None) or e}"
    finally:
        if descriptor >= 0 and not isinstance(file, int):
            os.close(descriptor)
    # The end of what is cut off may be half a URL.
    rest = [] if problem else splitter.end()
    if rest or problem:
        yield Lines(name, number, rest, problem)


async def _chunks(descriptor: int) -> AsyncIterator[bytes]:
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    while True:
        # A blocking read would not be ended by Ctrl-C.
        await (asyncio.sleep(0) if is_file else _readable(descriptor))
        with suppress(BlockingIOError):
            chunk = os.read(descriptor, CHUNK)
            if not chunk:
                return
            yield chunk


async def _readable(descriptor: int) -> None:
    """Wait until *descriptor* has something to read, or its end."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    try:
        loop.add_reader(descriptor, _wake, ready)
    except OSError:
        return  # nothing that one waits for, such as /dev/null
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class _Splitter:
    """Chunks of bytes in, whole lines out, without a byte order mark in front."""

    def __init__(self, max_line: int) -> None:
        self._max = max_line
        #: The beginning of a line, as it came: joining it each time would cost its square.
        self._rest: list[bytes] = []
        self._length = 0
        self._cut = False
        self._is_first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        head, newline, chunk = chunk.partition(b"\n")
        if not self._cut:
            self._rest.append(head)
            self._length += len(head)
            if self._length > self._max:
                self._rest = [b"".join(self._rest)[: self._max + 1]]
                self._cut = True
        if not newline:
            return []
        first = b"".join(self._rest)
        lines = [first, *chunk.split(b"\n")]
        rest = lines.pop()[: self._max + 1]
        self._rest, self._length, self._cut = [rest], len(rest), len(rest) > self._max
        return self._unmarked([line[: self._max + 1] for line in lines])

    def end(self) -> list[bytes]:
        rest = b"".join(self._rest)
        return self._unmarked([rest] if rest else [])

    def _unmarked(self, lines: list[bytes]) -> list[bytes]:
        if self._is_first and lines:
            self._is_first = False
            lines[0] = lines[0].removeprefix(_BOM)
        return lines


class Unpacker:
    """Gunzips what begins like gzip, and hands on what does not."""

    def __init__(self) -> None:
        self._head = b""
        self._packed: bool | None = None
        self._member = zlib.decompressobj(31)

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._packed is None:
            data = self._head + data
            if len(data) < len(_GZIP):
                self._head = data
                return
            self._head = b""
            self._packed = data.startswith(_GZIP)
        if not self._packed:
            yield data
            return
        # Of what is not unpacked yet zlib makes a copy each time.
        for at in range(0, len(data), _PACKED):
            yield from self._unpack(data[at : at + _PACKED])

    def _unpack(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                data = data.lstrip(b"\x00")  # padding between and behind members
                if not data:
                    return
                self._member = zlib.decompressobj(31)
            yield self._member.decompress(data, CHUNK)
            data = self._member.unconsumed_tail or self._member.unused_data

    def end(self) -> bytes:
        """What is left. Raises Unreadable if something is missing."""
        if self._packed and not self._member.eof:
            raise Unreadable("what was gzipped is cut off")
        return self._head
