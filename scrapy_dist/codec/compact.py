"""The fields of a request as MessagePack, in about half the bytes of a dict.

The names of the fields are most of what a small request has beside its URL, and it is
small requests that come in millions. So what ``dumps`` writes is a list: a number whose
bits tell which fields are there, then their values. Two parts that nearly every request
has are fields of their own: ``depth`` of its ``meta``, and the header ``Referer``, as the
number of characters that it shares with the URL and the rest of it. Most URLs begin with
``https://``: then that is left out, and the number of the list is negative.

``loads`` reads dicts with the names spelled out, too. ``dumps`` writes one where a field
has no bit, which only subclasses of Request have.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from scrapy_dist.codec import messagepack
from scrapy_dist.exceptions import BadPayload

#: The bits, from the lowest on. Up to seven take one byte; what is frequent comes first.
#: A new one goes to the end: requests that are in Redis keep their numbers.
_NAMES = (
    "url",
    "callback",
    "depth",
    "referer",
    "meta",
    "cb_kwargs",
    "priority",
    "dont_filter",
    "errback",
    "headers",
    "method",
    "body",
    "cookies",
    "flags",
    "encoding",
    "_class",
)
_BITS = {name: bit for bit, name in enumerate(_NAMES)}
_REFERER = b"Referer"
_HTTPS = "https://"


class Shorthand:
    """Reads and writes the fields of requests; *coder* does so with their values."""

    def __init__(self, coder: messagepack.Coder = messagepack.PLAIN) -> None:
        self._dumps, self._loads = coder.dumps, coder.loads

    def dumps(self, fields: dict[str, Any]) -> bytes:
        """MessagePack of *fields*, those of ``Request.to_dict()``; they stay as they are.

        Raises Unserializable, as ``Coder.dumps``.
        """
        short = _shorten(fields)
        plan = _plan(tuple(short))
        if plan is None:
            return self._dumps(fields)
        mask, names = plan
        url = short.get("url")
        if type(url) is str and url.startswith(_HTTPS):
            mask, short["url"] = -mask, url[len(_HTTPS) :]
        return self._dumps([mask, *[short[name] for name in names]])

    def loads(self, data: bytes) -> Any:
        """What ``dumps`` made *data* of; a dict, or what else somebody has written there.

        As safe as ``Coder.loads``. Raises BadPayload.
        """
        found = self._loads(data)
        return _expand(found) if type(found) is list else found


#: For those who have no project: they know no classes.
_PLAIN = Shorthand()
dumps, loads = _PLAIN.dumps, _PLAIN.loads


def _shorten(fields: dict[str, Any]) -> dict[str, Any]:
    short = dict(fields)
    meta = short.get("meta")
    if type(meta) is dict and type(meta.get("depth")) is int:
        short["depth"] = meta["depth"]
        if len(meta) == 1:
            del short["meta"]
        else:
            short["meta"] = {k: v for k, v in meta.items() if k != "depth"}
    headers = short.get("headers")
    if type(headers) is dict and _REFERER in headers:
        referer = _difference(headers[_REFERER], fields.get("url"))
        if referer is not None:
            short["referer"] = referer
            if len(headers) == 1:
                del short["headers"]
            else:
                short["headers"] = {k: v for k, v in headers.items() if k != _REFERER}
    return short


def _difference(values: Any, url: Any) -> list[Any] | None:
    """The one Referer in *values* as what follows the part that *url* has too."""
    if type(values) is not list or len(values) != 1 or type(url) is not str:
        return None
    (referer,) = values
    if type(referer) is not bytes or not referer.isascii():
        return None
    text = referer.decode("ascii")
    # By segments of the path: a fraction of the time that single characters take.
    shared = url.rfind("/") + 1
    while shared and not text.startswith(url[:shared]):
        shared = url.rfind("/", 0, shared - 1) + 1
    return [shared, text[shared:]]


def _expand(found: list[Any]) -> dict[str, Any]:
    names = _names(abs(found[0])) if found and type(found[0]) is int else ()
    if not names or len(names) != len(found) - 1:
        raise BadPayload("it holds a list, no request")
    fields = dict(zip(names, found[1:], strict=True))
    if found[0] < 0:
        if type(fields.get("url")) is not str:
            raise BadPayload("its url is not readable")
        fields["url"] = _HTTPS + fields["url"]
    if "depth" in fields:
        meta = fields.setdefault("meta", {})
        if type(meta) is not dict:
            raise BadPayload(f"its meta is a {type(meta).__name__}")
        meta["depth"] = fields.pop("depth")
    if "referer" in fields:
        headers = fields.setdefault("headers", {})
        if type(headers) is not dict:
            raise BadPayload(f"its headers are a {type(headers).__name__}")
        headers[_REFERER] = [_join(fields.pop("referer"), fields.get("url"))]
    return fields


def _join(referer: Any, url: Any) -> bytes:
    if type(referer) is list and len(referer) == 2 and type(url) is str:
        shared, rest = referer
        if type(shared) is int and 0 <= shared <= len(url) and type(rest) is str:
            return (url[:shared] + rest).encode()
    raise BadPayload("its Referer is not readable")


@lru_cache(256)
def _plan(names: tuple[str, ...]) -> tuple[int, tuple[str, ...]] | None:
    """The bits of *names*, and *names* in their order; None if one has no bit."""
    if not _BITS.keys() >= set(names):
        return None
    mask = sum(1 << _BITS[name] for name in names)
    return mask, _names(mask)


@lru_cache(256)
def _names(mask: int) -> tuple[str, ...]:
    """The names of the bits of *mask*; none if there are others."""
    if not 0 < mask < 1 << len(_NAMES):
        return ()
    return tuple(name for bit, name in enumerate(_NAMES) if mask >> bit & 1)
