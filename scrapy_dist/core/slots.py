"""Slots: the hosts, or other groups of requests, that take turns."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING

from scrapy.utils.httpobj import urlparse_cached

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy import Request

#: The slot of disciplines that know no hosts.
NO_SLOT = 0
_LAST = 2**52 - 1


@lru_cache(10_000)
def slot_number(name: str) -> int:
    """The number of the slot *name*, from 1, which a double holds exactly: 52 bits of SHA-1."""
    digest = sha1(name.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:7], "big") % _LAST + 1


def host_of(request: Request) -> str:
    """The name of Scrapy's own slot of *request*: ``download_slot``, or else its host."""
    name = request.meta.get("download_slot")
    return name if isinstance(name, str) else urlparse_cached(request).hostname or ""


class Slots:
    """Which slot a request belongs to; *name_of* None: all are in `NO_SLOT`."""

    def __init__(self, name_of: Callable[[Request], str] | None) -> None:
        self.name_of = name_of

    def number(self, request: Request) -> int:
        """The number of the slot of *request*."""
        return NO_SLOT if self.name_of is None else slot_number(self.name_of(request))
