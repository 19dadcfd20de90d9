"""Where RabbitMQ is; what is wrong with a URL is said without its password."""

from __future__ import annotations

import pytest

pytest.importorskip("pika")

from scrapy_dist.bridge.address import Address
from scrapy_dist.exceptions import ConfigurationError


def test_url_says_all():
    address = Address.parse("amqp://me:p%40ss@rabbit:1234/a%2Fb?heartbeat=7")
    parameters = address.parameters
    assert (parameters.host, parameters.port) == ("rabbit", 1234)
    assert parameters.virtual_host == "a/b"
    assert parameters.credentials.password == "p@ss"
    assert parameters.heartbeat == 7
    assert parameters.ssl_options is None
    assert address.shown == "rabbit:1234/a/b"
    assert address.hide("no p@ss and no p%40ss") == "no *** and no ***"


def test_the_rest_is_as_usual():
    address = Address.parse("amqps://rabbit")
    assert address.shown == "rabbit:5671"
    assert address.parameters.virtual_host == "/"
    assert address.parameters.ssl_options.context.check_hostname
    assert 0 < address.parameters.heartbeat <= 60
    assert Address.parse("amqp://rabbit/").shown == "rabbit:5672"
    assert Address.parse("amqp://rabbit/%2F").shown == "rabbit:5672"
    assert Address.parse("amqp://[::1]/v").shown == "[::1]:5672/v"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "rabbit",
        "redis://me:secret@rabbit/0",
        "amqp://",
        "amqp://me:secret@",
        "amqp://me:sec/ret@rabbit",
        "amqp://me:secret@rabbit:port",
        "amqp://me:secret@rabbit:99999",
        "amqp://me@rabbit",
        "amqp://me:secret@rabbit?unknown=1",
        "amqp://me:secret@rabbit?heartbeat=often",
        "amqp://me:secret@[::1",
        "amqps://me:secret@rabbit?ssl_options=(",
        "amqp://me:secret@rabbit/a/b",
        "amqp://me:secret@rabbit//",
        "amqp://me:secret@rabbit/a#b",
        f"amqp://me:secret@rabbit/{'v' * 256}",
    ],
)
def test_what_is_no_url_is_told_without_its_password(url):
    with pytest.raises(ConfigurationError, match="is no address of RabbitMQ") as e:
        Address.parse(url)
    assert "sec" not in str(e.value)


@pytest.mark.parametrize("name", ["connection_attempts", "blocked_connection_timeout"])
def test_what_would_not_hold_is_refused_by_name(name):
    with pytest.raises(ConfigurationError, match=f"sets {name}") as e:
        Address.parse(f"amqp://me:secret@rabbit?heartbeat=5&{name}=3")
    assert "sec" not in str(e.value)
