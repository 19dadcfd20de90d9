"""A TCP proxy in front of Redis that tests cut, freeze and slow down.

    with Proxy(server.port) as proxy:
        project = make_project(proxy.url(server.url))
        proxy.cut()

It runs in a thread of the test's process, so that a test pays nothing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

#: Seconds that a command from the test to the proxy may take.
_PATIENCE = 60.0


@dataclass
class Cut:
    """A cut to come, once: *after* more bytes behind *mark*, in a reply or a request.

    *request*: only once a client has sent these bytes, e.g. the SHA-1 of a script.
    *refuse*: from then on the proxy refuses connections.
    *done* is set when the connection has been cut.
    """

    after: int
    mark: bytes
    request: bytes
    in_reply: bool
    refuse: bool = False
    done: threading.Event = field(default_factory=threading.Event)


@dataclass
class _State:
    """What the proxy does now; read by its links, changed only in the loop's thread."""

    target: int | Path
    #: Seconds by which bytes are late, each way.
    delay: float
    refuses: bool = False
    swallows: bool = False
    frozen: bool = False
    #: What every command is answered with.
    error: bytes = b""
    cuts: list[Cut] = field(default_factory=list)
    #: What clients have asked for, if it is recorded.
    commands: list[list[bytes]] | None = None
    links: set[_Link] = field(default_factory=set)
    accepted: int = 0


class Proxy:
    """Listens on a free port of loopback; *target* is a port or a unix socket.

    *listener*: a socket to listen on instead. *record*: remember all commands.
    """

    def __init__(
        self,
        target: int | Path,
        *,
        round_trip_ms: float = 0,
        listener: socket.socket | None = None,
        record: bool = False,
    ) -> None:
        self._state = _State(target, round_trip_ms / 2000)
        if record:
            self._state.commands = []
        self._listener = listener
        self._host, self._port = "127.0.0.1", 0
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._listen)

    @property
    def port(self) -> int:
        return self._port

    @property
    def accepted(self) -> int:
        """Connections taken so far."""
        return self._state.accepted

    @property
    def connected(self) -> int:
        """Connections that there are now."""
        return len(self._state.links)

    @property
    def commands(self) -> list[list[bytes]]:
        """What clients have asked for so far, each as its words; see *record*."""
        return list(self._state.commands or ())

    def url(self, url: str) -> str:
        """The URL of a Redis, *url*, with the proxy's address in place of its own."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        path = parts.path if parts.scheme == "redis" else "/0"
        netloc = f"{login}{at}{self._host}:{self.port}"
        return urlunsplit(("redis", netloc, path, "", ""))

    def cut(self) -> int:
        """Reset all connections; returns how many there were."""
        closed: int = self._call(self._cut_all)
        return closed

    def cut_reply(
        self, after: int = 0, *, mark: bytes = b"", request: bytes = b""
    ) -> Cut:
        """Cut one connection in the middle of the next reply; returns at once.

        *after* bytes of the reply still pass, counted from the end of *mark* if given,
        e.g. where the payload of a lease begins. *request*: the reply to what holds
        these bytes. The request itself has reached Redis.
        """
        return self._plan(Cut(after, mark, request, in_reply=True))

    def cut_request(
        self, after: int = 0, *, mark: bytes = b"", refuse: bool = False
    ) -> Cut:
        """Cut one connection in the middle of a request, *after* bytes behind *mark*.

        Redis carries out the commands before the cut, and nobody hears of it. *refuse*:
        the client cannot connect again either, until `accept`.
        """
        return self._plan(Cut(after, mark, b"", in_reply=False, refuse=refuse))

    def refuse(self) -> None:
        """Cut all connections and reset new ones at once, until `accept`.

        The port stays ours: while it is free, anybody's connection may take it.
        """
        self._call(setattr, self._state, "refuses", True)
        self.cut()

    def accept(self) -> None:
        """Take connections again."""
        self._call(setattr, self._state, "refuses", False)

    def freeze(self) -> None:
        """Pass nothing on, as a network without a route does, until `thaw`."""
        self._call(self._set_frozen, True)

    def thaw(self) -> None:
        """Pass on what has waited, and go on."""
        self._call(self._set_frozen, False)

    def swallow(self, *, on: bool = True) -> None:
        """Drop what clients send: they wait for answers that never come."""
        self._call(setattr, self._state, "swallows", on)

    def forget(self) -> None:
        """Drop what comes on the connections that are there now; new ones work.

        So does a NAT that has forgotten them.
        """
        self._call(self._forget_links)

    def answer(self, error: str) -> None:
        """Answer every command with *error*, e.g. ``LOADING …``; '' ends it.

        Connections stay. Nothing of what clients send reaches Redis.
        """
        self._call(setattr, self._state, "error", error.encode())

    def switch(self, target: int | Path) -> None:
        """Cut all connections and lead new ones to another Redis."""
        self._call(setattr, self._state, "target", target)
        self.cut()

    def close(self) -> None:
        """End everything; the port is free again."""
        if self._loop.is_closed():
            return
        self._run(self._stop_listening)
        self._run(self._end_links)
        self._call(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    # In the thread of the loop

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run *function* in the loop's thread and wait for its result."""
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(function(*args))
            except BaseException as e:
                done.set_exception(e)

        self._loop.call_soon_threadsafe(run)
        return done.result(_PATIENCE)

    def _run(self, coroutine: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine(), self._loop).result(_PATIENCE)

    async def _listen(self) -> None:
        where: dict[str, Any] = {"host": self._host, "port": self._port}
        if self._listener is not None:
            where = {"sock": self._listener}
        self._server = await self._loop.create_server(
            lambda: _Side(_Link(self._state)), **where
        )
        self._host, self._port = self._server.sockets[0].getsockname()[:2]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end_links(self) -> None:
        while self._state.links:
            self._cut_all()
            await asyncio.sleep(0)

    def _plan(self, cut: Cut) -> Cut:
        self._call(self._state.cuts.append, cut)
        return cut

    def _cut_all(self) -> int:
        links = list(self._state.links)
        for link in links:
            link.abort()
        return len(links)

    def _forget_links(self) -> None:
        for link in self._state.links:
            link.forgotten = True

    def _set_frozen(self, frozen: bool) -> None:
        self._state.frozen = frozen
        for link in self._state.links:
            link.set_reading(not frozen)


