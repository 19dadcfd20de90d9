"""URLs of sitemaps, in bounded time and memory: as `Lines`, see `seed_files`."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
import urllib.request
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit

import lxml.etree
from w3lib.url import safe_url_string

from scrapy_dist.admin.seed_files import CHUNK, Lines, Unpacker, Unreadable
from scrapy_dist.base.escaping import quote
from scrapy_dist.base.words import clean, span
from scrapy_dist.codec.sizes import flaw_of_url

#: Bytes of XML that become elements at once.
_XML = 1 << 14
#: Sitemaps inside each other, and sitemaps in all.
_MAX_DEPTH = 5
_MAX_SITEMAPS = 50_000
#: Bytes of a sitemap, unpacked, and URLs in it. The protocol allows 50 MB and 50,000:
#: sitemaps.org/protocol.html
_MAX_SITEMAP, _MAX_ENTRIES = 100 << 20, 500_000
#: Bytes of a robots.txt; 500 KB are the least that have to be read (RFC 9309, 2.5).
_MAX_ROBOTS = 5 << 20
#: URLs of all sitemaps that one leads to.
_MAX_URLS = 50_000_000
#: Seconds of silence of a server; and seconds for a whole sitemap, from looking the host
#: up to the end of its body, however its bytes trickle in.
_SILENCE, _PATIENCE = 30.0, 300.0


async def read_sitemap(url: str, user_agent: str) -> AsyncIterator[Lines]:
    """The URLs of the sitemap *url*, of those that it refers to, or that robots.txt names.

    Sitemaps come in their order; one that was read already is not read again.
    """
    seen = {url}
    waiting = [(url, 1)]
    found = 0
    while waiting:
        url, depth = waiting.pop()
        deadline = Deadline(_PATIENCE)
        try:
            is_index, urls = await asyncio.to_thread(
                _read_one, url, user_agent, deadline
            )
        except Unreadable as e:
            yield Lines(clean(url), problem=str(e))
            continue
        finally:
            # Also at Ctrl-C, which would wait for the thread.
            deadline.end()
        if not is_index:
            found += len(urls)
            if found > _MAX_URLS:
                problem = f"leads to more than {_MAX_URLS:,} URLs; the rest is left out"
                yield Lines(clean(url), problem=problem)
                return
            yield Lines(clean(url), 1, urls)
            continue
        children = [child for child in dict.fromkeys(urls) if child not in seen]
        problem = ""
        if depth == _MAX_DEPTH:
            problem = f"sitemaps inside each other, more than {_MAX_DEPTH}"
        elif len(seen) + len(children) > _MAX_SITEMAPS:
            problem = f"leads to more than {_MAX_SITEMAPS} sitemaps"
        if problem:
            yield Lines(clean(url), problem=problem)
            continue
        seen.update(children)
        waiting += [(child, depth + 1) for child in reversed(children)]


def _read_one(url: str, user_agent: str, deadline: Deadline) -> tuple[bool, list[str]]:
    return _urls_in(url, _fetch(url, user_agent, deadline), deadline)


def _urls_in(
    url: str, body: bytes, deadline: Deadline | None = None
) -> tuple[bool, list[str]]:
    """Whether *body* of *url* is an index of sitemaps, and the URLs in it.

    Linear in its length. Raises Unreadable.
    """
    if urlsplit(url).path == "/robots.txt":
        named = _named_in_robots(body)
        return True, [_joined(url, name.decode("utf-8", "replace")) for name in named]
    reader = _SitemapReader()
    with suppress(SyntaxError):  # what came before it counts
        for at in range(0, len(body), _XML):
            reader.feed(body[at : at + _XML])
            if deadline is not None:
                deadline.check()
    if reader.type not in ("urlset", "sitemapindex"):
        if not reader.type:
            raise Unreadable("is no sitemap: it is not XML")
        raise Unreadable(f"is no sitemap, but XML or HTML: {quote(reader.type)}")
    if reader.type == "sitemapindex":
        return True, [_joined(url, found) for found in reader.urls]
    return False, reader.urls


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError:
        return url  # whoever fetches it says what is wrong


def _named_in_robots(body: bytes) -> list[bytes]:
    if len(body) > _MAX_ROBOTS:
        raise Unreadable(f"has more than {_MAX_ROBOTS >> 20} MB")
    named = []
    for line in body.splitlines():
        name, colon, rest = line.partition(b":")
        if colon and name.strip().lower() == b"sitemap" and (words := rest.split()):
            named.append(words[0])
    return named


class _SitemapReader:
    """Takes the URLs out of a sitemap, and keeps nothing else of it in memory."""

    def __init__(self) -> None:
        self._parser = lxml.etree.XMLPullParser(
            ("start", "end"),
            recover=True,
            resolve_entities=False,
            no_network=True,
            collect_ids=False,
            remove_blank_text=True,
            remove_comments=True,
            remove_pis=True,
        )
        self._depth = 0
        self._loc = ""
        #: Name of the outermost element.
        self.type = ""
        self.urls: list[str] = []

    def feed(self, chunk: bytes) -> None:
        """Raises SyntaxError, and Unreadable for too many URLs."""
        self._parser.feed(chunk)
        for event, element in self._parser.read_events():
            if event == "start":
                if not self._depth:
                    self.type = _local_name(element)
                self._depth += 1
            else:
                self._depth -= 1
                self._take(element)

    def _take(self, element: Any) -> None:
        """Of an *element* that ended: 1 is the depth of entries, 2 of what is in one."""
        if self._depth == 2 and _local_name(element) == "loc":
            self._loc = (element.text or "").strip()
        elif self._depth == 1 and self._loc:
            self.urls.append(self._loc)
            self._loc = ""
            if len(self.urls) > _MAX_ENTRIES:
                raise Unreadable(f"has more than {_MAX_ENTRIES:,} URLs")
        element.clear()
        parent = element.getparent()
        while parent is not None and element.getprevious() is not None:
            del parent[0]


def _local_name(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


class Deadline:
    """An end for all that is done over some connections, *seconds* from now.

    A server can keep a client with single bytes, in headers and in TLS, too, for as long
    as it likes. So a timer shuts the connections, which ends whatever waits for them.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._is_over = False
        self._timer = threading.Timer(seconds, self.end)
        self._timer.daemon = True
        self._timer.start()

    def connect(
        self, address: tuple[str, int], timeout: object = None, source: Any = None
    ) -> socket.socket:
        """As ``socket.create_connection``; the connection ends with this."""
        left = max(0.01, min(_SILENCE, self._at - time.monotonic()))
        connection = socket.create_connection(address, left, source)
        connection.settimeout(_SILENCE)
        with self._lock:
            # TLS takes the socket itself away.
            self._sockets.append(connection.dup())
            is_over = self._is_over
        if is_over:
            self.end()
        return connection

    def check(self) -> None:
        """Raise Unreadable if it is past."""
        if self._is_over or time.monotonic() > self._at:
            raise Unreadable(f"takes longer than {span(self._seconds)}")

    def end(self) -> None:
        """Shut the connections; may be called again."""
        self._timer.cancel()
        with self._lock:
            self._is_over = True
            while self._sockets:
                connection = self._sockets.pop()
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()


