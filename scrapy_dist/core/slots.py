"""Slots: the hosts, or other groups of requests, that take turns."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING

from scrapy import Request
from scrapy.utils.httpobj import urlparse_cached

from scrapy_dist.codec.sizes import flaw_of_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

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

    def number_of_fields(self, fields: Mapping[str, Any]) -> int:
        """The number of the slot of a request of which only its *fields* are known.

        They may be anything, as `codec.request.fields_of` gives them. `NO_SLOT` if no slot
        can be told.
        """
        url, meta = fields.get("url"), fields.get("meta")
        if self.name_of is None or type(url) is not str or flaw_of_url(url):
            return NO_SLOT
        try:
            return self.number(Request(url, meta=meta if type(meta) is dict else None))
        except Exception:  # noqa: BLE001  whatever a rule of the project's makes of it
            return NO_SLOT
