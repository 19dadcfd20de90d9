"""The product's scripts on a redis-server whose clock is a value, and a fast way to them.

What is sent goes out in order, when somebody needs a reply: many round trips of the
simulation are one.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from scrapy_dist.brokers.redis import scripts

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.scripts import Call

#: Where the time stands, in ms; not one of the frontier's keys.
CLOCK = "the time"
_REDIS_TIME = """  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
"""
_OUR_TIME = f"  return tonumber(redis.call('GET', '{CLOCK}'))\n"

#: A text of the Lua, and the mistake that takes its place.
Mistake = tuple[str, str]


def source(name: str, mistake: Mistake | None = None) -> tuple[str, bool]:
    """Script *name* on our clock, and whether *mistake* is in it."""
    text = scripts.load(name).source.replace(_REDIS_TIME, _OUR_TIME)
    assert "'TIME'" not in text
    is_wrong = mistake is not None and mistake[0] in text
    return (text.replace(*mistake) if mistake else text), is_wrong


def pack(words: Sequence[Any]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if type(word) is bytes else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Wire:
    """A connection to a server's unix socket; all scripts are loaded, with *mistake*."""

    def __init__(self, path: str, mistake: Mistake | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._unsent: list[bytes] = []
        self._file = self._socket.makefile("rb", 1 << 16)
        self._due: deque[tuple[int, list[Any]]] = deque()
        self._shas: dict[str, bytes] = {}
        self._heads: dict[tuple[str, int], tuple[int, bytes]] = {}
        found = False
        for name in scripts.names():
            text, is_wrong = source(name, mistake)
            found = found or is_wrong
            self._shas[name] = self.ask("SCRIPT", "LOAD", text)
        assert found or mistake is None, f"nowhere in the Lua: {mistake}"

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def pack_call(self, call: Call[Any]) -> bytes:
        name, keys = call.script.name, call.keys
        head = self._heads.get((name, len(keys)))
        if head is None:
            words = ["EVALSHA", self._shas[name], len(keys), *keys]
            text = pack(words).partition(b"\r\n")[2]
            head = self._heads[name, len(keys)] = (len(words), text)
        parts = [b"*%d\r\n" % (head[0] + len(call.args)), head[1]]
        for word in call.args:
            data = word if type(word) is bytes else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
        return b"".join(parts)

    def send(self, commands: Sequence[bytes]) -> list[Any]:
        """Queue *commands*; the list gets their replies when `wait_for` was called."""
        replies: list[Any] = []
        self._due.append((len(commands), replies))
        self._unsent += commands
        return replies

    def wait_for(self, replies: list[Any]) -> None:
        if not replies and self._unsent:
            self._socket.sendall(b"".join(self._unsent))
            self._unsent.clear()
        while not replies:
            count, some = self._due.popleft()
            some += [self._read() for _ in range(count)]

    def ask(self, *words: Any) -> Any:
        """One command, and its reply."""
        replies = self.send([pack(words)])
        self.wait_for(replies)
        if isinstance(replies[0], Exception):
            raise replies[0]
        return replies[0]

    def _read(self) -> Any:
        line = self._file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return self._file.read(size + 2)[:-2] if size >= 0 else None
        if kind == b"*":
            read = self._read
            return [read() for _ in range(int(rest))]
        if kind == b"+":
            return rest
        assert kind == b"-", line
        return ResponseError(rest.decode())
