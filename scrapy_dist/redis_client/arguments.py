"""Redis-py's arguments, checked one by one."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio.connection import parse_url
from scrapy.settings import BaseSettings
from scrapy.utils.misc import load_object

from scrapy_dist.base.words import span
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.addresses import (
    host_in,
    port_in,
    require,
    require_arguments,
)
from scrapy_dist.redis_client.masking import shown_value
from scrapy_dist.redis_client.tls import CERT_REQS

#: Seconds that the frontier waits for an answer where ``socket_timeout`` is None.
LONGEST_WAIT = 30.0


def checked(name: str, value: Any, setting: str) -> Any:
    if name not in _CHECKS:
        return value
    check, remedy = _CHECKS[name]
    try:
        return check(value)
    except (TypeError, ValueError, LookupError, ImportError, AttributeError, NameError):
        raise ConfigurationError(
            f"{setting} = {shown_value(name, value)} cannot be used. {remedy}"
        ) from None


def _url(value: Any) -> str:
    parts = urlsplit(value)
    require(parts.scheme in {"redis", "rediss", "unix"})
    # Raises for a port that is no number, e.g. a password with a slash in it.
    require(parts.port is None or parts.port > 0)
    if parts.scheme == "unix":
        require(parts.path)
    else:
        # redis-py takes the database 0 for a path that is no number.
        require(re.fullmatch(r"/?\d*", parts.path))
    require_arguments(parts)
    require(parse_url(value).get("db", 0) >= 0)
    # By its small letters redis-py, and we, tell what speaks TLS.
    scheme, rest = value[: len(parts.scheme)], value[len(parts.scheme) :]
    require(scheme.lower() == parts.scheme)
    return f"{parts.scheme}{rest}"


def _host(value: Any) -> str:
    # One colon is a port that belongs elsewhere, several are an IPv6 address.
    require(host_in(value).count(":") != 1)
    return str(value)


def _db(value: Any) -> int:
    require(int(value) >= 0)
    return int(value)


def _encoding(value: Any) -> str:
    codecs.lookup(value)
    # Redis' commands are ASCII: UTF-16 would spoil them.
    require("PING".encode(value) == b"PING")
    return str(value)


def _boolean(value: Any) -> bool:
    return BaseSettings({"it": value}).getbool("it")


def _perhaps(value: Any) -> bool | None:
    return None if value is None else _boolean(value)


def _seconds(value: Any) -> float | None:
    require(value is None or float(value) > 0)
    return None if value is None else float(value)


def _class(value: Any) -> Any:
    found = load_object(value) if isinstance(value, str) else value
    require(callable(found))
    return found


def _cert_reqs(value: Any) -> str | None:
    found = CERT_REQS.get(value, value)
    require(found is None or found in CERT_REQS.values())
    return cast("str | None", found)


def _refuse(value: Any) -> None:
    raise ValueError(value)


_SECONDS = (
    "Write a number of seconds above 0. None is without end for spider.server; the"
    f" frontier's own waits end after {span(LONGEST_WAIT)} all the same."
)
#: redis-py argument -> what checks and converts it, and what to write instead.
_CHECKS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "url": (
        _url,
        (
            "Write redis://user:password@host:6379/0, rediss://... for TLS or"
            " unix:///path/redis.sock; percent-encode special characters in the"
            " password. (memory:// is no Redis: only our Scheduler and Client know it.)"
        ),
    ),
    "host": (_host, "Write a host name or address; the port goes into REDIS_PORT."),
    "port": (port_in, "Write a port number from 1 to 65535, e.g. 6379."),
    "db": (_db, "Write the number of a Redis database, 0 or more."),
    "encoding": (_encoding, "Write an encoding that contains ASCII, e.g. 'utf-8'."),
    "decode_responses": (_boolean, "Write True or False."),
    "socket_timeout": (_seconds, _SECONDS),
    "socket_connect_timeout": (_seconds, _SECONDS),
    "ssl": (_boolean, "Write True or False."),
    "ssl_check_hostname": (_perhaps, "Write True or False."),
    "ssl_cert_reqs": (_cert_reqs, "Write 'required' or, to check nothing, 'none'."),
    "redis_cls": (_class, "Write a class like redis.Redis, or its dotted path."),
    "connection_pool": (_refuse, "Write where Redis is, e.g. in REDIS_URL."),
}
