"""Light clients: the calls of a `Frontier` over a plain socket.

What redis-py takes to pack a call is more than what Redis takes to carry it out. Here a
call is encoded by one join, so that a core of clients keeps a core of Redis busy.
"""

from __future__ import annotations

import socket
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.buckets import compact as compacted
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.core.frontier import BATCH, Commit, NewRequest, Outcome, Settlement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.core.frontier import Lease

#: The frontier that all benchmarks without Scrapy use.
KEYS = Keys.from_settings(Settings(), "bench")
#: Seconds that Redis may take for one round trip.
_PATIENCE = 300.0

Word = str | bytes | int | float


def encode(words: Sequence[Word]) -> bytes:
    """A command as Redis reads it."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if type(word) is bytes else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Connection:
    """Sends commands and reads their replies, one after another."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb", buffering=1 << 16)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def fileno(self) -> int:
        """For ``select``."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self) -> Any:
        """The next reply; an error is returned, not raised."""
        line = self._stream.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self._stream.read(size + 2)[:-2]
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        if kind == b"-":
            return ResponseError(rest.decode())
        if kind == b"+":
            return rest
        raise ConnectionError("Redis has closed the connection")

    def command(self, *words: Word) -> Any:
        """One command; raises its error."""
        [reply] = self.commands([words])
        return reply

    def commands(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        """Many commands in one round trip; raises the first error."""
        return self.raw(b"".join(map(encode, commands)), len(commands))

    def raw(self, data: bytes, count: int) -> list[Any]:
        """*count* commands, as Redis reads them; raises the first error."""
        self.send(data)
        replies = [self.read() for _ in range(count)]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies


class LightClient:
    """A worker of the protocol that does nothing but exchanges.

    ``send`` and ``receive`` are the halves of an exchange, so that one process can play
    many workers. *options* are those of `Frontier`.
    """

    def __init__(self, port: int, **options: Any) -> None:
        options = {"ttl": 3600.0, "max_deliveries": 3, "failed_limit": 100} | options
        self.connection = Connection(port)
        self.frontier = Frontier(None, KEYS, **options)  # type: ignore[arg-type]
        self._calls: list[Call[Any]] = []
        self._commits = 0
        self._loaded: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.connection.close()

    def register(self) -> None:
        call = self.frontier.register("light:0", commit=self._commits)
        self.exchange([call])
        call.reply()

    def leave(self) -> None:
        call = self.frontier.leave(finished=False)
        self.exchange([call])
        call.reply()

    def exchange(self, calls: Sequence[Call[Any]]) -> None:
        self.send(calls)
        self.receive()

    def send(self, calls: Sequence[Call[Any]]) -> None:
        self._load(calls)
        self._calls = list(calls)
        self.connection.send(b"".join(map(self._encode, calls)))

    def receive(self) -> None:
        """Take the replies in. Raises ResponseError for the first that is one."""
        for call in self._calls:
            call.raw = self.connection.read()
        for call in self._calls:
            if isinstance(call.raw, Exception):
                raise call.raw

    def lease(self, want: int = BATCH) -> Sequence[Lease]:
        call = self.frontier.lease(want, suspects=8)
        self.exchange([call])
        return call.reply().leases

    def next_commit(
        self, requests: Sequence[NewRequest] = (), pages: Sequence[Settlement] = ()
    ) -> Commit:
        """A commit under the next number."""
        self._commits += 1
        return Commit(self._commits, requests, settlements=pages)

    def store(self, batches: Sequence[Sequence[NewRequest]]) -> None:
        """Commit each of *batches* (at most BATCH), growing the buckets as needed."""
        commits = [self.next_commit(batch) for batch in batches]
        while commits:
            grow = self.frontier.grow()
            stored = [self.frontier.commit(commit) for commit in commits]
            self.exchange([*[grow] * (grow is not None), *stored])
            if grow is not None:
                grow.reply()
            for call in stored:
                reply = call.reply()
                if reply.outcome is Outcome.AGAIN:
                    break
                assert reply.outcome is Outcome.STORED, reply
                commits.pop(0)

    def _load(self, calls: Sequence[Call[Any]]) -> None:
        for call in calls:
            if call.script not in self._loaded:
                self.connection.command("SCRIPT", "LOAD", call.script.source)
                self._loaded.add(call.script)

    def _encode(self, call: Call[Any]) -> bytes:
        return encode(
            ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
        )


def fingerprint(number: int, *, compact: bool = False) -> str:
    """The fingerprint of request *number*, as random as a real one."""
    digest = sha1(number.to_bytes(8, "big"), usedforsecurity=False).hexdigest()
    return compacted(digest) if compact else digest


def fill_seen(
    client: LightClient, first: int, last: int, *, compact: bool = False
) -> None:
    """Let the frontier see requests *first* to *last* - 1; none of them is pending."""
    step = 4 * BATCH  # what an exchange takes at the most
    for start in range(first, last, step):
        new = [
            NewRequest(b"x", 0.0, fingerprint(number, compact=compact))
            for number in range(start, min(start + step, last))
        ]
        client.store([new[i : i + BATCH] for i in range(0, len(new), BATCH)])
        if start // step % 25 == 24:
            client.connection.command("DEL", KEYS.requests)
    client.connection.command("DEL", KEYS.requests)
