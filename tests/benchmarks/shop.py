"""A loopback web site that costs next to nothing, in a process of its own.

Every answer is bytes that were built once, so that the site is not what is measured:

    /shop/SIZE/N     page N of a shop: 20 links, of which one is new on average
    /chain/SIZE/N    links to page N + 1 only
    /later/SIZE/N    the same, answered after `LATER`
    /seed/N          no link; its arrival is noted

`Shop.load` says what it took of a core.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).resolve().parents[2]
#: Links of a shop's page, and how many of them stand on every page (its menu).
LINKS, MENU = 20, 5
#: Seconds after which /later/ pages are answered.
LATER = 0.01


class Shop:
    """The site, from the process that measures; ends with the ``with`` block."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.shop"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._process.kill()
        self._process.communicate()

    def arrivals(self) -> dict[str, float]:
        """Path -> `time.monotonic` of its (last) arrival, for /seed/ pages."""
        found: dict[str, float] = self._ask("arrivals")
        return found

    def load(self) -> dict[str, float]:
        """``requests`` so far, and ``cpu`` seconds and wall ``clock`` of the site."""
        found: dict[str, float] = self._ask("load")
        return found

    def _ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/_/{what}") as reply:
            return json.load(reply)


def links(kind: str, size: int, n: int) -> list[str]:
    """The links of one page."""
    if kind == "shop":
        own = LINKS - MENU
        numbers = [*range(MENU), *((n * own + i) % size for i in range(1, own + 1))]
    elif kind in ("chain", "later"):
        numbers = [n + 1] if n + 1 < size else []
    else:
        numbers = []
    return [f"/{kind}/{size}/{number}" for number in numbers]


def _reply(body: str, kind: str = "text/html; charset=utf-8") -> bytes:
    data = body.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}"
    return f"{head}\r\n\r\n".encode() + data


@cache
def page(path: bytes) -> bytes:
    """The whole answer to a GET of *path*."""
    kind, *numbers = path.decode().strip("/").split("/")
    if kind == "seed":
        return _reply(f"<html><body>{path.decode()}</body></html>")
    size, n = map(int, numbers)
    anchors = "\n".join(
        f'<li><a class="product" href="{link}">Product {link}</a></li>'
        for link in links(kind, size, n)
    )
    return _reply(
        f"<html><head><title>{kind} {n}</title></head><body><ul>\n{anchors}\n</ul>"
        "</body></html>"
    )


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive for GET requests without a body."""

    requests = 0
    arrivals: dict[str, float] = {}

    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            path = self._data.split(b" ", 2)[1]
            self._data = self._data[end + 4 :]
            answer = self._answer(path)
            if path.startswith(b"/later/"):
                loop = asyncio.get_running_loop()
                loop.call_later(LATER, self._transport.write, answer)
            else:
                self._transport.write(answer)

    def _answer(self, path: bytes) -> bytes:
        if path.startswith(b"/_/"):
            return _reply(json.dumps(self._facts(path)), "application/json")
        cls = type(self)
        cls.requests += 1
        if path.startswith(b"/seed/"):
            cls.arrivals[path.decode()] = time.monotonic()
        return page(path)

    def _facts(self, path: bytes) -> dict[str, float]:
        if path == b"/_/arrivals":
            return self.arrivals
        return {
            "requests": self.requests,
            "cpu": time.process_time(),
            "clock": time.monotonic(),
        }


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The parent holds our standard input: end with it, however it ends.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
