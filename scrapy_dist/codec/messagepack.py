"""MessagePack, and a JSON-safe form, for the values that requests carry.

Both know None, bool, int of any size, float, str, bytes, list, dict with any hashable
key, and what ``_KINDS`` adds. They give back equal values of the same types, except
that subclasses of str come back as str, bytearray and memoryview as bytes, and numpy's
scalars as the Python values that are equal to them. Objects of other classes are stored
if a ``Coder`` has the class.

A value of ``_KINDS`` is an extension type whose data are MessagePack again; in the
JSON-safe form it is an object with one key, ``{"$set": [1, 2]}``. That form also has
``{"$bytes": base64}``, ``{"$float": "nan"}`` and, for keys that are no plain text,
``{"$dict": [[key, value], …]}``. The number and the tag of a kind never change; a reader
that does not know one refuses it.
"""

from __future__ import annotations

import base64
import ipaddress
import math
import pathlib
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack

from scrapy_dist.codec.objects import MAX_ODD_KEYS, SharedClasses, check_keys, is_int64
from scrapy_dist.exceptions import BadPayload, Unserializable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Coder", "Foreign", "dumps", "from_jsonable", "loads", "to_jsonable"]

#: Extension types inside each other, e.g. tuples in tuples. Bounds the C stack.
_MAX_DEPTH = 16
#: Bytes from which ``dumps`` reads back what it wrote. Fewer cannot hold
#: ``MAX_ODD_KEYS`` keys, the one limit that only ``loads`` can check.
_READ_BACK = 4 * MAX_ODD_KEYS
#: Bytes up to which a list is believed to have as many elements as it says. msgpack
#: allocates them before it reads them; 1 MB of nested lies would take 1 GB.
_BELIEVED = 4096
#: Lists, dicts and objects in one value: three bytes become a dict of 200. They are counted
#: in values of more bytes than `_COUNTED`.
MAX_CONTAINERS, _COUNTED = 65_536, 65_536
#: Bits of both parts of a fraction, which is reduced in more than linear time.
_MAX_FRACTION = 8192
#: Code and tag of an object of a class: a list of the class' path and its state.
_OBJECT, _OBJECT_TAG = 22, "$object"
#: What a defaultdict may call, by name.
_FACTORIES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        *(bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple),
        *(Counter, OrderedDict, deque),
    )
}
_PATHS: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        pathlib.PosixPath,
        pathlib.WindowsPath,
    )
}
#: What stands for a path of a system that this one is not.
_PURE = {"PosixPath": pathlib.PurePosixPath, "WindowsPath": pathlib.PureWindowsPath}
_ADDRESSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        *(ipaddress.IPv4Address, ipaddress.IPv4Network, ipaddress.IPv4Interface),
        *(ipaddress.IPv6Address, ipaddress.IPv6Network, ipaddress.IPv6Interface),
    )
}
_ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,64}(/[A-Za-z0-9_+\-]{1,64}){0,3}")
_NUMBERS = (int, float, bool, Decimal, Fraction, complex)


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


@dataclass(frozen=True)
class Foreign:
    """An object of a class that only the project has, as it is stored.

    ``Coder`` without classes reads and writes it, for those who show and move requests.
    """

    data: bytes


def _to_dict(pairs: list[Any]) -> dict[Any, Any]:
    check_keys([key for key, _ in pairs])
    return dict(pairs)


def _to_set(values: list[Any]) -> set[Any]:
    check_keys(values)
    return set(values)


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
    check_keys([key for key, _ in pairs])
    return OrderedDict(pairs)


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


def _named(names: dict[str, type]) -> Callable[[Any], Any]:
    """The name of an object's class, which is one of *names*, and its text."""
    return lambda obj: [type(obj).__name__, str(obj)]


def _two_texts(parts: list[Any], names: dict[str, type]) -> tuple[str, str]:
    name, text = parts
    if type(name) is not str or type(text) is not str or name not in names:
        raise BadPayload(f"none of {', '.join(names)}")
    return name, text


def _to_path(parts: list[Any]) -> Any:
    name, text = _two_texts(parts, _PATHS)
    if name in _PURE and name != type(pathlib.Path()).__name__:
        return _PURE[name](text)
    return _PATHS[name](text)


def _to_address(parts: list[Any]) -> Any:
    name, text = _two_texts(parts, _ADDRESSES)
    return _ADDRESSES[name](text)


def _from_moment(obj: Any) -> Any:
    """ISO 8601; with a zone of tzdata a list: without zone, the zone, fold."""
    zone = obj.tzinfo
    if type(zone) is ZoneInfo:
        return [obj.replace(tzinfo=None).isoformat(), _from_zone(zone), obj.fold]
    if type(obj) is time and zone is not None and obj.utcoffset() is None:
        raise Unserializable(f"time with a {type(zone).__module__} zone")
    return obj.isoformat()


