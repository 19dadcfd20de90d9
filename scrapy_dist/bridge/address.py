"""Where RabbitMQ is: an AMQP URL, and how it may be shown."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

import pika

from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.masking import hide, mask_url

#: Seconds to connect; and of silence after which a connection is dead, at the most.
_CONNECT, _HEARTBEAT = 10.0, 30
#: What a URL may not say, as it would not hold.
_OURS = {
    "blocked_connection_timeout",
    "client_properties",
    "connection_attempts",
    "retry_delay",
}
#: Bytes of the longest vhost.
_VHOST = 255


@dataclass(frozen=True)
class Address:
    """An address; *shown* is without user and password."""

    parameters: pika.URLParameters
    shown: str
    secrets: tuple[str, ...]

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ConfigurationError for what is no AMQP URL, without its password."""
        try:
            parameters, secrets = _parse(url)
        except (ValueError, TypeError, OSError, SyntaxError):
            # The text of the error may have parts of a password.
            raise ConfigurationError(
                f"{mask_url(url)!r} is no address of RabbitMQ. Write"
                " amqp://user:password@host:5672/vhost, or amqps:// for TLS; in user,"
                " password and vhost %2F for /, %40 for @, and so on."
            ) from None
        query = urlsplit(url).query
        if own := _OURS & parse_qs(query, keep_blank_values=True).keys():
            raise ConfigurationError(
                f"The AMQP URL sets {min(own)}, which is the bridge's own business: it"
                " tries again by itself, and waits as long as RabbitMQ is short of room."
                " Leave it out."
            )
        vhost = parameters.virtual_host
        host = f"[{parameters.host}]" if ":" in parameters.host else parameters.host
        shown = f"{host}:{parameters.port}"
        return cls(parameters, shown if vhost == "/" else f"{shown}/{vhost}", secrets)

    def hide(self, text: str) -> str:
        """*text* without the password."""
        return hide(text, [secret for secret in self.secrets if secret])


def _parse(url: str) -> tuple[pika.URLParameters, tuple[str, str]]:
    """What pika is to have, and the password as it is and as it is written."""
    parts = urlsplit(url)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise ValueError(parts.scheme)
    # pika would drop the rest.
    if parts.fragment or "/" in parts.path[1:]:
        raise ValueError(parts.path)
    parameters = pika.URLParameters(url)
    if len(parameters.virtual_host.encode()) > _VHOST:
        raise ValueError("vhost")
    _complete(parameters, parts.query)
    return parameters, (unquote(parts.password or ""), parts.password or "")


def _complete(parameters: pika.URLParameters, query: str) -> None:
    """Set what the URL does not say."""
    for name, value in (("socket_timeout", _CONNECT), ("stack_timeout", 2 * _CONNECT)):
        if f"{name}=" not in query:
            setattr(parameters, name, value)
    if "heartbeat=" not in query:
        parameters.heartbeat = _HEARTBEAT
    # Who has the connection tries again, and waits as long as a memory alarm takes.
    parameters.connection_attempts = 1
    parameters.blocked_connection_timeout = None
    parameters.client_properties = {"connection_name": "scrapy frontier bridge"}
