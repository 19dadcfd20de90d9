"""One connection to RabbitMQ with one channel, for coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelClosed,
    ChannelWrongStateError,
    ConnectionClosed,
    ConnectionWrongStateError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)
from pika.spec import BasicProperties

from scrapy_dist.base.waits import sleep_until, wait_for
from scrapy_dist.base.words import span
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pika.channel import Channel

    from scrapy_dist.bridge.address import Address

#: Seconds that RabbitMQ may take for an answer, and for the end of a connection.
_ANSWER, _END = 30.0, 5.0
#: How RabbitMQ says that a consumer took too long.
_LATE = re.compile(r"acknowledgement.* timed out.*?(\d+) ms")
#: Reply codes: the login, or the vhost, is refused.
_REFUSED, _NOT_ALLOWED = 403, 530


class _Properties(BasicProperties):  # type: ignore[misc]
    """Those of a message, without headers where pika cannot read them.

    RabbitMQ hands on more than pika reads, such as a time in ten thousand years: one such
    message would end each connection that it comes by. No header is needed here.
    """

    def decode(self, encoded: bytes, offset: int = 0) -> Any:
        try:
            return super().decode(encoded, offset)
        except Exception:  # noqa: BLE001  it raises whatever comes
            return super().decode(_without_headers(encoded[offset:]))


def _without_headers(encoded: bytes) -> bytes:
    [flags] = struct.unpack_from(">H", encoded)
    if not flags & BasicProperties.FLAG_HEADERS:
        return encoded
    start = 2
    # Texts come before them, each behind its length.
    for before in ("CONTENT_TYPE", "CONTENT_ENCODING"):
        if flags & getattr(BasicProperties, f"FLAG_{before}"):
            start += 1 + encoded[start]
    [size] = struct.unpack_from(">I", encoded, start)
    rest = encoded[2:start] + encoded[start + 4 + size :]
    return struct.pack(">H", flags & ~BasicProperties.FLAG_HEADERS) + rest


# pika has no other way to say so. Whoever else uses it here reads all that it did.
pika.spec.props[BasicProperties.INDEX] = _Properties


class LinkLost(Exception):
    """The channel or its connection is gone; the text says why."""


class Link:
    """An open connection and its channel. When it is `lost` nothing of it works any more.

    What RabbitMQ had sent there to be acknowledged it sends again, to whoever is next.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._connection: AsyncioConnection | None = None
        self._closed = asyncio.Event()
        #: Is set when it is lost; *reason* says why.
        self.lost = asyncio.Event()
        self.reason = ""
        #: Why RabbitMQ closed the channel, as its reply code; 0: something else.
        self.code = 0
        #: Called when it is lost; when RabbitMQ is short of room, and reads nothing that is
        #: published, with why; and when it reads again.
        self.on_lost: Callable[[], object] = lambda: None
        self.on_blocked: Callable[[str], object] = lambda reason: None
        self.on_unblocked: Callable[[], object] = lambda: None
        self.channel: Channel

    @classmethod
    async def open(cls, address: Address) -> Link:
        """Connect. Raises LinkLost, ConfigurationError if the login is refused."""
        link = cls(address)
        try:
            await link._open()
        except BaseException:
            await link.close()
            raise
        return link

    async def _open(self) -> None:
        opened: asyncio.Future[Any] = self._loop.create_future()

        def fail(connection: object, error: BaseException) -> None:
            self._closed.set()
            if not opened.done():
                opened.set_exception(self._error(error))

        self._connection = AsyncioConnection(
            self._address.parameters,
            on_open_callback=lambda connection: _answer(opened, connection),
            on_open_error_callback=fail,
            on_close_callback=self._on_connection_closed,
            custom_ioloop=self._loop,
        )
        self._connection.add_on_connection_blocked_callback(
            lambda _, frame: self.on_blocked(str(frame.method.reason))
        )
        self._connection.add_on_connection_unblocked_callback(
            lambda *_: self.on_unblocked()
        )
        await self._wait(opened)
        self.channel = await self.call(self._open_channel)

    def _open_channel(self, callback: Callable[[Any], object]) -> None:
        assert self._connection is not None
        channel = self._connection.channel(on_open_callback=callback)
        channel.add_on_close_callback(self._on_channel_closed)

    async def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The answer to *method* of the channel. Raises LinkLost."""
        future: asyncio.Future[Any] = self._loop.create_future()
        try:
            method(*args, callback=lambda found: _answer(future, found), **kwargs)
        except (AMQPError, ChannelWrongStateError, ConnectionWrongStateError) as e:
            raise LinkLost(self.reason or self._shown(e)) from None
        return await self._wait(future)

    async def _wait(self, future: asyncio.Future[Any]) -> Any:
        self._waiting.add(future)
        try:
            return await wait_for(future, _ANSWER)
        except (TimeoutError, asyncio.TimeoutError):
            self.lose("RabbitMQ does not answer")
            raise LinkLost(self.reason) from None
        finally:
            self._waiting.discard(future)

    async def close(self) -> None:
        """Close it: what was not acknowledged goes back to its queue."""
        self.lose("it was closed here")
        connection = self._connection
        if connection is None or self._closed.is_set():
            return
        with contextlib.suppress(AMQPError, ConnectionWrongStateError):
            connection.close()
        await sleep_until(self._closed, _END)

    def _on_channel_closed(self, channel: object, error: BaseException) -> None:
        if isinstance(error, ChannelClosed):
            self.code = error.reply_code
        self.lose(self._shown(error))

    def _on_connection_closed(self, connection: object, error: BaseException) -> None:
        self._closed.set()
        self.lose(self._shown(error))

    def lose(self, reason: str) -> None:
        """Wait for no answer any more."""
        if self.lost.is_set():
            return
        self.reason = reason
        self.lost.set()
        self.on_lost()
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(LinkLost(reason))

    def _error(self, error: BaseException) -> Exception:
        """What is raised for *error* while it connects."""
        where = self._address.shown
        refused = (AuthenticationError, ProbableAuthenticationError)
        if isinstance(error, refused) or _code(error) == _REFUSED:
            return ConfigurationError(
                f"RabbitMQ at {where} refuses the login. Look at user and password of"
                " the AMQP URL; guest may come from the broker's own machine only."
            )
        if isinstance(error, ProbableAccessDeniedError) or _code(error) == _NOT_ALLOWED:
            return ConfigurationError(
                f"RabbitMQ refuses {where}: there is no such vhost, or this user may not"
                " use it. The vhost is what comes behind the host: amqp://…@host/vhost"
            )
        return LinkLost(self._shown(error))

    def _shown(self, error: BaseException) -> str:
        return self._address.hide(_text(error))


def _answer(future: asyncio.Future[Any], found: Any) -> None:
    if not future.done():
        future.set_result(found)


def _code(error: BaseException) -> int:
    return error.reply_code if isinstance(error, ConnectionClosed) else 0


def _text(error: BaseException) -> str:
    """The innermost of what pika packs into each other, for people."""
    for _ in range(10):
        packed = (
            getattr(error, "exception", None),
            *(getattr(error, "exceptions", None) or ())[-1:],
            *error.args,
        )
        inner = next((each for each in packed if isinstance(each, Exception)), None)
        if inner is None:
            break
        error = inner
    if isinstance(error, (ChannelClosed, ConnectionClosed)):
        if late := _LATE.search(error.reply_text):
            return (
                "it waited for an acknowledgement for longer than its consumer_timeout of"
                f" {span(int(late[1]) / 1000)}, since a task took so long. Raise that in"
                " rabbitmq.conf, lower --prefetch, or say --ack stored"
            )
        return f"{error.reply_text} ({error.reply_code})"
    return str(error) or type(error).__name__
