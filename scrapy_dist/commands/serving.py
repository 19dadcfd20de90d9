"""The small web server of ``scrapy frontier metrics``: bounded, whoever connects."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from scrapy_dist.exceptions import ConfigurationError

#: Connections at the same time. Who comes then takes the place of the one that has been
#: silent for longest; if all wait for their answer, or too many come at once, there is none.
MAX_CONNECTIONS = 50
#: Threads, those included that are about to find that they have lost their place.
_MAX_THREADS = 2 * MAX_CONNECTIONS
#: Seconds without a byte from, or to, the other end.
SILENCE = 10.0
#: Seconds from a connection's beginning to its end.
LIFETIME = 30.0
#: Seconds between two looks at how old connections are.
_LOOK = 0.5


class _Handler(WSGIRequestHandler):
    timeout = SILENCE
    server: _Server

    def parse_request(self) -> bool:
        self.server.asked(self.connection)
        return super().parse_request()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is logged: it would be what strangers write."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily) -> None:
        self.address_family = family
        self._lock = threading.Lock()
        #: When each connection began, the oldest first.
        self._open: dict[socket.socket, float] = {}
        #: Those that have sent a request.
        self._asked: set[socket.socket] = set()
        self._running = 0
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            has_room = self._running < _MAX_THREADS and self._make_room()
            if has_room:
                self._open[request] = time.monotonic()
                self._running += 1
        if has_room:
            super().process_request(request, client_address)
        else:
            super().shutdown_request(request)

    def _make_room(self) -> bool:
        if len(self._open) < MAX_CONNECTIONS:
            return True
        silent = next((each for each in self._open if each not in self._asked), None)
        if silent is None:
            return False
        del self._open[silent]
        _hang_up(silent)
        return True

    def asked(self, request: socket.socket) -> None:
        """*request* has sent its first line."""
        with self._lock:
            if request in self._open:
                self._asked.add(request)

    def shutdown_request(self, request: Any) -> None:
        """The thread of a connection ends."""
        super().shutdown_request(request)
        with self._lock:
            self._open.pop(request, None)
            self._asked.discard(request)
            self._running -= 1

    def service_actions(self) -> None:
        """Between two connections, and each `_LOOK` seconds."""
        before = time.monotonic() - LIFETIME
        with self._lock:
            old = [each for each, began in self._open.items() if began < before]
        for each in old:
            _hang_up(each)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody went away, or stayed too long: nobody need be told."""


def _hang_up(connection: socket.socket) -> None:
    """End *connection*; its thread finds that out and closes it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serve(app: Callable[..., Any], host: str, port: int) -> Iterator[int]:
    """Serve the WSGI *app* in threads; yields the port. Raises OSError."""
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, address = found[0]
    server = _Server((str(address[0]), int(address[1])), family)
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def cannot_serve(host: str, port: int, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"Nothing can be served at {host}:{port}: {error.strerror or error}."
        " Give another --port, or --host."
    )


def is_local(host: str) -> bool:
    """Whether only this machine reaches *host*."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