def _fetch(url: str, user_agent: str, deadline: Deadline) -> bytes:
    """The body of *url*, unpacked. Raises Unreadable."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreadable("is no http or https URL")
        if "@" in parts.netloc:
            raise Unreadable("has a user name; that is not supported")
        if flaw := flaw_of_url(url):
            raise Unreadable(flaw)
        headers = {"User-Agent": user_agent, "Accept-Encoding": "gzip"}
        request = urllib.request.Request(safe_url_string(url), headers=headers)  # noqa: S310
        with _opener(deadline).open(request, timeout=_SILENCE) as response:
            body = _read_body(response, deadline)
        deadline.check()  # a body without a length ends with its connection
    except HTTPError as e:
        e.close()
        raise Unreadable(f"answers HTTP {e.code}") from None
    except (OSError, http.client.HTTPException, ValueError, zlib.error) as e:
        deadline.check()
        raise Unreadable(f"cannot be read: {quote(str(e) or repr(e), 200)}") from None
    return body


def _read_body(response: http.client.HTTPResponse, deadline: Deadline) -> bytes:
    unpacker, body = Unpacker(), bytearray()
    while packed := response.read1(CHUNK):
        for chunk in unpacker.feed(packed):
            body += chunk
            if len(body) > _MAX_SITEMAP:
                raise Unreadable(f"has more than {_MAX_SITEMAP >> 20} MB")
            deadline.check()
    if response.length:
        raise Unreadable("is cut off")
    return bytes(body + unpacker.end())


class _Http(urllib.request.AbstractHTTPHandler):
    """Asks over connections that end with *deadline*."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connect, http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connect, http.client.HTTPSConnection), req)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def _connect(self, kind: Any, host: str, **kwargs: Any) -> Any:
        connection = kind(host, **kwargs)
        connection._create_connection = self._deadline.connect  # noqa: SLF001
        return connection


def _opener(deadline: Deadline) -> urllib.request.OpenerDirector:
    """An opener of http and https only: a redirect must not lead to a file."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(deadline),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
