"""How the objects of a class are taken apart and put together."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import Enum, Flag
from types import MethodDescriptorType, WrapperDescriptorType
from typing import Any, Protocol

from scrapy import Item, Request, Spider
from scrapy.crawler import Crawler
from scrapy.http import Response
from scrapy.utils.trackref import object_ref

from scrapy_dist.codec.attributes import PYDANTIC_SLOTS, Attributes
from scrapy_dist.codec.kinds import check_keys
from scrapy_dist.exceptions import BadPayload, Unserializable

#: Where attrs keeps a hash, which is another in each process.
_CACHED_HASH = "_attrs_cached_hash"
_REQUIRED, _OPTIONAL = object(), object()


class Form(Protocol):
    """How the objects of one class are stored."""

    def take(self, obj: Any) -> Any:
        """The state of *obj*: plain, but for what it holds. Raises Unserializable."""

    def make(self, state: Any) -> Any:
        """The object with *state*. Raises BadPayload if it cannot be one."""


class _EnumForm:
    """State: the name of the member; of combined flags their number."""

    def __init__(self, cls: type[Enum]) -> None:
        self._cls = cls
        self._members = cls.__members__
        self._mask = 0
        if issubclass(cls, Flag):
            for member in self._members.values():
                self._mask |= member._value_

    def take(self, obj: Any) -> Any:
        name = obj._name_
        if self._members.get(name) is obj:
            return name
        number = obj._value_
        if type(number) is int and 0 <= number == number & self._mask:
            return number
        raise Unserializable(f"{self._cls.__name__} has no member for it")

    def make(self, state: Any) -> Any:
        if type(state) is str and state in self._members:
            return self._members[state]
        if type(state) is int and 0 <= state == state & self._mask:
            return self._cls(state)
        raise BadPayload(f"{self._cls.__name__} has no member {str(state)[:80]!r}")


class _NamedTupleForm:
    """State: the list of the fields' values."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._count = len(cls._fields)

    def take(self, obj: Any) -> Any:
        if getattr(obj, "__dict__", None):
            raise Unserializable(
                f"{self._cls.__name__} has the attribute {min(vars(obj))!r} beside its"
                " fields"
            )
        return [*tuple.__iter__(obj)]

    def make(self, state: Any) -> Any:
        if type(state) is not list or len(state) != self._count:
            raise BadPayload(f"{self._cls.__name__} has {self._count} fields")
        return tuple.__new__(self._cls, state)


def _fill_ordered(obj: Any, pairs: Any) -> None:
    for key, value in pairs:
        OrderedDict.__setitem__(obj, key, value)


