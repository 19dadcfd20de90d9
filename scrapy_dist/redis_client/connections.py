"""Connections that close at once and keep passwords out of their errors."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import redis.asyncio.client
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.exceptions import RedisError

from scrapy_dist.base.waits import in_thread
from scrapy_dist.exceptions import FrontierError
from scrapy_dist.redis_client.embedded.start import ensure_server
from scrapy_dist.redis_client.masking import hide_in_error, secrets_in

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def _hiding(connection: Any) -> Iterator[None]:
    """What the server says of a login may repeat the password."""
    try:
        yield
    except RedisError as e:
        login = ("password", "credential_provider")
        known = {name: getattr(connection, name, None) for name in login}
        hide_in_error(e, secrets_in(known))
        raise


class Discreet:
    """Mixed into a blocking connection: its errors have no password."""

    def on_connect(self) -> None:
        with _hiding(self):
            super().on_connect()  # type: ignore[misc]

    def on_connect_check_health(self, *args: Any, **details: Any) -> None:
        """What newer versions of redis-py call."""
        with _hiding(self):
            super().on_connect_check_health(*args, **details)  # type: ignore[misc]


class Prompt:
    """Mixed into a connection: closing it waits for nobody, errors have no password.

    A closed connection of asyncio stays open until the peer has taken all that was
    written, and with TLS until it has said goodbye; one that is gone never does.
    """

    async def on_connect(self) -> None:
        with _hiding(self):
            await super().on_connect()  # type: ignore[misc]

    async def on_connect_check_health(self, *args: Any, **details: Any) -> None:
        """What newer versions of redis-py call."""
        with _hiding(self):
            await super().on_connect_check_health(*args, **details)  # type: ignore[misc]

    async def disconnect(self, nowait: bool = False, **details: Any) -> None:
        writer = getattr(self, "_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super().disconnect(nowait=True, **details)  # type: ignore[misc]


@cache
def mixed(mixin: type[Any], plain: type[Any]) -> type[Any]:
    """The connection's class *plain* with *mixin* in front of it."""
    return type(plain.__name__, (mixin, plain), {"__module__": __name__})


class EmbeddedConnection(Prompt, UnixDomainSocketConnection):  # type: ignore[misc]
    """A connection that starts the embedded Redis again when it has gone.

    Whoever kills the server, or the session that it lives in, does not end the crawls
    of the others: the next connection brings it back, with its data.
    """

    def __init__(self, *, directory: Path, linger: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.directory = directory
        self.linger = linger

    async def connect(self) -> None:
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except redis.ConnectionError:
            await self.revive()
            await super().connect()  # type: ignore[no-untyped-call]

    async def revive(self) -> None:
        """Start the server; what waits for it here starts it once."""
        reviving = _reviving.get(self.directory)
        if reviving is None or reviving.done():
            start = partial(ensure_server, self.directory, linger=self.linger)
            reviving = _reviving[self.directory] = in_thread(start)
        try:
            path: Path = await asyncio.wrap_future(reviving)
        except FrontierError as e:
            # What redis-py's callers expect of a server that is not there.
            raise redis.ConnectionError(str(e)) from e
        self.path = str(path)


#: Starts of embedded servers that are under way, by folder.
_reviving: dict[Path, concurrent.futures.Future[Path]] = {}
