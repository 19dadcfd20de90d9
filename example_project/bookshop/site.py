"""Serves the bookshop on this machine and counts every request.

``python -m bookshop.site`` shows the shop on http://127.0.0.1:8000/.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from bookshop.catalogue import CATEGORIES, KINDS, STYLE, Catalogue, Page

#: Where the counts are read; not part of the shop.
REPORT_PATH = "/-/report"

_EXTRAS = (
    Page("/style.css", "extra", STYLE, "text/css"),
    Page("/robots.txt", "extra", b"User-agent: *\nDisallow: /-/\n", "text/plain"),
)
_UNKNOWN = Page("", "extra", b"No such page.\n", "text/plain", status=404)


class Counts:
    """Who asked for which page: path -> names of the workers, in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visits: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, path: str, user_agent: str) -> None:
        """Count one request; the last word of *user_agent* is the worker's name."""
        worker = (user_agent.split() or ["?"])[-1]
        with self._lock:
            self._visits[path].append(worker)

    def as_json(self) -> bytes:
        with self._lock:
            return json.dumps(self._visits).encode()


class BookshopServer(ThreadingHTTPServer):
    """The shop on a port of 127.0.0.1; port 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, catalogue: Catalogue, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.pages = {page.path: page for page in _EXTRAS} | catalogue.pages
        self.counts = Counts()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BookshopServer
    # Header and body leave in one packet.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == REPORT_PATH:
            report = self.server.counts.as_json()
            self._answer(Page(path, "extra", report, "application/json"))
            return
        page = self.server.pages.get(path, _UNKNOWN)
        if page.kind in KINDS or page is _UNKNOWN:
            self.server.counts.add(path, self.headers.get("User-Agent", ""))
        time.sleep(page.delay)
        self._answer(page)

    def handle(self) -> None:
        # A killed worker leaves its connections half way.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def _answer(self, page: Page) -> None:
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        if page.location:
            self.send_header("Location", page.location)
        self.end_headers()
        self.wfile.write(page.body)

    def finish(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().finish()

    def log_message(self, *args: object) -> None:
        """Quiet: the counts say what was asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000, help="0: any free port")
    parser.add_argument("--categories", type=int, default=len(CATEGORIES))
    parser.add_argument("--books", type=int, default=40, help="in each category")
    parser.add_argument(
        "--until-eof", action="store_true", help="end when standard input is closed"
    )
    options = parser.parse_args()
    server = BookshopServer(Catalogue(options.categories, options.books), options.port)
    print(server.url, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        if options.until_eof:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            sys.stdin.read()
        else:
            server.serve_forever()


if __name__ == "__main__":
    main()
