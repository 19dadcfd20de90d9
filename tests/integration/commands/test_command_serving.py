"""The web server of the metrics is bounded, whoever connects and however slowly."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from scrapy_dist.commands import serving
from scrapy_dist.commands.serving import is_local, serve
from tests.support.wait import wait_until


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x" * int(environ["QUERY_STRING"] or 1)]


@pytest.fixture
def port():
    with serve(app, "127.0.0.1", 0) as port:
        yield port


def get(port: int, path: str = "") -> bytes:
    url = f"http://127.0.0.1:{port}/metrics{path}"
    with urllib.request.urlopen(url, timeout=100) as reply:
        return reply.read()


def answers(port: int) -> bool:
    try:
        return get(port) == b"x"
    except (OSError, urllib.error.URLError):
        return False


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_it_serves(port):
    assert get(port) == b"x"
    assert len(get(port, "?1000000")) == 1_000_000


def connect(stack: contextlib.ExitStack, port: int, count: int) -> list[socket.socket]:
    return [
        stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        for _ in range(count)
    ]


def test_there_are_at_most_fifty_connections(port):
    """Those who say nothing keep nobody out."""
    with contextlib.ExitStack() as stack:
        ours = connect(stack, port, 80)
        wait_until(
            lambda: sum(map(is_closed, ours)) == 80 - serving.MAX_CONNECTIONS,
            "those that have lost their place",
        )
        wait_until(lambda: threads() <= serving.MAX_CONNECTIONS, "their threads' end")
        assert not any(map(is_closed, ours[-serving.MAX_CONNECTIONS :]))
        assert answers(port)
        ours += connect(stack, port, 100)
        wait_until(lambda: answers(port), "an answer")
        assert threads() <= serving._MAX_THREADS
    assert answers(port)


def test_those_who_wait_for_an_answer_keep_their_places():
    goes_on = threading.Event()
    arrived = []

    def waiting(environ, start_response):
        if environ["QUERY_STRING"] == "wait":
            arrived.append(environ)
            goes_on.wait(60)
        return app({"QUERY_STRING": ""}, start_response)

    with serve(waiting, "127.0.0.1", 0) as port, contextlib.ExitStack() as stack:
        ours = connect(stack, port, serving.MAX_CONNECTIONS)
        for each in ours:
            each.sendall(b"GET /?wait HTTP/1.0\r\n\r\n")
        stack.callback(goes_on.set)
        wait_until(lambda: len(arrived) == len(ours), "all requests")
        assert not answers(port)
        goes_on.set()
        for each in ours:
            each.settimeout(20)
            assert b"200 OK" in each.recv(100)
        wait_until(lambda: answers(port), "an answer")


@pytest.mark.parametrize("limit", ["SILENCE", "LIFETIME"])
def test_those_who_stay_are_put_out(monkeypatch, limit):
    monkeypatch.setattr(serving, "SILENCE", 0.5)
    monkeypatch.setattr(serving._Handler, "timeout", 0.5 if limit == "SILENCE" else 60)
    monkeypatch.setattr(serving, "LIFETIME", 0.5 if limit == "LIFETIME" else 60)
    with serve(app, "127.0.0.1", 0) as port, contextlib.ExitStack() as stack:
        ours = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(serving.MAX_CONNECTIONS)
        ]

        def drip() -> bool:
            for each in ours if limit == "LIFETIME" else ():
                with contextlib.suppress(OSError):
                    each.sendall(b"G")
            return all(map(is_closed, ours))

        wait_until(drip, "the end of all of them")
        wait_until(lambda: answers(port), "an answer")


def test_reader_who_does_not_read_is_put_out(monkeypatch):
    monkeypatch.setattr(serving, "LIFETIME", 0.5)
    with serve(app, "127.0.0.1", 0) as port:
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"GET /?100000000 HTTP/1.0\r\n\r\n")
            wait_until(lambda: threads() == 1, "the thread of the reply")
            wait_until(lambda: threads() == 0, "its end")
        wait_until(lambda: answers(port), "an answer")


def threads() -> int:
    return sum("process_request_thread" in each.name for each in threading.enumerate())


def test_what_it_cannot_read_does_not_matter(port, capfd):
    for junk in (
        b"\x16\x03\x01\x02\x00\x01",
        b"A" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET /\x1b[2J HTTP/9.9\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(junk)
                connection.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + 20
            while not is_closed(connection):
                assert time.monotonic() < deadline
    assert answers(port)
    assert capfd.readouterr().err == ""


def test_local_addresses():
    assert all(map(is_local, ("127.0.0.1", "127.3.2.1", "::1", "localhost")))
    assert not any(map(is_local, ("0.0.0.0", "::", "10.0.0.1", "host", "")))
