"""The attributes of objects, whatever holds them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from types import (
    FunctionType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
from typing import Any

from scrapy_dist.exceptions import BadPayload, Unserializable

#: Where pydantic keeps the state of a model, beside ``__dict__``.
PYDANTIC_SLOTS = {
    "__pydantic_fields_set__": (set,),
    "__pydantic_extra__": (dict, type(None)),
    "__pydantic_private__": (dict, type(None)),
}
#: What typing leaves on objects of generic classes; nothing of the object depends on it.
_NOT_STATE = "__orig_class__"
#: What an attribute of an object may not hide.
_CODE = (
    FunctionType,
    MethodDescriptorType,
    WrapperDescriptorType,
    classmethod,
    staticmethod,
)


class Attributes:
    """The attributes of objects of *cls*, those in ``__slots__`` too.

    *skip* are names that are somebody else's.
    """

    def __init__(self, cls: type, skip: Iterable[str] = ()) -> None:
        self._cls = cls
        self._skip = {_NOT_STATE, *skip}
        self._has_dict = cls.__dictoffset__ != 0
        self._slots: dict[str, MemberDescriptorType] = {}
        self._hidden: set[str] = set()
        for base in reversed(cls.__mro__[:-1]):
            for name, value in vars(base).items():
                self._hidden.discard(name)
                if isinstance(value, MemberDescriptorType):
                    self._slots[name] = value
                elif _is_descriptor(value) or isinstance(value, _CODE):
                    self._hidden.add(name)

    def __bool__(self) -> bool:
        """Whether objects of this class can have any."""
        return self._has_dict or bool(self._slots)

    def allow(self, names: Iterable[str]) -> None:
        """Fields of the class, which may have the names of its methods."""
        static = inspect.getattr_static
        self._hidden -= {
            n for n in names if not _is_descriptor(static(self._cls, n, None))
        }

    def take(self, obj: Any) -> dict[str, Any]:
        """The attributes of *obj*. Raises Unserializable."""
        found: dict[str, Any] = {}
        if self._has_dict:
            found.update(object.__getattribute__(obj, "__dict__"))
        for name, slot in self._slots.items():
            try:
                found[name] = slot.__get__(obj)
            except AttributeError:
                continue
        found = {k: v for k, v in found.items() if k not in self._skip}
        for name in found:
            why = self._why_not(name)
            if why:
                raise Unserializable(why)
        return found

    def set(self, obj: Any, state: Any) -> None:
        """Give *obj* the attributes in *state*. Raises BadPayload."""
        if type(state) is not dict:
            raise BadPayload(f"a {self._cls.__name__} has no attributes in it")
        own = {}
        for name, value in state.items():
            why = self._why_not(name)
            if why:
                raise BadPayload(why)
            if name in self._slots:
                self._slots[name].__set__(obj, value)
            else:
                own[name] = value
        if own:
            object.__getattribute__(obj, "__dict__").update(own)

    def _why_not(self, name: Any) -> str:
        which = f"{self._cls.__name__} can have no attribute {str(name)[:80]!r}"
        if type(name) is not str:
            return f"{which}: it is no text"
        if name in self._skip or (name.startswith("__") and name.endswith("__")):
            return "" if name in self._slots and name in PYDANTIC_SLOTS else which
        if name in self._slots:
            return ""
        if not self._has_dict:
            return which
        return f"{which}: its class has a method of that name" * (name in self._hidden)


def _is_descriptor(value: Any) -> bool:
    kind = type(value)
    return hasattr(kind, "__set__") or hasattr(kind, "__delete__")
