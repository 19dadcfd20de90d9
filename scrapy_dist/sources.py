"""Where seeds are read from: files, pipes and sitemaps, in bounded memory.

Everything comes as `Lines`: some lines, or URLs of a sitemap, with the number of the
first. What cannot be read to its end is said in the same way, and the rest goes on.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import stat
import time
import urllib.request
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit

from scrapy.utils.sitemap import Sitemap
from w3lib.url import safe_url_string

from scrapy_dist.exceptions import FrontierError
from scrapy_dist.payload import quote

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Lines", "Tally", "read_file", "read_sitemap"]

#: Bytes read at once, and bytes that a compressed chunk may become at once.
_CHUNK = 1 << 17
_GZIP, _BOM = b"\x1f\x8b", b"\xef\xbb\xbf"

#: Sitemaps inside each other, and sitemaps in all.
_MAX_DEPTH = 5
_MAX_SITEMAPS = 50_000
#: Bytes of a sitemap, unpacked. The protocol allows 50 MB: sitemaps.org/protocol.html
_MAX_SITEMAP = 100 << 20
#: Seconds of silence of a server, and seconds for a whole sitemap.
_SILENCE, _PATIENCE = 30.0, 300.0


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
    read: int = field(default=0)


class _Unreadable(FrontierError):
    """Why a source cannot be read, or not to its end."""


# Files and pipes


async def read_file(
    file: int | Path, name: str, max_line: int, tally: Tally
) -> AsyncIterator[Lines]:
    """The lines of a path, or of an open file descriptor; gunzipped if need be.

    A line longer than *max_line* bytes comes cut to one byte more.
    """
    number, unpacker, splitter = 1, _Unpacker(), _Splitter(max_line)
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
    except (OSError, zlib.error, _Unreadable) as e:
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
            chunk = os.read(descriptor, _CHUNK)
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
        self._rest = b""
        self._cut = False
        self._is_first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        if self._cut:
            # The beginning of a line that is too long waits in _rest.
            _, newline, chunk = chunk.partition(b"\n")
            if not newline:
                return []
            chunk = newline + chunk
            self._cut = False
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > self._max:
            self._rest = self._rest[: self._max + 1]
            self._cut = True
        return self._unmarked([line[: self._max + 1] for line in lines])

    def end(self) -> list[bytes]:
        return self._unmarked([self._rest] if self._rest else [])

    def _unmarked(self, lines: list[bytes]) -> list[bytes]:
        if self._is_first and lines:
            self._is_first = False
            lines[0] = lines[0].removeprefix(_BOM)
        return lines


class _Unpacker:
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
        while data:
            if self._member.eof:
                data = data.lstrip(b"\x00")  # padding between and behind members
                if not data:
                    return
                self._member = zlib.decompressobj(31)
            yield self._member.decompress(data, _CHUNK)
            data = self._member.unconsumed_tail or self._member.unused_data

    def end(self) -> bytes:
        """What is left. Raises _Unreadable if something is missing."""
        if self._packed and not self._member.eof:
            raise _Unreadable("what was gzipped is cut off")
        return self._head


# Sitemaps


async def read_sitemap(url: str, user_agent: str) -> AsyncIterator[Lines]:
    """The URLs of the sitemap *url*, of those that it refers to, or that robots.txt names.

    Sitemaps come in their order; one that was read already is not read again.
    """
    seen = {url}
    waiting = [(url, 1)]
    while waiting:
        url, depth = waiting.pop()
        try:
            is_index, urls = await asyncio.to_thread(_read_one, url, user_agent)
        except _Unreadable as e:
            yield Lines(_shown(url), problem=str(e))
            continue
        if not is_index:
            yield Lines(_shown(url), 1, urls)
            continue
        children = [child for child in dict.fromkeys(urls) if child not in seen]
        problem = ""
        if depth == _MAX_DEPTH:
            problem = f"sitemaps inside each other, more than {_MAX_DEPTH}"
        elif len(seen) + len(children) > _MAX_SITEMAPS:
            problem = f"leads to more than {_MAX_SITEMAPS} sitemaps"
        if problem:
            yield Lines(_shown(url), problem=problem)
            continue
        seen.update(children)
        waiting += [(child, depth + 1) for child in reversed(children)]


def _shown(url: str) -> str:
    return quote(url, 200)[1:-1]


def _read_one(url: str, user_agent: str) -> tuple[bool, list[str]]:
    """Whether *url* is an index of sitemaps, and the URLs in it. Raises _Unreadable."""
    return _urls_in(url, _fetch(url, user_agent))


def _urls_in(url: str, body: bytes) -> tuple[bool, list[str]]:
    """As `_read_one`, of the *body* of *url*."""
    if urlsplit(url).path == "/robots.txt":
        named = re.findall(rb"(?im)^\s*sitemap:[ \t]*(\S+)", body)
        return True, [urljoin(url, name.decode("utf-8", "replace")) for name in named]
    try:
        sitemap = Sitemap(body)
        if sitemap.type not in ("urlset", "sitemapindex"):
            raise _Unreadable(f"is no sitemap, but XML or HTML: {quote(sitemap.type)}")
        is_index = sitemap.type == "sitemapindex"
        urls = [entry["loc"] for entry in sitemap if entry.get("loc")]
    except (StopIteration, SyntaxError):
        raise _Unreadable("is no sitemap: it is not XML") from None
    return is_index, [urljoin(url, found) for found in urls] if is_index else urls


def _fetch(url: str, user_agent: str) -> bytes:
    """The body of *url*, unpacked. Raises _Unreadable."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _Unreadable("is no http or https URL")
        if "@" in parts.netloc:
            raise _Unreadable("has a user name; that is not supported")
        headers = {"User-Agent": user_agent, "Accept-Encoding": "gzip"}
        request = urllib.request.Request(safe_url_string(url), headers=headers)  # noqa: S310
        with _OPENER.open(request, timeout=_SILENCE) as response:
            return _read_body(response)
    except HTTPError as e:
        e.close()
        raise _Unreadable(f"answers HTTP {e.code}") from None
    except (OSError, http.client.HTTPException, ValueError, zlib.error) as e:
        raise _Unreadable(f"cannot be read: {quote(str(e) or repr(e), 200)}") from None


def _read_body(response: http.client.HTTPResponse) -> bytes:
    deadline = time.monotonic() + _PATIENCE
    unpacker, body = _Unpacker(), bytearray()
    while packed := response.read1(_CHUNK):
        for chunk in unpacker.feed(packed):
            body += chunk
            if len(body) > _MAX_SITEMAP:
                raise _Unreadable(f"has more than {_MAX_SITEMAP >> 20} MB")
        if time.monotonic() > deadline:
            raise _Unreadable(f"takes longer than {_PATIENCE:g} seconds")
    if response.length:
        raise _Unreadable("is cut off")
    return bytes(body + unpacker.end())


def _opener() -> urllib.request.OpenerDirector:
    """An opener of http and https only: a redirect must not lead to a file."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


_OPENER = _opener()