def _to_moment(parse: Callable[[str], Any], value: Any) -> Any:
    if type(value) is str:
        return parse(value)
    text, zone, fold = value
    return parse(text).replace(tzinfo=_to_zone(zone), fold=fold)


def _from_zone(zone: Any) -> str:
    if type(zone.key) is not str or not _ZONE.fullmatch(zone.key):
        raise Unserializable("ZoneInfo without a key")
    return str(zone.key)


def _to_zone(key: Any) -> ZoneInfo:
    # It names a file, and a package where tzdata is one.
    if type(key) is not str or not _ZONE.fullmatch(key):
        raise BadPayload("a time zone with a wrong name")
    return ZoneInfo(key)


def _from_timezone(zone: Any) -> Any:
    offset, *name = zone.__getinitargs__()
    return [offset, *name]


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
    _Kind(2, "$set", (set,), (list,), list, _to_set),
    _Kind(
        3,
        "$frozenset",
        (frozenset,),
        (list,),
        list,
        lambda v: frozenset(_to_set(v)),
    ),
    _Kind(
        4,
        "$datetime",
        (datetime,),
        (str, list),
        _from_moment,
        partial(_to_moment, datetime.fromisoformat),
    ),
    _Kind(5, "$date", (date,), (str,), date.isoformat, date.fromisoformat),
    _Kind(
        6,
        "$timedelta",
        (timedelta,),
        (list,),
        lambda v: [v.days, v.seconds, v.microseconds],
        _to_timedelta,
    ),
    _Kind(7, "$decimal", (Decimal,), (str,), str, Decimal),
    _Kind(8, "$uuid", (UUID,), (str,), str, UUID),
    # Only integers beyond 64 bits get here. Hexadecimal has no limit of digits.
    _Kind(9, "$int", (int,), (str,), hex, lambda v: int(v, 16)),
    _Kind(10, "$ordered", (OrderedDict,), (list,), _from_ordered, _to_ordered),
    _Kind(11, "$default", (defaultdict,), (list,), _from_default, _to_default),
    _Kind(12, "$counter", (Counter,), (dict,), _from_counter, _to_counter),
    _Kind(13, "$deque", (deque,), (list,), lambda v: [v.maxlen, list(v)], _to_deque),
    _Kind(14, "$path", tuple(_PATHS.values()), (list,), _named(_PATHS), _to_path),
    _Kind(
        15,
        "$time",
        (time,),
        (str, list),
        _from_moment,
        partial(_to_moment, time.fromisoformat),
    ),
    _Kind(16, "$timezone", (timezone,), (list,), _from_timezone, _to_timezone),
    _Kind(17, "$zone", (ZoneInfo,), (str,), _from_zone, _to_zone),
    _Kind(18, "$fraction", (Fraction,), (list,), _from_fraction, _to_fraction),
    _Kind(19, "$complex", (complex,), (list,), lambda v: [v.real, v.imag], _to_complex),
    _Kind(
        20, "$range", (range,), (list,), lambda v: [v.start, v.stop, v.step], _to_range
    ),
    _Kind(
        21, "$ip", tuple(_ADDRESSES.values()), (list,), _named(_ADDRESSES), _to_address
    ),
    # 22 is $object.
    _Kind(23, "$namespace", (SimpleNamespace,), (dict,), vars, _to_namespace),
)
_BY_TYPE = {python: kind for kind in _KINDS for python in kind.python}
_BY_CODE = {kind.code: kind for kind in _KINDS}
_BY_TAG = {kind.tag: kind for kind in _KINDS}
_DEPTHS = range(_MAX_DEPTH + 1)


