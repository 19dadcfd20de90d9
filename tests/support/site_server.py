"""The loopback web site of the tests; run as ``python -m tests.support.site_server [HOSTS]``.

It listens on 127.0.0.1 and, with HOSTS, on as many more addresses of loopback, at the same
port: each is a host of its own for Scrapy, see `host`.

A page is described by its path, so that the site needs no set-up:

    /tree/SIZE/FAN/N           page N of a tree; every page has one parent only
    /graph/SIZE/LINKS/N        page N links to LINKS others and back to page 0
    /chain/SIZE/N              page N links to page N + 1 only
    /links/PATH,PATH,…         links to these paths (``/`` as ``~``), in this order
    /page/NAME                 a page without links
    /slow/MS/NAME              answers after MS milliseconds
    /redirect/STATUS/PATH      redirects to /PATH
    /status/STATUS/NAME        answers with that status
    /once/STATUS/NAME          the first answer has that status, later ones are 200
    /setcookie/NAME/VALUE/PATH sets a cookie and redirects (302) to /PATH
    /needcookie/NAME/VALUE/X   403 without that cookie
    /form                      a form that posts to /login
    /login                     POST user=u&password=p sets session=open, redirects to
                               /members/0
    /members/N                 403 without session=open; page 0 links to 1 … 20
    /echo/X                    JSON of method, headers and body
    /sitemap/SIZE              a sitemap of /page/map-0 … /page/map-(SIZE - 1)
    /cached/NAME               a page with a long Cache-Control
    /gate/NAME/PATH            links to /PATH (if any); answers when the test opens NAME
    /to/N/PATH                 redirects to /PATH of host N
    /hosts/HOSTS/PAGES[/A/B]   links to PAGES pages of each host, host after host; A, B:
                               they are answered after A (first host) to B ms (last one)

``?delay=MS`` delays any page, /_control/delay?ms=MS all of them. ``?group=NAME`` counts
what is under way as one more of NAME, too. All pages but /echo and /sitemap are HTML. Everything
else, robots.txt too, is 404. Paths below /_control are not counted.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import http
import json
import math
import os
import socket
import struct
import sys
import time
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple


class Site:
    """What the site remembers: one record a request, and which pages were asked for."""

    def __init__(self) -> None:
        self.records: list[dict[str, object]] = []
        self.seen: collections.Counter[str] = collections.Counter()
        self.delay_ms = 0.0
        self.opened: set[str] = set()
        #: How many requests may still be answered.
        self.answers = math.inf
        #: Hosts that answer nothing now, robots.txt by host, and how many requests of each
        #: host or group are under way, and were at the most.
        self.held: set[str] = set()
        self.robots: dict[str, str] = {}
        self.open: collections.Counter[str] = collections.Counter()
        self.most_open: collections.Counter[str] = collections.Counter()
        self._waiting: dict[str, list[Waiting]] = {}

    def reset(self) -> None:
        self.records = []
        self.seen.clear()
        self.delay_ms = 0.0
        self.opened.clear()
        self.answers = math.inf
        self.held.clear()
        self.robots.clear()
        self.most_open.clear()
        self._waiting.clear()

    def may_answer(self, gate: str) -> bool:
        if gate:
            return gate in self.opened
        self.answers -= 1
        return self.answers >= 0

    def wait(self, gate: str, waiting: Waiting) -> None:
        self._waiting.setdefault(gate, []).append(waiting)

    def agents_waiting(self, gate: str) -> collections.Counter[str]:
        waiting = self._waiting.get(gate, [])
        return collections.Counter(w.agent for w in waiting if not w.is_gone())

    def arrived(self, groups: list[str]) -> None:
        self.open.update(groups)
        self.most_open |= collections.Counter(
            {name: self.open[name] for name in groups}
        )

    def let_go(self, host: str) -> None:
        self.held.discard(host)
        self.send_waiting(host)

    def open_gate(self, gate: str) -> None:
        self.opened.add(gate)
        self.send_waiting(gate)

    def send_waiting(self, gate: str) -> None:
        for waiting in self._waiting.pop(gate, []):
            waiting.send()

    def allow(self, answers: float) -> None:
        """Answer as many more requests, first those that wait and whose client is there."""
        waiting = self._waiting.get("", [])
        while waiting and answers > 0:
            first = waiting.pop(0)
            answers -= not first.is_gone()
            first.send()
        self.answers = answers


class Waiting(NamedTuple):
    """A request that is not answered yet."""

    agent: str
    is_gone: Callable[[], bool]
    send: Callable[[], None]


class Reply:
    """An answer: status, body, headers, and what to wait for: milliseconds, a gate."""

    def __init__(
        self,
        body: str = "",
        status: int = 200,
        headers: tuple[tuple[str, str], ...] = (),
        delay_ms: float = 0,
        gate: str = "",
        kind: str = "text/html; charset=utf-8",
    ) -> None:
        self.body = body.encode()
        self.status = status
        self.headers = headers
        self.delay_ms = delay_ms
        self.gate = gate
        self.kind = kind


def host(n: int) -> str:
    """The address of host *n*, from 0."""
    return f"127.0.{1 + n // 250}.{1 + n % 250}"


def latency(n: int, hosts: int, first: float, last: float) -> float:
    """Milliseconds that host *n* of *hosts* takes: the same factor between neighbours."""
    return first * (last / first) ** (n / max(1, hosts - 1))


def of_hosts(port: str, hosts: int, pages: int, *ms: str) -> Reply:
    links = []
    for n in range(hosts):
        delay = f"?delay={latency(n, hosts, *map(float, ms)):.0f}" if ms else ""
        links += [f"http://{host(n)}:{port}/page/{i}{delay}" for i in range(pages)]
    return Reply(html("hosts", links))


def html(title: str, links: list[str]) -> str:
    anchors = "\n".join(f'<a href="{link}">{link}</a>' for link in links)
    return f"<html><head><title>{title}</title></head><body>\n{anchors}\n</body></html>"


def tree(size: str, fan: str, n: str) -> Reply:
    first = int(n) * int(fan) + 1
    children = range(first, min(first + int(fan), int(size)))
    return Reply(html(f"tree {n}", [f"/tree/{size}/{fan}/{i}" for i in children]))


def graph(size: str, links: str, n: str) -> Reply:
    count = int(size)
    others = [(int(n) * int(links) + i) % count for i in range(1, int(links) + 1)]
    pages = [f"/graph/{size}/{links}/{i}" for i in [0, *others]]
    return Reply(html(f"graph {n}", pages))


def chain(size: str, n: str) -> Reply:
    following = int(n) + 1
    links = [f"/chain/{size}/{following}"] if following < int(size) else []
    return Reply(html(f"chain {n}", links))


def login(request: dict[str, str]) -> Reply:
    form = dict(urllib.parse.parse_qsl(request["body"]))
    if request["method"] != "POST" or form != {"user": "u", "password": "p"}:
        return Reply("wrong", 403)
    cookie = ("Set-Cookie", "session=open; Path=/")
    return Reply("", 302, (("Location", "/members/0"), cookie))


#: The way to /login.
FORM = """<html><body><form action="/login" method="post">
<input name="user"><input name="password" type="password"></form></body></html>"""


def members(n: str, cookies: dict[str, str]) -> Reply:
    if cookies.get("session") != "open":
        return Reply("log in first", 403)
    links = [f"/members/{i}" for i in range(1, 21)] if n == "0" else []
    return Reply(html(f"members {n}", links))


def sitemap(size: str, host: str) -> Reply:
    urls = "".join(
        f"<url><loc>http://{host}/page/map-{i}</loc></url>" for i in range(int(size))
    )
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    body = f'<?xml version="1.0"?><urlset xmlns="{space}">{urls}</urlset>'
    return Reply(body, kind="application/xml")


def cookies_of(header: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in header.split(";") if part.strip())
    return {name: value for name, _, value in pairs}


def answer(site: Site, request: dict[str, str], headers: dict[str, str]) -> Reply:
    """The page that *request* asks for."""
    path = request["path"]
    kind, *rest = path.lstrip("/").split("/")
    cookies = cookies_of(request["cookies"])
    port = headers.get("host", "").rpartition(":")[2]
    match kind, rest:
        case "tree", [size, fan, n]:
            return tree(size, fan, n)
        case "graph", [size, links, n]:
            return graph(size, links, n)
        case "chain", [size, n]:
            return chain(size, n)
        case "links", _:
            targets = urllib.parse.unquote("/".join(rest)).split(",")
            return Reply(html("links", ["/" + t.replace("~", "/") for t in targets]))
        case "page", _:
            return Reply(html(f"page {'/'.join(rest)}", []))
        case "cached", _:
            return Reply(
                html("cached", []), headers=(("Cache-Control", "max-age=9999"),)
            )
        case "slow", [delay, *_]:
            return Reply(html("slow", []), delay_ms=float(delay))
        case "gate", [name, *target]:
            links = ["/" + "/".join(target)] if target else []
            return Reply(html("gate", links), gate=name)
        case "robots.txt", [] if request["host"] in site.robots:
            return Reply(site.robots[request["host"]], kind="text/plain")
        case "to", [n, *target]:
            location = f"http://{host(int(n))}:{port}/{'/'.join(target)}"
            return Reply("", 302, (("Location", location),))
        case "hosts", [hosts, pages, *ms]:
            return of_hosts(port, int(hosts), int(pages), *ms)
        case "redirect", [status, *target]:
            return Reply("", int(status), (("Location", "/" + "/".join(target)),))
        case "status", [status, *_]:
            return Reply(f"status {status}", int(status))
        case "once", [status, *_]:
            first = site.seen[path] == 1
            return Reply(html("once", []), int(status) if first else 200)
        case "setcookie", [name, value, *target]:
            cookie = ("Set-Cookie", f"{name}={value}; Path=/")
            location = ("Location", "/" + "/".join(target))
            return Reply("", 302, (location, cookie))
        case "needcookie", [name, value, *_]:
            return Reply(html("cookie", []), 200 if cookies.get(name) == value else 403)
        case "form", []:
            return Reply(FORM)
        case "login", []:
            return login(request)
        case "members", [n]:
            return members(n, cookies)
        case "echo", _:
            info = {**request, "headers": headers}
            return Reply(json.dumps(info), kind="application/json")
        case "sitemap", [size]:
            return sitemap(size, headers.get("host", ""))
    return Reply("not found", 404)


def control(site: Site, path: str, query: str) -> Reply:
    """Answer the test: what `tests.support.site.Site` asks for."""
    options = dict(urllib.parse.parse_qsl(query))
    if path == "/_control/records":
        return Reply(json.dumps(site.records), kind="application/json")
    if path == "/_control/waiting":
        agents = site.agents_waiting(options.get("gate", ""))
        return Reply(json.dumps(agents), kind="application/json")
    if path == "/_control/most_open":
        return Reply(json.dumps(site.most_open), kind="application/json")
    if path == "/_control/hold":
        site.held.add(options["host"])
        return Reply("{}", kind="application/json")
    if path == "/_control/let_go":
        site.let_go(options["host"])
        return Reply("{}", kind="application/json")
    if path == "/_control/robots":
        site.robots[options["host"]] = options["text"]
        return Reply("{}", kind="application/json")
    if path == "/_control/reset":
        site.reset()
        return Reply("{}", kind="application/json")
    if path == "/_control/delay":
        site.delay_ms = float(options["ms"])
        return Reply("{}", kind="application/json")
    if path == "/_control/answer":
        site.allow(float(options["count"]))
        return Reply("{}", kind="application/json")
    if path == "/_control/open":
        site.open_gate(options["gate"])
        return Reply("{}", kind="application/json")
    return Reply("no such command", 404)


class Arrivals:
    """Reads what comes in over *transport* in its place, as it knows no time of arrival.

    So a request arrives when the kernel has it, however late this process is.
    """

    #: SO_TIMESTAMPNS of Linux, which Python does not name; what comes with it is a timespec.
    _OPTION, _TIMESPEC = 35, struct.Struct("@ll")

    def __init__(
        self,
        transport: asyncio.Transport,
        received: Callable[[bytes, float], None],
    ) -> None:
        self._transport, self._received = transport, received
        transport.pause_reading()
        fd = os.dup(transport.get_extra_info("socket").fileno())
        self._socket = socket.socket(fileno=fd)
        self._socket.setsockopt(socket.SOL_SOCKET, self._OPTION, 1)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        try:
            data, notes, *_ = self._socket.recvmsg(1 << 18, 256)
        except BlockingIOError:
            return
        except OSError:
            data, notes = b"", []
        if not data:
            self._loop.remove_reader(self._socket)
            self._transport.close()
            return
        ago = 0.0
        for level, kind, note in notes:
            if (level, kind) == (socket.SOL_SOCKET, self._OPTION):
                seconds, nanoseconds = self._TIMESPEC.unpack(note)
                ago = time.time() - (seconds + nanoseconds / 1e9)
        self._received(data, time.monotonic() - ago)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, just enough of it for Scrapy."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._data = b""
        self._port = 0
        self._host = ""
        self._time = 0.0
        self._arrivals: Arrivals | None = None
        #: The groups that its request under way counts among.
        self._open: list[str] = []
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._port = transport.get_extra_info("peername")[1]
        self._host = transport.get_extra_info("sockname")[0]
        if sys.platform == "linux":
            self._arrivals = Arrivals(transport, self._take)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._arrivals is not None:
            self._arrivals.close()
        self._end_request()

    def _end_request(self) -> None:
        self._site.open.subtract(self._open)
        self._open = []

    def data_received(self, data: bytes) -> None:
        self._take(data, time.monotonic())

    def _take(self, data: bytes, at: float) -> None:
        self._data += data
        self._time = at
        while self._take_request():
            pass

    def _take_request(self) -> bool:
        head, separator, rest = self._data.partition(b"\r\n\r\n")
        if not separator:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return False
        self._data = rest[length:]
        self._handle(first, headers, rest[:length].decode("utf-8", "replace"))
        return True

    def _handle(self, first: str, headers: dict[str, str], body: str) -> None:
        method, url, _ = first.split(" ")
        path, _, query = url.partition("?")
        if path.startswith("/_control/"):
            self._send(method, control(self._site, path, query))
            return
        request = {
            "method": method,
            "path": path,
            "query": query,
            "cookies": headers.get("cookie", ""),
            "agent": headers.get("user-agent", ""),
            "body": body,
            "host": self._host,
        }
        options = dict(urllib.parse.parse_qsl(query))
        self._open = [self._host, *filter(None, [options.get("group")])]
        self._site.arrived(self._open)
        self._site.seen[path] += 1
        try:
            reply = answer(self._site, request, headers)
        except (ValueError, IndexError):
            reply = Reply("not found", 404)
        self._site.records.append(
            {
                **request,
                "time": self._time,
                "clock": self._time + time.time() - time.monotonic(),
                "port": self._port,
                "status": reply.status,
            }
        )
        delay = options.get("delay", 0)
        total_ms = self._site.delay_ms + reply.delay_ms + float(delay)
        loop = asyncio.get_running_loop()
        gate = self._host if self._host in self._site.held else reply.gate
        if gate in self._site.held or not self._site.may_answer(gate):
            send = functools.partial(self._send, method, reply)
            waiting = Waiting(request["agent"], self._transport.is_closing, send)
            self._site.wait(gate, waiting)
        elif total_ms:
            loop.call_later(total_ms / 1000, self._send, method, reply)
        else:
            self._send(method, reply)

    def _send(self, method: str, reply: Reply) -> None:
        if self._transport.is_closing():
            return
        self._end_request()
        reason = http.HTTPStatus(reply.status).phrase
        lines = [f"HTTP/1.1 {reply.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        lines += [f"Content-Type: {reply.kind}", f"Content-Length: {len(reply.body)}"]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        self._transport.write(head + (b"" if method == "HEAD" else reply.body))


async def main() -> None:
    site = Site()
    loop = asyncio.get_running_loop()
    more = [host(n) for n in range(int(sys.argv[1]) if len(sys.argv) > 1 else 0)]
    servers: list[asyncio.Server] = []
    while not servers:
        server = await loop.create_server(lambda: Connection(site), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            if more:
                servers.append(
                    await loop.create_server(lambda: Connection(site), more, port)
                )
            servers.append(server)
        except OSError:  # somebody has the port at another address
            server.close()
    print(port, flush=True)
    # The parent holds our standard input: end with it, however it ends.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
