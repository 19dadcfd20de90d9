"""The page's server: uvicorn, which ends when it is asked to."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from scrapy_dist.base.escaping import get_logger

if TYPE_CHECKING:
    from starlette.types import ASGIApp

#: Connections and requests at the same time; who comes then is told to try again later.
_MOST = 400
#: Seconds that pages have to end; and that a quiet connection is kept.
_GRACE, _KEEP_ALIVE = 2, 15
#: Seconds between two looks at a connection, and looks that find no whole request.
_LOOK, _QUIET_LOOKS = 5.0, 3
#: Bytes of the longest head of a request.
_HEAD = 32768
_BACKLOG = 128


class _Protocol(H11Protocol):
    """Gives up a connection that has asked for nothing for a while, also in its middle."""

    _looks = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        # There is none before the first request, whatever the types say.
        cycle: RequestResponseCycle | None = self.cycle
        is_busy = cycle is not None and not cycle.response_complete
        self._looks = 0 if is_busy else self._looks + 1
        if self._looks > _QUIET_LOOKS:
            self.transport.close()
        else:
            self._timer = self.loop.call_later(_LOOK, self._look)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: signals are the command's."""
        yield


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at *host* and *port*. Raises OSError."""
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, address = found[0]
    return socket.create_server(
        (str(address[0]), int(address[1])), family=family, backlog=_BACKLOG
    )


async def serve(app: ASGIApp, listening: socket.socket, stopped: asyncio.Event) -> None:
    """Serve *app* until *stopped* is set."""
    logger = get_logger("uvicorn.error")
    # What strangers send is no news.
    logger.setLevel(logging.ERROR)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
        logger.propagate = False
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=True,
        h11_max_incomplete_event_size=_HEAD,
        http=_Protocol,
        lifespan="off",
        limit_concurrency=_MOST,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=_KEEP_ALIVE,
        ws="none",
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve([listening]))
    waiting = asyncio.ensure_future(stopped.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    server.should_exit = True
    await serving
