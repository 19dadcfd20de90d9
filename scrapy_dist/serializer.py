"""MessagePack, and a JSON-safe form, for the values that requests carry.

Both know None, bool, int of any size, float, str, bytes, list, dict with any hashable
key, and what ``_KINDS`` adds. They give back equal values of the same types, except
that subclasses of str come back as str, and bytearray and memoryview as bytes.

A value of ``_KINDS`` is an extension type whose data are MessagePack again; in the
JSON-safe form it is an object with one key, ``{"$set": [1, 2]}``. That form also has
``{"$bytes": base64}``, ``{"$float": "nan"}`` and, for keys that are no plain text,
``{"$dict": [[key, value], …]}``.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgpack

from scrapy_dist.exceptions import BadPayload, Unserializable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["dumps", "from_jsonable", "loads", "to_jsonable"]

#: Extension types inside each other, e.g. tuples in tuples. Bounds the C stack.
_MAX_DEPTH = 16
#: Keys of one dict or set whose hash a stranger can choose. Equal hashes make a table
#: quadratic: 20,000 such integers take three seconds, these take 0.1.
_MAX_ODD_KEYS = 4096
#: Types whose hash cannot be chosen freely: salted, or of 64 bits.
_SAFE_KEYS = frozenset({str, bytes, float, bool, type(None)})
#: Bytes from which ``dumps`` reads back what it wrote. Fewer cannot hold
#: ``_MAX_ODD_KEYS`` keys, the one limit that only ``loads`` can check.
_READ_BACK = 4 * _MAX_ODD_KEYS
#: Bytes up to which a list is believed to have as many elements as it says. msgpack
#: allocates them before it reads them; 1 MB of nested lies would take 1 GB.
_BELIEVED = 4096


@dataclass(frozen=True)
class _Kind:
    """A type that MessagePack and JSON lack, and its plain form."""

    code: int
    tag: str
    python: type
    plain: type
    to_plain: Callable[[Any], Any]
    from_plain: Callable[[Any], Any]

    def restore(self, value: Any) -> Any:
        if type(value) is not self.plain:
            raise BadPayload(f"{self.tag} needs a {self.plain.__name__}")
        return self.from_plain(value)


def _check_keys(keys: Collection[Any]) -> None:
    if len(keys) <= _MAX_ODD_KEYS:
        return
    odd = sum(1 for key in keys if type(key) not in _SAFE_KEYS and not _is_int64(key))
    if odd > _MAX_ODD_KEYS:
        raise BadPayload(
            f"{odd} keys of one dict or set are neither text nor small numbers;"
            f" at most {_MAX_ODD_KEYS} can be"
        )


def _is_int64(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 64


def _to_dict(pairs: list[Any]) -> dict[Any, Any]:
    _check_keys([key for key, _ in pairs])
    return dict(pairs)


def _to_set(values: list[Any]) -> set[Any]:
    _check_keys(values)
    return set(values)


def _to_timedelta(parts: list[Any]) -> timedelta:
    days, seconds, microseconds = parts
    return timedelta(days, seconds, microseconds)


_KINDS = (
    _Kind(1, "$tuple", tuple, list, list, tuple),
    _Kind(2, "$set", set, list, list, _to_set),
    _Kind(3, "$frozenset", frozenset, list, list, lambda v: frozenset(_to_set(v))),
    _Kind(4, "$datetime", datetime, str, datetime.isoformat, datetime.fromisoformat),
    _Kind(5, "$date", date, str, date.isoformat, date.fromisoformat),
    _Kind(
        6,
        "$timedelta",
        timedelta,
        list,
        lambda v: [v.days, v.seconds, v.microseconds],
        _to_timedelta,
    ),
    _Kind(7, "$decimal", Decimal, str, str, Decimal),
    _Kind(8, "$uuid", UUID, str, str, UUID),
    # Only integers beyond 64 bits get here. Hexadecimal has no limit of digits.
    _Kind(9, "$int", int, str, hex, lambda v: int(v, 16)),
)
_BY_TYPE = {kind.python: kind for kind in _KINDS}
_BY_CODE = {kind.code: kind for kind in _KINDS}
_BY_TAG = {kind.tag: kind for kind in _KINDS}


def dumps(obj: Any) -> bytes:
    """MessagePack of *obj*; about 1 us for a request.

    Raises Unserializable for every other type, for lone surrogates in text, for
    nesting beyond msgpack's limit or 16 extension types, and for cycles.
    """
    try:
        data = _pack(obj, 0)
        if len(data) > _READ_BACK:
            loads(data)
    except Unserializable:
        raise
    except Exception as e:
        raise Unserializable(_describe(e)) from e
    return data


def loads(data: bytes) -> Any:
    """The value that ``dumps`` made *data* of.

    Safe on bytes of a stranger: builds only the types named above, and takes memory
    in proportion to ``len(data)``. Raises BadPayload, and nothing else, for all
    that is not complete, valid MessagePack of these types.
    """
    try:
        # Without a Python call for each dict, if all keys are text, as they mostly are.
        return _unpack(data, 0)
    except Exception:  # noqa: BLE001 - the second attempt says what is wrong
        return _loads_any_keys(data)


def _loads_any_keys(data: bytes) -> Any:
    try:
        return _unpack_any_keys(data, 0)
    except BadPayload:
        raise
    except Exception as e:
        raise BadPayload(f"not valid MessagePack: {_describe(e)}") from e


def _pack(obj: Any, depth: int) -> bytes:
    # A new Packer each time: it is cheap, and one Packer is neither reentrant nor safe
    # with threads.
    packed: bytes = msgpack.Packer(default=_PACK_HOOKS[depth], strict_types=True).pack(
        obj
    )
    return packed


def _pack_other(depth: int, obj: Any) -> Any:
    kind = _BY_TYPE.get(type(obj))
    if kind is None:
        return _plain_text(obj)
    if depth == _MAX_DEPTH:
        raise Unserializable(f"nested too deep, more than {_MAX_DEPTH} {kind.tag[1:]}s")
    return msgpack.ExtType(kind.code, _pack(kind.to_plain(obj), depth + 1))


def _plain_text(obj: Any) -> str:
    # Text that lxml extracts, e.g. CrawlSpider's meta["link_text"], is such a subclass.
    if isinstance(obj, str) and not isinstance(obj, Enum):
        return str.__str__(obj)
    kind = type(obj)
    raise Unserializable(f"objects of {kind.__module__}.{kind.__qualname__}")


def _check_lengths(data: bytes) -> None:
    if len(data) > _BELIEVED:
        unpacker = msgpack.Unpacker(max_buffer_size=len(data))
        unpacker.feed(data)
        unpacker.skip()  # reads all of it, and allocates nothing


def _unpack(data: bytes, depth: int) -> Any:
    _check_lengths(data)
    return msgpack.unpackb(data, ext_hook=_TEXT_KEY_HOOKS[depth])


def _unpack_any_keys(data: bytes, depth: int) -> Any:
    _check_lengths(data)
    return msgpack.unpackb(
        data,
        ext_hook=_ANY_KEY_HOOKS[depth],
        strict_map_key=False,
        object_pairs_hook=_to_dict,
    )


def _unpack_ext(
    unpack: Callable[[bytes, int], Any], depth: int, code: int, data: bytes
) -> Any:
    kind = _BY_CODE.get(code)
    if kind is None:
        raise BadPayload(f"unknown MessagePack extension type {code}")
    if depth == _MAX_DEPTH:
        raise BadPayload(f"extension types nested deeper than {_MAX_DEPTH}")
    return kind.restore(unpack(data, depth + 1))


_DEPTHS = range(_MAX_DEPTH + 1)
_PACK_HOOKS = [partial(_pack_other, depth) for depth in _DEPTHS]
_TEXT_KEY_HOOKS = [partial(_unpack_ext, _unpack, depth) for depth in _DEPTHS]
_ANY_KEY_HOOKS = [partial(_unpack_ext, _unpack_any_keys, depth) for depth in _DEPTHS]


def _describe(error: Exception) -> str:
    """What *error* says, in a few words; some of msgpack's say nothing."""
    return (str(error) or type(error).__name__)[:200]


