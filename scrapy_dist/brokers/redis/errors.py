"""Errors of Redis, and what they become."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError, ResponseError

from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable

#: Errors of a Redis that cannot work now, whatever is asked of it; they may come
#: wrapped in the error of a script.
_NOT_NOW = re.compile(
    r"\b(ASK|BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|MOVED|NOAUTH|NOPERM|NOREPLICAS"
    r"|READONLY|TRYAGAIN)\b"
)
#: Those of a Redis that is not, or no longer, the one to talk to.
_ELSEWHERE = re.compile(r"\b(ASK|CLUSTERDOWN|MASTERDOWN|MOVED|READONLY|TRYAGAIN)\b")


@contextmanager
def asking(
    undone: str = "", remedy: str = "", *, key: str = "", spider: str = ""
) -> Iterator[None]:
    """Raise what redis-py raises as RedisUnavailable, which says what is *undone*.

    For a key of a wrong type, *key* or one of the frontier's, of *spider* if it is known,
    as ConfigurationError.
    """
    try:
        yield
    except (RedisError, OSError) as e:
        if is_wrong_type(e):
            whose = f" of {spider!r}" if spider else ""
            command = f"scrapy frontier check {spider}".rstrip()
            raise ConfigurationError(
                f"{key or f'A key of the frontier{whose}'} holds something else: {e}."
                f" {command} tells which key it is, and the setting that names it."
            ) from e
        if undone:
            raise RedisUnavailable(
                f"Redis does not answer, or refuses, and {undone}: {e}{remedy}"
            ) from e
        kind = "Redis refuses" if type(e) is ResponseError else type(e).__name__
        raise RedisUnavailable(f"{kind}: {e}") from e


def is_wrong_type(error: Exception) -> bool:
    """Whether a key holds another type than what was asked of it needs."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def is_temporary(error: Exception) -> bool:
    """Whether Redis would give this error to any request now, and may not later."""
    return bool(_NOT_NOW.search(_coded(error)))


def is_elsewhere(error: Exception) -> bool:
    """Whether the next connection is to find out who serves the frontier now."""
    return isinstance(error, ResponseError) and bool(_ELSEWHERE.search(_coded(error)))


def _coded(error: Exception) -> str:
    """The message of *error* with its code, which redis-py turns into classes."""
    code = type(error).__name__.removesuffix("Error").removesuffix("Permission")
    code = "NOPERM" if code == "No" else code.upper()
    return f"{code} {error}"
