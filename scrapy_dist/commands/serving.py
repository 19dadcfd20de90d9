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

__all__ = ["MAX_CONNECTIONS", "is_local", "serve"]

#: Connections at the same time; who comes then is turned away.
MAX_CONNECTIONS = 50
#: Seconds without a byte from, or to, the other end.
SILENCE = 10.0
#: Seconds from a connection's beginning to its end.
LIFETIME = 30.0
#: Seconds between two looks at how old connections are.
_LOOK = 0.5


class _Handler(WSGIRequestHandler):
    timeout = SILENCE

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is logged: it would be what strangers write."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily) -> None:
        self.address_family = family
        self._lock = threading.Lock()
        #: When each connection began.
        self._open: dict[socket.socket, float] = {}
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._open) >= MAX_CONNECTIONS
            if not full:
                self._open[request] = time.monotonic()
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._lock:
            self._open.pop(request, None)

    def service_actions(self) -> None:
        """Between two connections, and each `_LOOK` seconds."""
        before = time.monotonic() - LIFETIME
        with self._lock:
            old = [each for each, began in self._open.items() if began < before]
        for each in old:
            # Its thread finds that out and closes it.
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody went away, or stayed too long: nobody need be told."""


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


def is_local(host: str) -> bool:
    """Whether only this machine reaches *host*."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