def to_jsonable(obj: Any) -> Any:
    """*obj* of JSON's types only, for any serializer; see the module's docstring.

    Raises Unserializable for other types, and RecursionError for cycles.
    """
    kind = type(obj)
    if kind is str or kind is bool or obj is None:
        return obj
    if kind is int and _is_int64(obj):
        return obj
    if kind is float:
        return obj if math.isfinite(obj) else {"$float": repr(obj)}
    if kind is list:
        return [to_jsonable(value) for value in obj]
    if kind is dict:
        return _dict_to_jsonable(obj)
    if kind in (bytes, bytearray, memoryview):
        return {"$bytes": base64.b64encode(obj).decode("ascii")}
    if kind in _BY_TYPE:
        return {_BY_TYPE[kind].tag: to_jsonable(_BY_TYPE[kind].to_plain(obj))}
    return _plain_text(obj)


def _dict_to_jsonable(obj: dict[Any, Any]) -> dict[str, Any]:
    if all(type(key) is str and not key.startswith("$") for key in obj):
        return {key: to_jsonable(value) for key, value in obj.items()}
    return {"$dict": [[to_jsonable(k), to_jsonable(v)] for k, v in obj.items()]}


def from_jsonable(obj: Any) -> Any:
    """The value that ``to_jsonable`` made *obj* of.

    Raises BadPayload, or what a hostile *obj* makes the types raise.
    """
    if type(obj) is list:
        return [from_jsonable(value) for value in obj]
    if type(obj) is not dict:
        return obj
    if len(obj) == 1:
        ((tag, value),) = obj.items()
        if type(tag) is str and tag.startswith("$"):
            return _from_tagged(tag, value)
    return {key: from_jsonable(value) for key, value in obj.items()}


def _from_tagged(tag: str, value: Any) -> Any:
    if tag == "$bytes":
        return base64.b64decode(value, validate=True)
    if tag == "$float":
        return float(value)
    if tag == "$dict":
        return _to_dict([[from_jsonable(k), from_jsonable(v)] for k, v in value])
    if tag in _BY_TAG:
        return _BY_TAG[tag].restore(from_jsonable(value))
    raise BadPayload(f"unknown JSON tag {tag[:80]!r}")
