"""``scrapy frontier web``: what it needs before it serves anything."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from scrapy_dist.web import serving
from tests.support.commands import run_here


@pytest.fixture
def web(redis_server, monkeypatch):
    """``scrapy frontier web`` that ends as soon as it would serve; see `run_here`."""
    monkeypatch.delenv("FRONTIER_WEB_PASSWORD", raising=False)
    rules = []

    async def serve(app, listening, stopped):
        rules.append(app.rules)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(serving, "serve", serve)

    def run(*args):
        code, out, err = run_here(
            "web", "--redis", redis_server.url, "--port", "0", *args
        )
        return code, out, err, rules[-1] if rules else None

    return run


def test_this_machine_needs_no_password(web):
    code, out, err, rules = web()
    assert (code, err) == (0, "")
    assert "at http://127.0.0.1:" in out
    assert rules.password == ""
    assert not rules.any_address
    assert rules.port > 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "crawler.example.org"])
def test_other_machines_need_a_password(web, host):
    code, out, err, rules = web("--host", host)
    assert (code, out, rules) == (2, "", None)
    assert err.count("\n") == 1
    assert f"--host '{host}' lets other machines reach the page" in err
    assert "FRONTIER_WEB_PASSWORD" in err
    assert "--password-file" in err


def test_the_password_comes_from_the_file_the_setting_or_the_environment(
    web, monkeypatch, tmp_path
):
    monkeypatch.setenv("FRONTIER_WEB_PASSWORD", "of-environment")
    assert web()[3].password == "of-environment"
    setting = ("-s", "FRONTIER_WEB_PASSWORD=of-setting")
    code, out, err, rules = web(*setting, "--host", "0.0.0.0")
    assert (code, rules.password, rules.any_address) == (0, "of-setting", True)
    assert "goes over the network as it is" in err
    assert "of-setting" not in out + err
    path = tmp_path / "password"
    path.write_text("of file ä\n")
    options = (*setting, "--password-file", str(path), "--behind-https")
    code, _, err, rules = web(*options, "--host", "0.0.0.0")
    assert (code, err, rules.password, rules.https) == (0, "", "of file ä", True)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * 2000])
def test_a_file_without_a_password_is_refused(web, tmp_path, content):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    code, _, err, rules = web("--password-file", str(path))
    assert (code, rules, err.count("\n")) == (2, None, 1)
    assert f"--password-file '{path}'" in err


@pytest.mark.parametrize("name", ["http://x", "a b", "x/y", ""])
def test_a_name_that_is_none_is_refused(web, name):
    code, _, err, _ = web("--allowed-host", name)
    assert (code, err.count("\n")) == (2, 1)
    assert f"--allowed-host '{name}' is no name of a host" in err


def test_a_port_that_is_taken_is_named(web):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err, _ = web("--port", str(port))
    assert (code, err.count("\n")) == (2, 1)
    assert f"127.0.0.1:{port}" in err
    assert "--port" in err


def test_without_the_extra_it_says_what_to_install(web, monkeypatch):
    def missing(name, *args, **kwargs):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", missing)
    code, _, err, _ = web()
    assert (code, err.count("\n")) == (2, 1)
    assert 'pip install "scrapy-dist[web]"' in err


async def test_a_server_ends_when_it_is_asked_to():
    async def app(scope, receive, send):
        await asyncio.sleep(60)

    stopped = asyncio.Event()
    with serving.bound("127.0.0.1", 0) as listening:
        running = asyncio.ensure_future(serving.serve(app, listening, stopped))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await writer.drain()
        stopped.set()
        await running
        writer.close()
        await reader.read()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_that_asks_for_nothing_is_given_up(monkeypatch, sent):
    monkeypatch.setattr(serving, "_LOOK", 0.01)

    async def app(scope, receive, send):
        raise AssertionError

    stopped = asyncio.Event()
    with serving.bound("127.0.0.1", 0) as listening:
        running = asyncio.ensure_future(serving.serve(app, listening, stopped))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(sent)
        assert await reader.read() == b""
        writer.close()
        stopped.set()
        await running
