"""The types that MessagePack and JSON lack, and the plain form of each.

The number and the tag of a kind never change.
"""

from __future__ import annotations

import ipaddress
import pathlib
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from scrapy_dist.exceptions import BadPayload, Unserializable

#: Keys of one dict or set whose hash a stranger can choose. Equal hashes make a table
#: quadratic: 20,000 such integers take three seconds, these take 0.1.
MAX_ODD_KEYS = 4096
#: Types whose hash cannot be chosen freely: salted, or of 64 bits.
_SAFE_KEYS = frozenset({str, bytes, float, bool, type(None)})
#: Bits of both parts of a fraction, which is reduced in more than linear time.
_MAX_FRACTION = 8192


def _by_name(*classes: type) -> dict[str, type]:
    return {cls.__name__: cls for cls in classes}


#: What a defaultdict may call.
_FACTORIES = _by_name(
    *(bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple),
    *(Counter, OrderedDict, deque),
)
_PATHS = _by_name(
    *(pathlib.PurePosixPath, pathlib.PureWindowsPath),
    *(pathlib.PosixPath, pathlib.WindowsPath),
)
#: What stands for a path of a system that this one is not.
_PURE = {"PosixPath": pathlib.PurePosixPath, "WindowsPath": pathlib.PureWindowsPath}
del _PURE[type(pathlib.Path()).__name__]
_ADDRESSES = _by_name(
    *(ipaddress.IPv4Address, ipaddress.IPv4Network, ipaddress.IPv4Interface),
    *(ipaddress.IPv6Address, ipaddress.IPv6Network, ipaddress.IPv6Interface),
)
_ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,64}(/[A-Za-z0-9_+\-]{1,64}){0,3}")
_NUMBERS = (int, float, bool, Decimal, Fraction, complex)


def check_keys(keys: Collection[Any]) -> None:
    """Raise BadPayload if too many of *keys* have a hash that can be chosen."""
    if len(keys) <= MAX_ODD_KEYS:
        return
    odd = sum(1 for key in keys if type(key) not in _SAFE_KEYS and not is_int64(key))
    if odd > MAX_ODD_KEYS:
        raise BadPayload(
            f"{odd} keys of one dict or set are neither text nor small numbers;"
            f" at most {MAX_ODD_KEYS} can be"
        )


def is_int64(value: Any) -> bool:
    """Whether *value* is an int that MessagePack has."""
    return type(value) is int and -(1 << 63) <= value < 1 << 64


@dataclass(frozen=True)
class _Kind:
    """A type that MessagePack and JSON lack, and its plain form."""

    code: int
    tag: str
    #: The types that it is for, more than one where the plain form tells which.
    python: tuple[type, ...]
    plain: tuple[type, ...]
    to_plain: Callable[[Any], Any]
    from_plain: Callable[[Any], Any]

    def restore(self, value: Any) -> Any:
        if type(value) not in self.plain:
            names = " or ".join(plain.__name__ for plain in self.plain)
            raise BadPayload(f"{self.tag} needs a {names}")
        return self.from_plain(value)


def to_dict(pairs: list[Any]) -> dict[Any, Any]:
    check_keys([key for key, _ in pairs])
    return dict(pairs)


def _to_set(cls: type) -> Callable[[list[Any]], Any]:
    def to_set(values: list[Any]) -> Any:
        check_keys(values)
        return cls(values)

    return to_set


def _from_timedelta(obj: timedelta) -> list[int]:
    return [obj.days, obj.seconds, obj.microseconds]


def _to_timedelta(parts: list[Any]) -> timedelta:
    days, seconds, microseconds = parts
    return timedelta(days, seconds, microseconds)


def _need_no_attributes(obj: Any) -> None:
    if vars(obj):
        raise Unserializable(
            f"{type(obj).__name__} with the attribute {min(map(str, vars(obj)))!r}"
        )


def _from_ordered(obj: Any) -> Any:
    _need_no_attributes(obj)
    return [[key, value] for key, value in obj.items()]


def _to_ordered(pairs: list[Any]) -> Any:
    return OrderedDict(to_dict(pairs))


def _from_default(obj: Any) -> Any:
    factory = obj.default_factory
    if factory is None:
        return [None, dict(obj)]
    name = getattr(factory, "__name__", "")
    if _FACTORIES.get(name) is not factory:
        raise Unserializable(
            f"defaultdict with the factory {name or factory!r}, none of"
            f" {', '.join(sorted(_FACTORIES))}"
        )
    return [name, dict(obj)]


def _to_default(parts: list[Any]) -> Any:
    name, values = parts
    if not (name is None or (type(name) is str and name in _FACTORIES)):
        raise BadPayload("a defaultdict with a factory that is not allowed")
    if type(values) is not dict:
        raise BadPayload("a defaultdict without a dict")
    return defaultdict(None if name is None else _FACTORIES[name], values)


def _from_counter(obj: Any) -> Any:
    _need_no_attributes(obj)
    odd = [value for value in obj.values() if type(value) not in _NUMBERS]
    if odd:
        raise Unserializable(f"Counter with a {type(odd[0]).__name__} as count")
    return dict(obj)


def _to_counter(counts: dict[Any, Any]) -> Any:
    if not all(type(value) in _NUMBERS for value in counts.values()):
        raise BadPayload("a Counter with counts that are no numbers")
    return Counter(counts)


def _to_deque(parts: list[Any]) -> Any:
    limit, values = parts
    if type(values) is not list or not (
        limit is None or (type(limit) is int and len(values) <= limit <= sys.maxsize)
    ):
        raise BadPayload("a deque with a wrong length")
    return deque(values, limit)