class Coder:
    """Reads and writes values, and objects of the classes in *shared*.

    Without *shared* objects are read as ``Foreign``.
    """

    def __init__(self, shared: SharedClasses | None = None) -> None:
        self._shared = shared
        self._pack_hooks = [partial(self._pack_other, depth) for depth in _DEPTHS]
        self._text_key_hooks = [
            partial(self._unpack_ext, self._unpack, depth) for depth in _DEPTHS
        ]
        self._any_key_hooks = [
            partial(self._unpack_ext, self._unpack_any_keys, depth) for depth in _DEPTHS
        ]

    def dumps(self, obj: Any) -> bytes:
        """MessagePack of *obj*; about 1 us for a request.

        Raises Unserializable for every other type, for lone surrogates in text, for
        nesting beyond msgpack's limit or 16 extension types, and for cycles.
        """
        try:
            data = self._pack(obj, 0)
            if len(data) > _READ_BACK:
                self.loads(data)
        except Unserializable:
            raise
        except Exception as e:
            raise Unserializable(_describe(e)) from e
        return data

    def loads(self, data: bytes) -> Any:
        """The value that ``dumps`` made *data* of.

        Safe on bytes of a stranger: builds only the types named above, and takes memory
        in proportion to ``len(data)``. Raises BadPayload, and nothing else, for all
        that is not complete, valid MessagePack of these types, or holds more than
        MAX_CONTAINERS lists, dicts and objects.
        """
        if len(data) > _COUNTED:
            return self._counting().loads(data)
        try:
            # Without a Python call for each dict, if all keys are text, as they mostly
            # are.
            return self._unpack(data, 0)
        except Exception:  # noqa: BLE001 - the second attempt says what is wrong
            return self._loads_any_keys(data)

    def to_jsonable(self, obj: Any) -> Any:
        """*obj* of JSON's types only, for any serializer; see the module's docstring.

        Raises Unserializable for other types, and RecursionError for cycles.
        """
        kind = type(obj)
        if kind is str or kind is bool or obj is None:
            return obj
        if kind is int and is_int64(obj):
            return obj
        if kind is float:
            return obj if math.isfinite(obj) else {"$float": repr(obj)}
        if kind is list:
            return [self.to_jsonable(value) for value in obj]
        if kind is dict:
            return self._dict_to_jsonable(obj)
        if kind in (bytes, bytearray, memoryview):
            return {"$bytes": base64.b64encode(obj).decode("ascii")}
        if kind in _BY_TYPE:
            known = _BY_TYPE[kind]
            return {known.tag: self.to_jsonable(known.to_plain(obj))}
        plain = self.loads(obj.data) if kind is Foreign else self._take(obj)
        if plain is not None:
            return {_OBJECT_TAG: self.to_jsonable(plain)}
        return self.to_jsonable(_python_value(obj))

    def from_jsonable(self, obj: Any) -> Any:
        """The value that ``to_jsonable`` made *obj* of.

        Raises BadPayload, or what a hostile *obj* makes the types raise.
        """
        if type(obj) is list:
            return [self.from_jsonable(value) for value in obj]
        if type(obj) is not dict:
            return obj
        if len(obj) == 1:
            ((tag, value),) = obj.items()
            if type(tag) is str and tag.startswith("$"):
                return self._from_tagged(tag, value)
        return {key: self.from_jsonable(value) for key, value in obj.items()}

    def _counting(self) -> Coder:
        return _Counting(self._shared)

    def _loads_any_keys(self, data: bytes) -> Any:
        try:
            return self._unpack_any_keys(data, 0)
        except BadPayload:
            raise
        except Exception as e:
            raise BadPayload(f"not valid MessagePack: {_describe(e)}") from e

    def _pack(self, obj: Any, depth: int) -> bytes:
        # A new Packer each time: it is cheap, and one Packer is neither reentrant nor
        # safe with threads.
        packed: bytes = msgpack.Packer(
            default=self._pack_hooks[depth], strict_types=True
        ).pack(obj)
        return packed

    def _pack_other(self, depth: int, obj: Any) -> Any:
        cls = type(obj)
        kind = _BY_TYPE.get(cls)
        if kind is not None:
            code, name, plain = kind.code, kind.tag[1:], kind.to_plain(obj)
        elif cls is Foreign:
            return msgpack.ExtType(_OBJECT, obj.data)
        else:
            code, name, plain = _OBJECT, "object", self._take(obj)
            if plain is None:
                value = _python_value(obj)
                # msgpack asks once only, so what it does not know goes on here.
                again = type(value) in (complex, *_MOMENTS)
                return self._pack_other(depth, value) if again else value
        if depth == _MAX_DEPTH:
            raise Unserializable(
                f"nested too deep, or in itself: more than {_MAX_DEPTH} {name}s"
            )
        return msgpack.ExtType(code, self._pack(plain, depth + 1))

    def _take(self, obj: Any) -> Any:
        return None if self._shared is None else self._shared.take(obj)

    def _make(self, plain: Any) -> Any:
        if self._shared is None:
            return Foreign(self._pack(plain, 0))
        return self._shared.make(plain)

    def _unpack(self, data: bytes, depth: int) -> Any:
        _check_lengths(data)
        return msgpack.unpackb(data, ext_hook=self._text_key_hooks[depth])

    def _unpack_any_keys(self, data: bytes, depth: int) -> Any:
        _check_lengths(data)
        return msgpack.unpackb(
            data,
            ext_hook=self._any_key_hooks[depth],
            strict_map_key=False,
            object_pairs_hook=_to_dict,
        )

    def _unpack_ext(
        self, unpack: Callable[[bytes, int], Any], depth: int, code: int, data: bytes
    ) -> Any:
        kind = _BY_CODE.get(code)
        if kind is None and code != _OBJECT:
            raise BadPayload(
                f"unknown MessagePack extension type {code}, of another version of"
                " scrapy-dist"
            )
        if depth == _MAX_DEPTH:
            raise BadPayload(f"extension types nested deeper than {_MAX_DEPTH}")
        if kind is not None:
            return kind.restore(unpack(data, depth + 1))
        if self._shared is None:
            return Foreign(data)
        return self._make(unpack(data, depth + 1))

    def _dict_to_jsonable(self, obj: dict[Any, Any]) -> dict[str, Any]:
        if all(type(key) is str and not key.startswith("$") for key in obj):
            return {key: self.to_jsonable(value) for key, value in obj.items()}
        return {
            "$dict": [
                [self.to_jsonable(k), self.to_jsonable(v)] for k, v in obj.items()
            ]
        }

    def _from_tagged(self, tag: str, value: Any) -> Any:
        if tag == "$bytes":
            return base64.b64decode(value, validate=True)
        if tag == "$float":
            return float(value)
        if tag == "$dict":
            return _to_dict(
                [[self.from_jsonable(k), self.from_jsonable(v)] for k, v in value]
            )
        if tag in _BY_TAG:
            return _BY_TAG[tag].restore(self.from_jsonable(value))
        if tag == _OBJECT_TAG:
            return self._make(self.from_jsonable(value))
        raise BadPayload(
            f"unknown JSON tag {tag[:80]!r}, of another version of scrapy-dist"
        )


