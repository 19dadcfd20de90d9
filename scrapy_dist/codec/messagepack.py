"""MessagePack, and a JSON-safe form, for the values that requests carry.

Both know None, bool, int of any size, float, str, bytes, list, dict with any hashable
key, and what ``kinds`` adds. They give back equal values of the same types, except
that subclasses of str come back as str, bytearray and memoryview as bytes, and numpy's
scalars as the Python values that are equal to them. Objects of other classes are stored
if a ``Coder`` has the class.

A value of these is an extension type whose data are MessagePack again; in the
JSON-safe form it is an object with one key, ``{"$set": [1, 2]}``. That form also has
``{"$bytes": base64}``, ``{"$float": "nan"}`` and, for keys that are no plain text,
``{"$dict": [[key, value], …]}``. The number and the tag of a kind never change; a reader
that does not know one refuses it.
"""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import msgpack

from scrapy_dist.codec.kinds import (
    BY_CODE,
    BY_TAG,
    BY_TYPE,
    MAX_ODD_KEYS,
    is_int64,
    to_dict,
)
from scrapy_dist.exceptions import BadPayload, Unserializable

if TYPE_CHECKING:
    from scrapy_dist.codec.objects import SharedClasses

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
#: Code and tag of an object of a class: a list of the class' path and its state.
_OBJECT, _OBJECT_TAG = 22, "$object"


@dataclass(frozen=True)
class Foreign:
    """An object of a class that only the project has, as it is stored.

    ``Coder`` without classes reads and writes it, for those who show and move requests.
    """

    data: bytes


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
        coder = self if len(data) <= _COUNTED else _Counting(self._shared)
        try:
            # Without a Python call for each dict, if all keys are text, as they mostly
            # are.
            return coder._unpack(data, 0)  # noqa: SLF001 - a Coder, too
        except Exception:  # noqa: BLE001 - the second attempt says what is wrong
            return coder._loads_any_keys(data)  # noqa: SLF001

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
        if kind in BY_TYPE:
            known = BY_TYPE[kind]
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
        kind = BY_TYPE.get(cls)
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

    def _unpack_any_keys(
        self, data: bytes, depth: int, make_dict: Any = to_dict, **hooks: Any
    ) -> Any:
        _check_lengths(data)
        return msgpack.unpackb(
            data,
            ext_hook=self._any_key_hooks[depth],
            strict_map_key=False,
            object_pairs_hook=make_dict,
            **hooks,
        )

    def _unpack_ext(
        self, unpack: Callable[[bytes, int], Any], depth: int, code: int, data: bytes
    ) -> Any:
        kind = BY_CODE.get(code)
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
            return to_dict(
                [[self.from_jsonable(k), self.from_jsonable(v)] for k, v in value]
            )
        if tag in BY_TAG:
            return BY_TAG[tag].restore(self.from_jsonable(value))
        if tag == _OBJECT_TAG:
            return self._make(self.from_jsonable(value))
        raise BadPayload(
            f"unknown JSON tag {tag[:80]!r}, of another version of scrapy-dist"
        )


class _Counting(Coder):
    """Reads one large value, and counts what is in it."""

    _left = MAX_CONTAINERS

    def _count(self, value: Any = None) -> Any:
        self._left -= 1
        if self._left < 0:
            raise BadPayload(f"more than {MAX_CONTAINERS} lists, dicts and objects")
        return value

    def _loads_any_keys(self, data: bytes) -> Any:
        self._left = MAX_CONTAINERS
        return super()._loads_any_keys(data)

    def _unpack(self, data: bytes, depth: int) -> Any:
        _check_lengths(data)
        hook = self._text_key_hooks[depth]
        count = self._count
        return msgpack.unpackb(data, ext_hook=hook, object_hook=count, list_hook=count)

    def _unpack_any_keys(
        self, data: bytes, depth: int, make_dict: Any = to_dict, **hooks: Any
    ) -> Any:
        def counted(pairs: list[Any]) -> Any:
            return self._count(make_dict(pairs))

        return super()._unpack_any_keys(data, depth, counted, list_hook=self._count)

    def _unpack_ext(self, *given: Any) -> Any:
        self._count()
        return super()._unpack_ext(*given)


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