def _named(obj: Any) -> list[str]:
    """The name of an object's class, and its text."""
    return [type(obj).__name__, str(obj)]


def _to_named(classes: dict[str, type]) -> Callable[[list[Any]], Any]:
    def to_named(parts: list[Any]) -> Any:
        name, text = parts
        if type(name) is not str or type(text) is not str or name not in classes:
            raise BadPayload(f"none of {', '.join(classes)}")
        return classes[name](text)

    return to_named


_to_path, _to_address = _to_named(_PATHS | _PURE), _to_named(_ADDRESSES)


def _from_moment(obj: Any) -> Any:
    """ISO 8601; with a zone of tzdata a list: without zone, the zone, fold."""
    zone = obj.tzinfo
    if type(zone) is ZoneInfo:
        return [obj.replace(tzinfo=None).isoformat(), _from_zone(zone), obj.fold]
    if type(obj) is time and zone is not None and obj.utcoffset() is None:
        raise Unserializable(f"time with a {type(zone).__module__} zone")
    return obj.isoformat()


def _to_moment(cls: Any) -> Callable[[Any], Any]:
    def to_moment(value: Any) -> Any:
        if type(value) is str:
            return cls.fromisoformat(value)
        text, zone, fold = value
        return cls.fromisoformat(text).replace(tzinfo=_to_zone(zone), fold=fold)

    return to_moment


def _from_zone(zone: Any) -> str:
    if type(zone.key) is not str or not _ZONE.fullmatch(zone.key):
        raise Unserializable("ZoneInfo without a key")
    return str(zone.key)


def _to_zone(key: Any) -> ZoneInfo:
    # It names a file, and a package where tzdata is one.
    if type(key) is not str or not _ZONE.fullmatch(key):
        raise BadPayload("a time zone with a wrong name")
    return ZoneInfo(key)


def _from_timezone(zone: Any) -> list[Any]:
    return [*zone.__getinitargs__()]


def _to_timezone(parts: list[Any]) -> timezone:
    return timezone(*parts)


def _from_fraction(obj: Any) -> Any:
    parts = [obj.numerator, obj.denominator]
    if max(part.bit_length() for part in parts) > _MAX_FRACTION:
        raise Unserializable(f"Fraction of more than {_MAX_FRACTION} bits")
    return parts


def _to_fraction(parts: list[Any]) -> Fraction:
    if len(parts) != 2 or not all(
        type(part) is int and part.bit_length() <= _MAX_FRACTION for part in parts
    ):
        raise BadPayload("a fraction that is none, or too large")
    return Fraction(*parts)


def _to_complex(parts: list[Any]) -> complex:
    real, imaginary = parts
    if type(real) is not float or type(imaginary) is not float:
        raise BadPayload("a complex number that is none")
    return complex(real, imaginary)


def _from_range(obj: range) -> list[int]:
    return [obj.start, obj.stop, obj.step]


def _to_range(parts: list[Any]) -> range:
    if len(parts) != 3 or not all(type(part) is int for part in parts):
        raise BadPayload("a range that is none")
    return range(*parts)


def _to_namespace(values: dict[Any, Any]) -> SimpleNamespace:
    if not all(type(k) is str and not k.startswith("__") for k in values):
        raise BadPayload("a namespace with names that are none")
    return SimpleNamespace(**values)


_KINDS = (
    _Kind(1, "$tuple", (tuple,), (list,), list, tuple),
    _Kind(2, "$set", (set,), (list,), list, _to_set(set)),
    _Kind(3, "$frozenset", (frozenset,), (list,), list, _to_set(frozenset)),
    _Kind(4, "$datetime", (datetime,), (str, list), _from_moment, _to_moment(datetime)),
    _Kind(5, "$date", (date,), (str,), date.isoformat, date.fromisoformat),
    _Kind(6, "$timedelta", (timedelta,), (list,), _from_timedelta, _to_timedelta),
    _Kind(7, "$decimal", (Decimal,), (str,), str, Decimal),
    _Kind(8, "$uuid", (UUID,), (str,), str, UUID),
    # Only integers beyond 64 bits get here. Hexadecimal has no limit of digits.
    _Kind(9, "$int", (int,), (str,), hex, lambda v: int(v, 16)),
    _Kind(10, "$ordered", (OrderedDict,), (list,), _from_ordered, _to_ordered),
    _Kind(11, "$default", (defaultdict,), (list,), _from_default, _to_default),
    _Kind(12, "$counter", (Counter,), (dict,), _from_counter, _to_counter),
    _Kind(13, "$deque", (deque,), (list,), lambda v: [v.maxlen, list(v)], _to_deque),
    _Kind(14, "$path", tuple(_PATHS.values()), (list,), _named, _to_path),
    _Kind(15, "$time", (time,), (str, list), _from_moment, _to_moment(time)),
    _Kind(16, "$timezone", (timezone,), (list,), _from_timezone, _to_timezone),
    _Kind(17, "$zone", (ZoneInfo,), (str,), _from_zone, _to_zone),
    _Kind(18, "$fraction", (Fraction,), (list,), _from_fraction, _to_fraction),
    _Kind(19, "$complex", (complex,), (list,), lambda v: [v.real, v.imag], _to_complex),
    _Kind(20, "$range", (range,), (list,), _from_range, _to_range),
    _Kind(21, "$ip", tuple(_ADDRESSES.values()), (list,), _named, _to_address),
    # 22 is $object.
    _Kind(23, "$namespace", (SimpleNamespace,), (dict,), vars, _to_namespace),
)
BY_TYPE = {python: kind for kind in _KINDS for python in kind.python}
BY_CODE = {kind.code: kind for kind in _KINDS}
BY_TAG = {kind.tag: kind for kind in _KINDS}
