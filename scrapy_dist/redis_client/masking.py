"""Addresses and errors of Redis as people may see them: without passwords."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_HIDDEN = "***"
#: Arguments of redis-py whose values are no secrets.
_HARMLESS = frozenset(
    {
        *("url", "host", "port", "path", "unix_socket_path", "db", "username"),
        *("client_name", "protocol", "encoding", "encoding_errors", "decode_responses"),
        *("timeout", "socket_timeout", "socket_connect_timeout", "socket_keepalive"),
        *("socket_read_size", "max_connections", "health_check_interval"),
        *("retry_on_timeout", "ssl", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile"),
        *("ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers"),
        "ssl_min_version",
    }
)
#: Names of arguments that hold a secret, whoever takes them.
_SECRET = re.compile(r"pass|secret|token|auth|credential|key_?data", re.IGNORECASE)
#: Errors of one chain that are looked at.
_DEEP = 20
_NAME = re.compile(r"[a-z_]{1,40}")
#: What Redis, and proxies, repeat of a command that they do not know: AUTH has a password.
_ECHO = re.compile(r"(with args beginning with:).*", re.IGNORECASE | re.DOTALL)


def mask_url(url: str) -> str:
    """*url* without user, password, and what of its query may be one.

    It may be malformed, and no URL at all.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    head, mark, fragment = mask_at(rest).partition("#")
    head, question, query = head.partition("?")
    netloc, slash, path = head.partition("/")
    if scheme != "unix":
        netloc = ",".join(map(_mask_node, netloc.split(",")))
    if question:
        query = "&".join(map(_mask_argument, query.split("&")))
    return "".join(
        (scheme, separator, netloc, slash, path, question, query)
        + ((mark, _HIDDEN) if fragment else ())
    )


def mask_at(text: str) -> str:
    """*text* without what is in front of its last ``@``."""
    before, at, after = text.rpartition("@")
    return f"{_HIDDEN}@{after}" if at and before != _HIDDEN else text


def _mask_node(node: str) -> str:
    """A host with its port; what is no port may be a password without its ``@``."""
    if node.startswith("["):
        return node
    host, colon, port = node.rpartition(":")
    if not colon or port.isdecimal() or not port:
        return node
    return f"{host}:{_HIDDEN}" if host else _HIDDEN


def _mask_argument(argument: str) -> str:
    name, equals, value = argument.partition("=")
    if not equals or not _NAME.fullmatch(name):
        return _HIDDEN if argument else ""
    return f"{name}={value if name in _HARMLESS else _HIDDEN}"


def is_secret(name: str) -> bool:
    """Whether an argument or setting of that *name* may hold a secret."""
    return _SECRET.search(name) is not None


def shown_value(name: str, value: Any) -> str:
    """The *value* of redis-py's argument *name*, or of a setting, for an error."""
    if isinstance(value, str):
        return repr(mask_url(value) if name == "url" else mask_at(value))
    if value is None or isinstance(value, (bool, int, float, type)):
        return repr(value)
    # Its text may be anything, e.g. all arguments of a connection.
    return f"<{type(value).__name__}>"


def shown_nodes(value: Any) -> str:
    """A list of servers, or what stands for one, for an error."""
    if not isinstance(value, (list, tuple)):
        return shown_value("", value)
    return f"[{', '.join(map(_shown_node, value))}]"


def _shown_node(node: Any) -> str:
    if isinstance(node, str):
        return shown_value("", node)
    if not isinstance(node, (list, tuple)) or len(node) != 2:
        return _HIDDEN
    host, port = node
    if isinstance(port, str) and not port.isdecimal():
        port = _HIDDEN
    return f"({shown_value('', host)}, {shown_value('', port)})"


def secrets_in(arguments: Mapping[str, Any]) -> frozenset[str]:
    """The passwords in *arguments* of redis-py, in its URL, and in dicts in them."""
    return frozenset(secret for secret in _find_secrets(arguments) if secret)


def _find_secrets(arguments: Mapping[str, Any]) -> Iterator[str]:
    for name, value in arguments.items():
        if isinstance(value, Mapping):
            yield from _find_secrets(value)
        elif name == "url" and isinstance(value, str):
            yield from _find_in_url(value)
        elif _SECRET.search(str(name)):
            secret = getattr(value, "password", value)
            if isinstance(secret, (bytes, bytearray)):
                yield secret.decode("utf-8", "replace")
            elif isinstance(secret, str):
                yield secret


def _find_in_url(url: str) -> Iterator[str]:
    _, _, rest = url.partition("://")
    login, at, _ = rest.rpartition("@")
    if at:
        user, colon, password = login.partition(":")
        for each in (password if colon else user, login):
            yield each
            yield unquote(each)
    try:
        query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    except ValueError:
        return
    for name, value in query:
        if not _NAME.fullmatch(name):
            yield name
        if name not in _HARMLESS:
            yield value


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """*text* of an error without *secrets*, and without what Redis repeats of a command."""
    text = _ECHO.sub(rf"\1 {_HIDDEN}", text)
    for secret in sorted(secrets, key=len, reverse=True):
        # A short one may be a part of innocent words.
        before = r"(?<!\w)" if secret[:1].isalnum() else ""
        after = r"(?!\w)" if secret[-1:].isalnum() else ""
        text = re.sub(before + re.escape(secret) + after, _HIDDEN, text)
    return text


def hide_in_error(error: BaseException, secrets: Iterable[str]) -> None:
    """Apply `hide` to the text of *error* and of what it comes from, whoever shows it."""
    secrets = [secret for secret in secrets if secret]
    found: BaseException | None = error
    for _ in range(_DEEP):
        if found is None:
            return
        found.args = tuple(
            hide(each, secrets) if isinstance(each, str) else each
            for each in found.args
        )
        found = found.__cause__ or found.__context__