class _Counting(Coder):
    """Reads one large value, and counts what is in it."""

    def _counting(self) -> Coder:
        return self

    def loads(self, data: bytes) -> Any:
        self._left = MAX_CONTAINERS
        try:
            return self._unpack(data, 0)
        except Exception:
            if self._left < 0:
                raise
        self._left = MAX_CONTAINERS
        return self._loads_any_keys(data)

    def _count(self, value: Any = None) -> Any:
        self._left -= 1
        if self._left < 0:
            raise BadPayload(f"more than {MAX_CONTAINERS} lists, dicts and objects")
        return value

    def _unpack(self, data: bytes, depth: int) -> Any:
        _check_lengths(data)
        return msgpack.unpackb(
            data,
            ext_hook=self._text_key_hooks[depth],
            object_hook=self._count,
            list_hook=self._count,
        )

    def _unpack_any_keys(self, data: bytes, depth: int) -> Any:
        _check_lengths(data)
        return msgpack.unpackb(
            data,
            ext_hook=self._any_key_hooks[depth],
            strict_map_key=False,
            object_pairs_hook=lambda pairs: self._count(_to_dict(pairs)),
            list_hook=self._count,
        )

    def _unpack_ext(
        self, unpack: Callable[[bytes, int], Any], depth: int, code: int, data: bytes
    ) -> Any:
        self._count()
        return super()._unpack_ext(unpack, depth, code, data)


def _python_value(obj: Any) -> Any:
    """What stands for *obj*: text for subclasses of str, numbers for those of numpy."""
    # Text that lxml extracts, e.g. CrawlSpider's meta["link_text"], is such a subclass.
    if isinstance(obj, str) and not isinstance(obj, Enum):
        return str.__str__(obj)
    numpy = sys.modules.get("numpy")  # whoever has such an object has imported it
    if numpy is not None and isinstance(obj, numpy.generic):
        value = obj.item()
        known = type(value) in (bool, int, float, complex, bytes, *_MOMENTS)
        if known and (value == obj or value != value):  # noqa: PLR0124 - a NaN
            return value
        raise Unserializable(f"numpy's {type(obj).__name__} {obj!r:.40}")
    raise Unserializable(_name_of(obj))


_MOMENTS = (datetime, date, timedelta)


def _name_of(obj: Any) -> str:
    """What *obj* is, for people."""
    if isinstance(obj, (FunctionType, BuiltinFunctionType, MethodType)):
        return (
            f"the function {obj.__module__}.{obj.__qualname__}; requests hold data, no"
            " code"
        )
    if isinstance(obj, type):
        return (
            f"the class {obj.__module__}.{obj.__qualname__}; requests hold no classes"
        )
    kind = type(obj)
    return f"objects of {kind.__module__}.{kind.__qualname__}"


def _check_lengths(data: bytes) -> None:
    if len(data) > _BELIEVED:
        unpacker = msgpack.Unpacker(max_buffer_size=len(data))
        unpacker.feed(data)
        unpacker.skip()  # reads all of it, and allocates nothing


def _describe(error: Exception) -> str:
    """What *error* says, in a few words; some of msgpack's say nothing."""
    text = str(error) or type(error).__name__
    if "recursion" in text:
        return "nested too deep, or in itself"
    return text[:200]


#: For those who have no project: they know no classes.
PLAIN = Coder()
dumps, loads = PLAIN.dumps, PLAIN.loads
to_jsonable, from_jsonable = PLAIN.to_jsonable, PLAIN.from_jsonable
