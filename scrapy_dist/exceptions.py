"""Every exception that scrapy-dist raises.

FrontierError
├── ConfigurationError (also ValueError)   a setting is wrong: name, value, remedy
├── EmbeddedRedisError                     the local redis-server cannot be started
├── RedisUnavailable                       Redis does not answer, or refuses us
├── Unserializable (also ValueError)       a request cannot become bytes
├── TaskExists (also ValueError)           a task with this id lives already
├── UnknownTask (also LookupError)         there is no such task, or not any more
├── BadPayload (also ValueError)           bytes from Redis cannot become a request
└── BadSeed (also ValueError)              a seed cannot become a request
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BadPayload",
    "BadSeed",
    "ConfigurationError",
    "EmbeddedRedisError",
    "FrontierError",
    "RedisUnavailable",
    "TaskExists",
    "UnknownTask",
    "Unserializable",
]


class FrontierError(Exception):
    """Base of all errors of scrapy-dist."""

    def __repr__(self) -> str:
        # asyncio logs a failed start with repr and traceback: say the message once.
        return f"{type(self).__name__}(…)"


class ConfigurationError(FrontierError, ValueError):
    """A setting, a spider attribute or the Redis behind it cannot be used.

    The message names the setting, its value and what to write instead.
    """


class EmbeddedRedisError(FrontierError):
    """The embedded Redis cannot be found or started; the message says what to do."""


class RedisUnavailable(FrontierError):
    """Redis cannot be reached or refuses the connection."""


class Unserializable(FrontierError, ValueError):
    """The request holds something that cannot be stored, e.g. a lambda callback.

    *missing* are the classes that a setting could allow, as the setting names them.
    """

    def __init__(self, message: str, missing: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.missing = frozenset(missing)


class TaskExists(FrontierError, ValueError):
    """Tasks were not submitted, since tasks with these *ids* have not ended yet."""

    def __init__(self, message: str, ids: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


class UnknownTask(FrontierError, LookupError):
    """There is no task of this id, or no batch of this name; or not any more."""


class BadPayload(FrontierError, ValueError):
    """Bytes read from Redis are not a request that this spider may run.

    ``str(error)`` is the reason that a person reads in ``S:failed``. *cause*: what kind
    of thing is wrong, the same for all requests that one mistake makes unreadable.
    *remedy*: what a person can do about it, one sentence or more.
    """

    def __init__(self, reason: str = "", *, cause: str = "", remedy: str = "") -> None:
        super().__init__(reason)
        self.cause = cause
        self.remedy = remedy


class BadSeed(FrontierError, ValueError):
    """A seed is not a URL or JSON object that may be crawled.

    ``str(error)`` is the reason that a person reads in ``S:failed``.
    """