def _pairs(items: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda obj: [[key, value] for key, value in items(obj)]


#: Builtin types whose subclasses are stored, the first that fits: the type, how to read
#: an object of a subclass, and how to fill an empty one (None: ``__new__`` does).
_NATIVES: tuple[
    tuple[type, Callable[[Any], Any], Callable[[Any, Any], object] | None], ...
] = (
    (OrderedDict, _pairs(OrderedDict.items), _fill_ordered),
    (dict, _pairs(dict.items), dict.update),
    (list, lambda obj: [*list.__iter__(obj)], list.extend),
    (set, lambda obj: [*set.__iter__(obj)], set.update),
    (frozenset, lambda obj: [*frozenset.__iter__(obj)], None),
    (tuple, lambda obj: [*tuple.__iter__(obj)], None),
    (str, str.__str__, None),
    (bytes, lambda obj: bytes.__getitem__(obj, slice(None)), None),
    (int, int.__int__, None),
    (float, float.__float__, None),
)


def _has_code_in_c(cls: type) -> bool:
    """Whether *cls* itself, not a base, has methods that no class statement makes."""
    kinds = (MethodDescriptorType, WrapperDescriptorType)
    own = [value for value in vars(cls).values() if isinstance(value, kinds)]
    return any(value.__objclass__ is cls for value in own)


class _NativeForm:
    """Of a subclass of a builtin type. State: list of its plain value, attributes."""

    def __init__(self, cls: type) -> None:
        base, read, fill = next(row for row in _NATIVES if issubclass(cls, row[0]))
        self._cls, self._base, self._read, self._fill = cls, base, read, fill
        self._attributes = Attributes(cls)
        self._plain: type = base if base in (str, bytes, int, float) else list
        self._new: Callable[..., Any] = base.__new__
        # A type with a state that only it knows, such as defaultdict.
        between = cls.__mro__[: cls.__mro__.index(base)]
        odd = [other for other in between if _has_code_in_c(other)]
        if odd:
            raise TypeError(f"{odd[0].__name__} is not known")
        self._new(cls, *([] if fill else [self._plain()]))

    def take(self, obj: Any) -> Any:
        return [self._read(obj), self._attributes.take(obj)]

    def make(self, state: Any) -> Any:
        if type(state) is not list or len(state) != 2:
            raise BadPayload(f"{self._cls.__name__} needs a value and attributes")
        value: Any = state[0]
        kind = type(value)
        if kind is not self._plain:
            raise BadPayload(f"{self._cls.__name__} needs a {self._plain.__name__}")
        if issubclass(self._base, dict):
            check_keys([key for key, _ in value])
        elif self._base in (set, frozenset):
            check_keys(value)
        if self._fill is None:
            obj = self._new(self._cls, value)
        else:
            obj = self._new(self._cls)
            self._fill(obj, value)
        self._attributes.set(obj, state[1])
        return obj


class _ObjectForm:
    """Of a class of Python alone. State: the dict of its objects' attributes."""

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self._attributes = Attributes(cls)
        self._fields = _fields_of(cls)
        self._attributes.allow(self._fields)
        self._new = (
            object_ref.__new__ if issubclass(cls, object_ref) else object.__new__
        )
        self._item = issubclass(cls, Item)
        self._new(cls)

    def take(self, obj: Any) -> Any:
        found = self._attributes.take(obj)
        if _CACHED_HASH in found:
            found[_CACHED_HASH] = None
        # pydantic's mark of a private attribute that is not set.
        private = found.get("__pydantic_private__")
        if private:
            found["__pydantic_private__"] = {
                name: value
                for name, value in private.items()
                if type(value).__name__ != "PydanticUndefinedType"
            }
        return found

    def make(self, state: Any) -> Any:
        if type(state) is not dict:
            raise BadPayload(f"{self._cls.__name__} needs a dict of its attributes")
        if _CACHED_HASH in state and state[_CACHED_HASH] is not None:
            raise BadPayload(f"{self._cls.__name__} cannot be given a hash")
        for name, types in PYDANTIC_SLOTS.items():
            if name in state and type(state[name]) not in types:
                raise BadPayload(f"{self._cls.__name__} needs another {name}")
        if self._item:
            self._check_item(state.get("_values"))
        obj: Any = self._new(self._cls)
        self._attributes.set(obj, state)
        missing = {n: f for n, f in self._fields.items() if n not in state}
        if missing:
            self._attributes.set(obj, self._defaults(missing))
        return obj

    def _defaults(self, missing: dict[str, Any]) -> dict[str, Any]:
        """What a newer class has and *state*, of an older one, has not."""
        found = {}
        for name, default in missing.items():
            if default is _REQUIRED:
                raise BadPayload(f"{self._cls.__name__} has no {name}")
            if default is not _OPTIONAL:
                found[name] = default()
        return found

    def _check_item(self, values: Any) -> None:
        if type(values) is not dict or not values.keys() <= self._cls.fields.keys():  # type: ignore[attr-defined]
            raise BadPayload(f"{self._cls.__name__} has other fields")


def _fields_of(cls: Any) -> dict[str, Any]:
    """Fields that *cls* declares, and their defaults as functions without arguments."""
    if dataclasses.is_dataclass(cls):
        return {
            field.name: _dataclass_default(field) for field in dataclasses.fields(cls)
        }
    if hasattr(cls, "__attrs_attrs__"):
        return {field.name: _attrs_default(field) for field in cls.__attrs_attrs__}
    if hasattr(cls, "__pydantic_validator__"):
        # The first from pydantic 2.10 on.
        found = getattr(cls, "__pydantic_fields__", None) or cls.model_fields
        return {
            **{name: _pydantic_default(field) for name, field in found.items()},
            **dict.fromkeys(PYDANTIC_SLOTS, _REQUIRED),
        }
    return {}


def _dataclass_default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    if field.default is not dataclasses.MISSING:
        return lambda: field.default
    return _REQUIRED if field.init else _OPTIONAL


def _attrs_default(field: Any) -> Any:
    default = field.default
    factory = getattr(sys.modules.get("attr"), "Factory", None)
    if factory is not None and isinstance(default, factory):
        return _REQUIRED if default.takes_self else default.factory
    if type(default).__name__ == "_Nothing":
        return _REQUIRED if field.init else _OPTIONAL
    return lambda: default


def _pydantic_default(field: Any) -> Any:
    if field.is_required():
        return _REQUIRED
    return lambda: field.get_default(call_default_factory=True)


def form_of(cls: Any) -> Form:
    """How objects of *cls* can be stored. Raises ValueError with the reason if not."""
    if not isinstance(cls, type):
        raise ValueError("it is no class")  # noqa: TRY004
    if issubclass(cls, Request):
        raise ValueError("it is a Request: see FRONTIER_REQUEST_CLASSES")  # noqa: TRY004
    if issubclass(cls, (Crawler, Response, Spider)):
        raise ValueError("it belongs to the running process")  # noqa: TRY004
    if cls.__module__ == "builtins":
        raise ValueError("it is a builtin type")
    if issubclass(cls, Enum):
        if not cls.__members__:
            raise ValueError("it has no members")
        return _EnumForm(cls)
    if issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        return _NamedTupleForm(cls)
    try:
        if issubclass(cls, Counter) or any(issubclass(cls, n) for n, _, _ in _NATIVES):
            return _NativeForm(cls)
        return _ObjectForm(cls)
    except TypeError as e:
        raise ValueError(f"its objects cannot be taken apart: {e}") from None