class _Link:
    """A client's connection, and the one to Redis behind it."""

    def __init__(self, state: _State) -> None:
        self.forgotten = False
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._client: _Side | None = None
        self._server = _Side(self)
        self._task: asyncio.Task[None] | None = None
        self._delayed: deque[Callable[[], None]] = deque()
        self._cut: Cut | None = None
        self._rest: int | None = None
        self._tail = b""
        self._commands = _Commands()

    def opened(self, side: _Side) -> None:
        self._open += 1
        if self._client is not None:
            if self._open == 1:
                side.abort()  # the client has gone in the meantime
            else:
                self._loop.call_soon(self._begin)
            return
        if self._state.refuses:
            side.abort()
            return
        self._client = side
        self._state.accepted += 1
        self._state.links.add(self)
        # What the client says waits until there is somebody to hear it. (Python 3.10
        # begins to read after this call, whatever is said in it.)
        self._loop.call_soon(side.set_reading, False)
        self._task = self._loop.create_task(self._connect())

    def _begin(self) -> None:
        self.set_reading(not self._state.frozen)

    async def _connect(self) -> None:
        target = self._state.target
        try:
            if isinstance(target, int):
                await self._loop.create_connection(
                    lambda: self._server, "127.0.0.1", target
                )
            else:
                await self._loop.create_unix_connection(
                    lambda: self._server, str(target)
                )
        except OSError:
            self.abort()

    def closed(self, side: _Side) -> None:
        self._open -= 1
        if self._cut is not None and not self._cut.done.is_set():
            self._state.cuts.append(self._cut)
            self._cut = None
        other = self._server if side is self._client else self._client
        if self._open == 0:
            self._state.links.discard(self)
        elif other is not None:
            self._later(other.close)

    def abort(self) -> None:
        """Reset both connections."""
        self._delayed.clear()
        if self._task is not None:
            self._task.cancel()
        for side in (self._client, self._server):
            if side is not None:
                side.abort()

    def set_reading(self, reading: bool) -> None:
        for side in (self._client, self._server):
            if side is not None:
                side.set_reading(reading)

    def received(self, side: _Side, data: bytes) -> None:
        if side is self._client:
            self._from_client(data)
        else:
            self._from_server(data)

    def _from_client(self, data: bytes) -> None:
        if self._state.error:
            self._refuse(data)
            return
        if self._state.commands is not None:
            self._state.commands += self._commands.feed(data)
        if self._state.swallows or self.forgotten:
            return
        self._pass(data, self._server, in_reply=False)

    def _from_server(self, data: bytes) -> None:
        if self.forgotten:
            return
        assert self._client is not None
        self._pass(data, self._client, in_reply=True)

    def _pass(self, data: bytes, to: _Side, *, in_reply: bool) -> None:
        passed, cut = self._look(data, in_reply=in_reply)
        self._later(lambda: to.write(passed))
        if cut is not None:
            self._later(lambda: self._end(cut))

    def _refuse(self, data: bytes) -> None:
        """Answer each command in *data* with the proxy's error."""
        assert self._client is not None
        try:
            commands = self._commands.feed(data)
        except ValueError:
            # It began before the errors did.
            self.abort()
            return
        if self._state.commands is not None:
            self._state.commands += commands
        self._client.write(b"-%s\r\n" % self._state.error * len(commands))

    def _look(self, data: bytes, *, in_reply: bool) -> tuple[bytes, Cut | None]:
        """What of *data* may pass, and the planned cut that is due behind it."""
        if not in_reply and self._cut is None:
            self._take_cut(data)
        if self._cut is None or self._cut.in_reply is not in_reply:
            return data, None
        start = 0
        if self._rest is None:
            seen = self._tail + data
            at = seen.find(self._cut.mark)
            if at < 0:
                self._tail = seen[-len(self._cut.mark) :]
                return data, None
            start = max(0, at + len(self._cut.mark) - len(self._tail))
            self._rest = self._cut.after
        if len(data) - start < self._rest:
            self._rest -= len(data) - start
            return data, None
        return data[: start + self._rest], self._cut

    def _take_cut(self, data: bytes) -> None:
        """The first cut that waits for what is in this request is this link's."""
        for cut in self._state.cuts:
            if cut.request in data and (cut.in_reply or cut.mark in data):
                self._state.cuts.remove(cut)
                self._cut, self._rest, self._tail = cut, None, b""
                if not cut.mark:
                    self._rest = cut.after
                return

    def _end(self, cut: Cut) -> None:
        # Not a reset, which could overtake what may pass.
        self._state.refuses = self._state.refuses or cut.refuse
        cut.done.set()
        for side in (self._client, self._server):
            if side is not None:
                side.close()

    def _later(self, action: Callable[[], None]) -> None:
        """Do *action* after half a round trip; in order."""
        if not self._state.delay:
            action()
            return
        self._delayed.append(action)
        self._loop.call_later(self._state.delay, self._next)

    def _next(self) -> None:
        if self._delayed:
            self._delayed.popleft()()


class _Side(asyncio.Protocol):
    """One of the two connections of a link."""

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._link.opened(self)

    def data_received(self, data: bytes) -> None:
        self._link.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.closed(self)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def set_reading(self, reading: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if reading:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Commands:
    """The commands in a stream of a client (RESP arrays of bulk strings)."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Commands completed by *data*. Raises ValueError for anything else."""
        self._data += data
        found = []
        with contextlib.suppress(IndexError):
            while self._data:
                end, words = self._first()
                self._data = self._data[end:]
                found.append(words)
        return found

    def _first(self) -> tuple[int, list[bytes]]:
        """Where the first command ends. Raises IndexError if it is not all here."""
        at, count = self._number(0, b"*")
        words = []
        for _ in range(count):
            at, size = self._number(at, b"$")
            words.append(self._data[at : at + size])
            at += size + 2
        if at > len(self._data):
            raise IndexError
        return at, words

    def _number(self, at: int, kind: bytes) -> tuple[int, int]:
        end = self._data.find(b"\r\n", at)
        if end < 0:
            raise IndexError
        if self._data[at : at + 1] != kind:
            raise ValueError(self._data[at:end])
        return end + 2, int(self._data[at + 1 : end])
