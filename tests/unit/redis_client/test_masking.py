"""No password of Redis in what people read."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.credentials import UsernamePasswordCredentialProvider
from scrapy.settings import Settings

from scrapy_dist.client import Client
from scrapy_dist.connection import from_settings
from scrapy_dist.exceptions import ConfigurationError, FrontierError
from scrapy_dist.redis_client.client import describe, open_client
from scrapy_dist.redis_client.masking import hide, mask_url, secrets_in
from tests.support.redis_server import free_port

P = "Geheim"
#: Passwords as people type them, not percent-encoded; each part has the mark.
PASSWORDS = st.lists(
    st.sampled_from("@/?#:&=%,;[]\\'\" ~!*(){}+.ö\x1b"), max_size=4
).map(lambda marks: P + "".join(mark + P for mark in marks))

#: Where people write one in a setting that is wrong.
WITH_LOGIN = (
    {"REDIS_URL": "redis://u:{}@h:x/0"},
    {"REDIS_URL": "redis://:{}@h/books"},
    {"REDIS_URL": "redis://{}@h/books"},
    {"REDIS_URL": "redis:u:{}@h"},
    {"REDIS_URL": "redis//u:{}@h"},
    {"REDIS_URL": "u:{}@h"},
    {"REDIS_URL": "http://u:{}@h"},
    {"REDIS_URL": "redis+sentinel://u:{}@h1:1,h2"},
    {"REDIS_URL": "redis+sentinel://u:{}@h1:1,h2:x/m"},
    {"REDIS_URL": "redis+cluster://u:{}@h/7"},
    {"REDIS_URL": "redis+swarm://u:{}@h"},
    {"REDIS_HOST": "u:{}@h"},
    {"REDIS_HOST": "{}@h"},
    {"REDIS_HOST": "redis://u:{}@h"},
    {"REDIS_SENTINELS": "u:{}@h:1"},
    {"REDIS_SENTINELS": ["u:{}@h:1"]},
    {"REDIS_SENTINELS": [("{}@h", 1)]},
    {"REDIS_CLUSTER": "redis://:{}@h:1"},
    {"REDIS_CLUSTER": [("redis://:{}@h", "x")]},
    {"REDIS_PARAMS": {"url": "redis://u:{}@h/books"}},
    {"REDIS_PARAMS": {"host": "u:{}@h"}},
)
ELSEWHERE = (
    {"REDIS_URL": "redis://u:{}"},
    {"REDIS_URL": "redis://:{}"},
    {"REDIS_URL": "redis+sentinel://u:{}/m"},
    {"REDIS_URL": "redis://h/0?passwd={}"},
    {"REDIS_URL": "redis://h/0?password={}&nonsense=1"},
    {"REDIS_URL": "redis://h/0?{}"},
    {"REDIS_URL": "redis://h/0?{}=1"},
    {"REDIS_URL": "redis://h/0?socket_timeout=x&auth={}"},
    {"REDIS_URL": "redis://h/x#{}"},
    {"REDIS_URL": "unix://?password={}"},
    {"REDIS_URL": "redis+cluster://h/1?passwd={}"},
    {"REDIS_SENTINELS": [("h", 1, "{}")]},
    {"REDIS_SENTINELS": [("h", "{}")]},
    {"REDIS_SENTINELS": {"password": "{}"}},
    {"REDIS_CLUSTER": [{"host": "h", "password": "{}"}]},
    {"REDIS_CLUSTER": "h", "REDIS_PARAMS": {"password": "{}", "nonsense": 1}},
    {"REDIS_HOST": "h", "REDIS_PARAMS": {"password": "{}", "nonsense": 1}},
    {"REDIS_PARAMS": {"host": {"password": "{}"}}},
    {"REDIS_PARAMS": {"sentinel_kwargs": "{}"}, "REDIS_SENTINELS": "h"},
    {"REDIS_PARAMS": "password={}"},
)


def filled(value: Any, password: str) -> Any:
    if isinstance(value, str):
        return value.replace("{}", password)
    if isinstance(value, dict):
        return {name: filled(each, password) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(filled(each, password) for each in value)
    return value


def error_of(settings: dict[str, Any]) -> str:
    """What both clients say; neither connects."""
    shown = []
    for make in (describe, from_settings):
        try:
            made = make(Settings(settings))
        except ConfigurationError as e:
            shown.append(str(e))
        else:
            assert make is from_settings, f"{made} is taken"
        if "cluster" in str(settings).lower():
            break  # redis-py's client of a cluster connects at once
    return "\n".join(shown)


@pytest.mark.parametrize("settings", WITH_LOGIN)
@hypothesis_settings(deadline=None, max_examples=25)
@given(password=PASSWORDS)
def test_login_in_a_wrong_setting(settings: dict[str, Any], password: str) -> None:
    assert P not in error_of(filled(settings, password))


@pytest.mark.parametrize("settings", ELSEWHERE)
def test_password_in_another_place(settings: dict[str, Any]) -> None:
    assert P not in error_of(filled(settings, P))


def test_object_with_a_password() -> None:
    pool = redis.ConnectionPool(password=P)
    assert P not in error_of({"REDIS_PARAMS": {"connection_pool": pool}})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:x@h1:1,h2:2/m/0", "redis://***@h1:1,h2:2/m/0"),
        ("redis://h1:1,h2:2/m/0", "redis://h1:1,h2:2/m/0"),
        ("redis://[::1]:1/0", "redis://[::1]:1/0"),
        ("redis://h?db=1&x=y&z", "redis://h?db=1&x=***&***"),
        ("unix:///a/b.sock", "unix:///a/b.sock"),
        ("unix://u:x@/a/b.sock?db=1", "unix://***@/a/b.sock?db=1"),
        ("rediss://h/0?ssl_cert_reqs=none", "rediss://h/0?ssl_cert_reqs=none"),
        ("redis://user:hunter", "redis://user:***"),
        ("", ""),
    ],
)
def test_masked_url_is_still_of_use(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@hypothesis_settings(deadline=None, max_examples=25)
@given(st.text(max_size=60))
def test_masking_takes_anything(text: str) -> None:
    mask_url(text)
    mask_url(f"redis://{text}")
    assert P not in mask_url(f"redis://:{text}{P}@h")
    secrets_in({"url": text, "password": text})
    hide(text, [text] if text else [])


def test_secrets_are_found_wherever_they_are() -> None:
    found = secrets_in(
        {
            "url": "redis://u:a%20a@h?x=bb",
            "password": b"cc",
            "ssl_password": "dd",
            "sentinel_kwargs": {"password": "ee"},
            "credential_provider": UsernamePasswordCredentialProvider("u", "ff"),
            "socket_timeout": 3,
            "host": "h",
        }
    )
    assert {"a a", "a%20a", "bb", "cc", "dd", "ee", "ff"} <= found
    assert not found & {"h", "u"}
    assert hide("a a, bbb bb: no.", found) == "***, bbb ***: no."
    assert hide("x@p! y", ["@p!"]) == "x*** y"


async def test_client_by_bytes() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client(b"redis://:Geheim@h", "s")  # type: ignore[arg-type]
    assert P not in str(caught.value)


async def test_host_that_cannot_be_found() -> None:
    """What the system says of it names it."""
    port = free_port()
    for settings in (
        {"REDIS_URL": f"redis://u:{P}@127.0.0.1:{port}/0?client_name=x"},
        {
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": port,
            "REDIS_PARAMS": {"password": P},
        },
    ):
        with pytest.raises(FrontierError) as caught:
            await open_client(Settings(settings))
        assert P not in str(caught.value)
        assert str(port) in str(caught.value)
