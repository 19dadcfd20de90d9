"""TLS to Redis and to sentinels checks certificates and the names in them.

redis-py checks names by itself only since its version 6.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from scrapy_dist.exceptions import ConfigurationError

#: redis-py's words for what a certificate must be.
CERT_REQS = {
    ssl.CERT_NONE: "none",
    ssl.CERT_OPTIONAL: "optional",
    ssl.CERT_REQUIRED: "required",
}


def checked_names(given: Mapping[str, Any], where: str) -> bool:
    """``ssl_check_hostname`` of a TLS connection with the arguments *given*.

    True, unless they say otherwise, or that certificates are not checked at all. Raises
    ConfigurationError if they say both; *where*: what says it.
    """
    reqs = given.get("ssl_cert_reqs", "required")
    unchecked = reqs is None or reqs in ("none", ssl.CERT_NONE)
    chosen = given.get("ssl_check_hostname")
    if chosen and unchecked:
        raise ConfigurationError(
            f"{where}: ssl_check_hostname is true, but ssl_cert_reqs says that"
            " certificates are not checked. Remove one of them."
        )
    return not unchecked if chosen is None else bool(chosen)


def sentinel_arguments(
    own: Mapping[str, Any], redis: Mapping[str, Any], *, tls: bool
) -> dict[str, Any]:
    """Arguments for connections to sentinels.

    *own* is ``sentinel_kwargs``; what it does not say of TLS is as for Redis: *tls*, and
    the ``ssl_`` ones of *redis*.
    """
    given = dict(own)
    if not given.setdefault("ssl", tls):
        return {name: value for name, value in given.items() if name != "ssl"}
    if tls:
        inherited = {n: v for n, v in redis.items() if n.startswith("ssl_")}
        if "ssl_cert_reqs" in own:
            # Whether names are checked goes with whether certificates are.
            inherited.pop("ssl_check_hostname", None)
        given = {**inherited, **given}
    given["ssl_check_hostname"] = checked_names(
        given, "REDIS_PARAMS['sentinel_kwargs']"
    )
    return given
